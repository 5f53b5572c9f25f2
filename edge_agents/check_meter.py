"""What `openlab-agent check` finds at a meter: whether it answers, how that reads, how it is wired and set.

Called by `check` alone; asks through the instrument's own driver, as the agent would.
"""

import time
from collections.abc import Iterator

from edge_agents.desired import Desired
from edge_agents.detector import BILLABLE_PERIOD_MS, DetectorProfile
from edge_agents.drivers import build_driver
from edge_agents.drivers.base import BadDriverSetting, Driver, DriverContext, Quality, Reading
from edge_agents.drivers.modbus import ModbusDriver
from edge_agents.drivers.modbus_line import LineDown, NoAnswer, Refused
from edge_agents.drivers.modbus_map import Commissioning
from edge_agents.findings import Finding, Grade
from edge_agents.settings import InstrumentSettings
from wire.clock import Clock

METER_WAIT_S = 3.0
NO_VOLTAGE_V = 50.0


def look_at(instrument: InstrumentSettings, clock: Clock, desired: Desired | None) -> Iterator[Finding]:
    """Ask the meter of one instrument and say how that reads, by the profile in force; takes some seconds.

    `desired` is the county's configuration, None where it cannot be read.
    """
    about = f"meter {instrument.id}"
    try:
        driver = build_driver(
            instrument.driver, DriverContext(instrument.id, clock, instrument.period_ms, instrument.params)
        )
    except BadDriverSetting as error:
        yield Finding(about, Grade.WRONG, str(error))
        return
    try:
        reading = _first_reading(driver, clock)
        if reading is None:
            yield Finding(about, Grade.WRONG, _silence(driver, instrument))
            return
        of_file = instrument.detector_profile()
        of_county = None if desired is None else desired.profile(instrument.id)
        profile = of_county or of_file
        power = reading.power_w or 0.0
        reads_as = "running" if power > profile.on_w else "standby" if power > profile.standby_w else "off"
        energy = "" if reading.energy_wh is None else f", register {reading.energy_wh / 1000:.2f} kWh"
        yield Finding(about, Grade.OK, f"shows {power:.1f} W{energy}; that reads as {reads_as}")
        yield Finding(about, Grade.OK, _in_force(of_file, of_county, 0 if desired is None else desired.version))
        if isinstance(driver, ModbusDriver):
            if driver.energy_refused is not None:
                sentence = f"{driver.energy_refused}: power is read without energy, so no pause of the agent is bridged"
                yield Finding(about, Grade.WARNING, sentence)
            yield from _commissioned(about, driver, instrument)
        if profile.narrow:
            yield Finding(about, Grade.WARNING, "idle and running lie close together; a vendor interface is better")
    finally:
        driver.close()
    if driver.period_ms > BILLABLE_PERIOD_MS:
        sentence = f"one reading in {driver.period_ms / 1000:g} s is not billable: use 5 s or less"
        yield Finding(about, Grade.WRONG, sentence)


def _in_force(of_file: DetectorProfile, of_county: DetectorProfile | None, version: int) -> str:
    if of_county is None:
        return f"its profile is that of the settings file: {_words(of_file)}"
    other = (
        "the settings file says the same"
        if of_county.sha256 == of_file.sha256
        else f"that of the settings file ({_words(of_file)}) is not used"
    )
    return f"its profile is that of the county's configuration, version {version}: {_words(of_county)}; {other}"


def _words(profile: DetectorProfile) -> str:
    return f"running above {profile.on_w:g} W, over below {profile.off_w:g} W"


def _first_reading(driver: Driver, clock: Clock) -> Reading | None:
    """Ask as the agent would, until there is a good reading or the patience is over."""
    deadline = time.monotonic() + max(METER_WAIT_S, 2.5 * driver.period_ms / 1000 / clock.speed)
    due = clock.mono_ms()
    while time.monotonic() < deadline:
        if due <= clock.mono_ms():
            reading = driver.read(due)
            if reading.quality is Quality.GOOD and reading.power_w is not None:
                return reading
            due = driver.next_due(max(due, reading.mono_ms))
        time.sleep(0.05)
    return None


def _silence(driver: Driver, instrument: InstrumentSettings) -> str:
    if not isinstance(driver, ModbusDriver):
        return f"no reading came from the driver {instrument.driver!r}"
    try:
        driver.commissioning()
    except NoAnswer as error:
        if isinstance(error, Refused) and error.not_known:
            return f"{error}: the meter answers, so the line is good, but it has no such register: wrong register map"
        return f"{error}: check unit number, baud rate, parity, and A and B of the line"
    except LineDown as error:
        return f"{error}: is the agent running and holding the port (systemctl stop openlab-agent), is it plugged in?"
    return "it answers now, but not when it was asked before: the line is disturbed"


def _commissioned(about: str, driver: ModbusDriver, instrument: InstrumentSettings) -> Iterator[Finding]:
    try:
        found = driver.commissioning()
    except (NoAnswer, LineDown) as error:
        yield Finding(about, Grade.WRONG, f"the commissioning check could not be made: {error}")
        return
    yield _agreement(about, found)
    for name, what, on_meter in (("ct_ratio", "current", found.ct_set), ("pt_ratio", "voltage", found.pt_set)):
        ratio = float(instrument.params.get(name, 1))
        if on_meter is not None and on_meter != ratio:
            sentence = f"the meter is set to a {what} ratio of {on_meter:g}, the settings say {ratio:g}: which is it?"
            yield Finding(about, Grade.WARNING, sentence)


def _agreement(about: str, found: Commissioning) -> Finding:
    shown = " / ".join(f"{v:.0f} V {a:.2f} A" for v, a in zip(found.volts, found.amperes, strict=True))
    both = f"power {found.power_w:.1f} W, sum of V x I x PF {found.computed_w:.1f} W ({shown})"
    if not found.volts:
        return Finding(about, Grade.WARNING, "its register map names no voltages: P = sum of V x I x PF is unchecked")
    backward = " and ".join(f"phase {n} (power factor {found.power_factors[n - 1]:g})" for n in found.backward_phases)
    if not found.fits:
        hint = "wrong map, word order, ratio, or a current transformer that is missing or the wrong way round"
        hint += f"; {backward} is negative" if backward else ""
        return Finding(about, Grade.WRONG, f"{both} differ by more than 5 %: {hint}")
    if backward:
        hint = f"{backward} counts backwards, its current transformer is the wrong way round: the sum is too small"
        return Finding(about, Grade.WRONG, f"{both} agree, but {hint}")
    if found.power_w < -5:
        return Finding(about, Grade.WRONG, f"{both}: it is negative, a current transformer is the wrong way round")
    if max(found.volts) < NO_VOLTAGE_V:
        hint = f"no phase shows {NO_VOLTAGE_V:g} V: wrong register map, or nothing is connected to its voltage inputs"
        return Finding(about, Grade.WARNING, f"{both}: {hint}")
    if not found.is_loaded:
        hint = "this proves nothing without load; check again while the instrument runs"
        return Finding(about, Grade.WARNING, f"{both}: {hint}")
    return Finding(about, Grade.OK, f"{both} agree")
