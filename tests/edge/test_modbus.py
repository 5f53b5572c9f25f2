"""The Modbus driver against the library's own server: TCP, RTU over a pty pair, RTU over TCP, and what goes wrong."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import structlog

from edge_agents.drivers import build_driver
from edge_agents.drivers.base import BadDriverSetting, DriverContext, Quality, Reading
from edge_agents.drivers.modbus import ModbusDriver, parsed
from edge_agents.drivers.modbus_line import NoAnswer, Refused
from edge_agents.session_state import Labels
from edge_agents.watch import Watch, Watched
from tests.edge.making import A_PROFILE
from tests.edge.modbus_peer import Peer, Registers, SerialCable, dtsd1352, sdm630, wait_for_reading
from tests.support.ports import free_port
from tests.support.waiting import wait_until
from wire.clock import SystemClock
from wire.ids import new_ulid
from wire.messages import ClockQuality

CLOCK = SystemClock()
Drive = Callable[..., ModbusDriver]


@pytest.fixture
def drive() -> Iterator[Drive]:
    """Builds drivers that are closed at the end."""
    built: list[ModbusDriver] = []

    def build(*, period_ms: int = 100, **params: Any) -> ModbusDriver:
        driver = build_driver("modbus", DriverContext("xc-h01-01", CLOCK, period_ms, params))
        assert isinstance(driver, ModbusDriver)
        built.append(driver)
        return driver

    yield build
    for driver in built:
        driver.close()
        driver.close()
    assert not [t.name for t in threading.enumerate() if t.name.startswith("modbus ")]


@pytest.fixture
def peer() -> Iterator[Callable[..., Peer]]:
    started: list[Peer] = []

    def start(units: dict[int, Registers], **how: Any) -> Peer:
        started.append(Peer(units, **how))
        return started[-1]

    yield start
    for one in started:
        one.kill()


def is_good(reading: Reading) -> bool:
    return reading.quality is Quality.GOOD


def is_stale(reading: Reading) -> bool:
    return reading.quality is Quality.STALE


def test_power_and_energy_are_read_over_tcp(peer: Callable[..., Peer], drive: Drive) -> None:
    port = peer({7: sdm630(1380.0, wh=123_450)}).port
    before = CLOCK.mono_ms()
    reading = wait_for_reading(drive(map="sdm630", tcp=f"127.0.0.1:{port}", unit=7), is_good, "a reading")
    assert reading.power_w == pytest.approx(1380)
    assert reading.energy_wh == pytest.approx(123_450, abs=0.1)
    assert before <= reading.mono_ms <= CLOCK.mono_ms()


def test_power_is_read_over_a_serial_line(peer: Callable[..., Peer], drive: Drive) -> None:
    cable = SerialCable()
    try:
        peer({3: sdm630(690.0), 4: sdm630(345.0)}, serial=cable.there)
        third, fourth = (drive(map="sdm630", rtu=cable.here, unit=unit) for unit in (3, 4))
        assert wait_for_reading(third, is_good, "unit 3").power_w == pytest.approx(690)
        assert wait_for_reading(fourth, is_good, "unit 4").power_w == pytest.approx(345)
        third.close()
        fourth.close()
    finally:
        cable.close()


def test_power_is_read_as_rtu_over_tcp(peer: Callable[..., Peer], drive: Drive) -> None:
    port = peer({2: sdm630(690.0)}, rtu_over_tcp=True).port
    driver = drive(map="sdm630", rtu_tcp=f"127.0.0.1:{port}", unit=2)
    assert wait_for_reading(driver, is_good, "a reading").power_w == pytest.approx(690)


def test_what_else_it_shows_comes_in_turn_and_never_costs_the_power(peer: Callable[..., Peer], drive: Drive) -> None:
    """This peer has no register for the frequency: it refuses the question, as a meter of an older make does."""
    port = peer({1: sdm630(1380.0)}).port
    driver = drive(map="sdm630", tcp=f"127.0.0.1:{port}", period_ms=50, extra_s=0.01)
    seen: dict[str, float] = {}
    qualities: set[Quality] = set()

    def all_seen(reading: Reading) -> bool:
        qualities.add(reading.quality)
        assert len(reading.extra) <= 1
        seen.update(reading.extra)
        return len(seen) == 9 and "hertz" not in driver._further

    wait_for_reading(driver, all_seen, "three values a phase")
    assert seen == {
        f"{name}_l{n}": pytest.approx(value)
        for name, value in (("volts", 230.0), ("amperes", 2.0), ("power_factor", 1.0))
        for n in (1, 2, 3)
    }
    quiet = drive(map="sdm630", tcp=f"127.0.0.1:{port}", period_ms=50, extra_s=0)
    assert wait_for_reading(quiet, is_good, "a reading").extra == {}


def test_readings_come_at_the_period_and_each_is_given_out_once(peer: Callable[..., Peer], drive: Drive) -> None:
    port = peer({1: sdm630(100.0)}).port
    driver = drive(map="sdm630", tcp=f"127.0.0.1:{port}", period_ms=100)
    seen: list[Reading] = []

    def one_more(reading: Reading) -> bool:
        if is_good(reading) and (not seen or reading.mono_ms > seen[-1].mono_ms):
            seen.append(reading)
        return len(seen) >= 12

    wait_for_reading(driver, one_more, "a dozen readings")
    took = seen[-1].mono_ms - seen[0].mono_ms
    assert 900 <= took <= 6_000
    # The energy register is asked for now and then only: lines are slow.
    assert sum(reading.energy_wh is not None for reading in seen) == 1


def test_readings_that_were_not_fetched_in_time_are_not_lost(peer: Callable[..., Peer], drive: Drive) -> None:
    port = peer({1: sdm630(100.0)}).port
    driver = drive(map="sdm630", tcp=f"127.0.0.1:{port}", period_ms=50)
    first = wait_for_reading(driver, is_good, "a reading")
    waited_until = CLOCK.mono_ms() + 600
    wait_until(lambda: CLOCK.mono_ms() > waited_until, "some unfetched readings")
    caught_up: list[Reading] = []
    due = waited_until
    while (due := driver.next_due(due)) == waited_until + 1 + len(caught_up):
        caught_up.append(driver.read(due))
    assert len(caught_up) >= 6
    assert [r.mono_ms for r in caught_up] == sorted({r.mono_ms for r in caught_up})
    assert caught_up[0].mono_ms > first.mono_ms


def test_an_agent_gets_each_answer_once_and_the_next_one_when_it_is_due(
    peer: Callable[..., Peer], drive: Drive
) -> None:
    port = peer({1: sdm630(100.0)}).port
    watch = Watch(Watched("xc-h01-01", drive(map="sdm630", tcp=f"127.0.0.1:{port}", period_ms=200), A_PROFILE))
    labels = Labels(CLOCK.boot, 0, ClockQuality.NTP)
    stream = new_ulid()
    watch.begin(None, labels, CLOCK.mono_ms(), stream, 1)
    taken: list[int] = []
    began_ms = CLOCK.mono_ms()

    def stepped() -> bool:
        while watch.due_ms <= CLOCK.mono_ms():
            watch.take(watch.read(), labels, stream, 1)
            if watch.newest is not None:
                taken.append(watch.newest.mono_ms)
                watch.batch = watch.batch.with_sample(watch.newest)
        return len(watch.batch.samples) >= 15

    wait_until(stepped, "fifteen samples")
    times = [sample.mono_ms for sample in watch.batch.samples]
    assert times == sorted(set(times))
    # A read that finds nothing new waits a whole period; only a new answer can move the next read closer.
    assert len(taken) <= len(times) + (CLOCK.mono_ms() - began_ms) // 200 + 2


@pytest.mark.parametrize("swap", [False, True])
def test_the_word_order_of_the_meter_can_be_said(peer: Callable[..., Peer], drive: Drive, swap: bool) -> None:
    port = peer({1: sdm630(1380.0, swap=swap)}).port
    order = "little" if swap else "big"
    driver = drive(map="sdm630", tcp=f"127.0.0.1:{port}", word_order=order)
    assert wait_for_reading(driver, is_good, "a reading").power_w == pytest.approx(1380)
    assert driver.commissioning().fits


def test_the_wrong_word_order_is_found_at_commissioning(peer: Callable[..., Peer], drive: Drive) -> None:
    port = peer({1: sdm630(1380.0)}).port
    found = drive(map="sdm630", tcp=f"127.0.0.1:{port}", word_order="little").commissioning()
    assert not (found.fits and found.power_w == pytest.approx(1380, rel=0.05))


def test_the_ratio_of_the_current_transformers_is_applied(peer: Callable[..., Peer], drive: Drive) -> None:
    port = peer({1: dtsd1352(600.0, ct=40)}).port
    driver = drive(map="dtsd1352", tcp=f"127.0.0.1:{port}", ct_ratio=40)
    reading = wait_for_reading(driver, is_good, "a reading")
    assert reading.power_w == pytest.approx(24_000)
    assert reading.energy_wh == pytest.approx(500 * 10 * 40)
    found = driver.commissioning()
    assert found.fits
    assert found.ct_set == 40
    assert found.amperes == (80.0, 80.0, 80.0)


def test_a_meter_of_secondary_values_is_not_built_without_its_ratio(drive: Drive) -> None:
    with pytest.raises(BadDriverSetting, match="say ct_ratio"):
        drive(map="dtsd1352", tcp="127.0.0.1:502")


def test_a_wrong_current_transformer_phase_does_not_fit(peer: Callable[..., Peer], drive: Drive) -> None:
    registers = sdm630(1380.0)
    registers[0x0A] = [0, 0]  # the third one is not connected
    port = peer({1: registers}).port
    found = drive(map="sdm630", tcp=f"127.0.0.1:{port}").commissioning()
    assert not found.fits
    assert found.computed_w == pytest.approx(920)


def test_a_silent_unit_does_not_starve_its_neighbour(peer: Callable[..., Peer], drive: Drive) -> None:
    cable = SerialCable()
    try:
        peer({1: sdm630(345.0)}, serial=cable.there)
        silent = drive(map="sdm630", rtu=cable.here, unit=9)
        healthy = drive(map="sdm630", rtu=cable.here, unit=1)
        wait_for_reading(silent, is_stale, "silence")
        seen: list[int] = []

        def one_more(reading: Reading) -> bool:
            silent.read(0)
            if is_good(reading) and reading.mono_ms not in seen:
                seen.append(reading.mono_ms)
            return len(seen) >= 40

        wait_for_reading(healthy, one_more, "forty readings of the neighbour")
        gaps = [b - a for a, b in pairwise(seen)]
        # Until it is in quarantine the silent one costs a timeout at a time, and then nothing.
        assert max(gaps) < 2_000
        assert sorted(gaps)[len(gaps) // 2] < 300
        assert is_stale(silent.read(0))
        silent.close()
        healthy.close()
    finally:
        cable.close()


def test_a_silent_meter_never_holds_the_reader_up(drive: Drive) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        driver = drive(map="sdm630", tcp=f"127.0.0.1:{listening.getsockname()[1]}")
        wait_for_reading(driver, is_stale, "silence")
        began = time.monotonic()
        for _ in range(50):
            assert is_stale(driver.read(0))
        assert time.monotonic() - began < 2


def test_a_server_that_is_killed_and_started_again_is_found_again(peer: Callable[..., Peer], drive: Drive) -> None:
    server = peer({1: sdm630(345.0)})
    driver = drive(map="sdm630", tcp=f"127.0.0.1:{server.port}")
    wait_for_reading(driver, is_good, "a reading")
    server.kill()
    wait_for_reading(driver, is_stale, "silence")
    server.start({1: sdm630(690.0)})
    after = wait_for_reading(driver, lambda r: is_good(r) and r.power_w == pytest.approx(690), "the new server")
    assert after.power_w == pytest.approx(690)
    assert after.energy_wh is not None, "behind a hole the register is asked for at once"


def test_who_accepts_and_hangs_up_is_not_called_in_a_loop(drive: Drive) -> None:
    calls: list[float] = []
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        listening.settimeout(0.1)
        driver = drive(map="sdm630", tcp=f"127.0.0.1:{listening.getsockname()[1]}", period_ms=50)
        until = time.monotonic() + 3
        while time.monotonic() < until:
            driver.read(0)
            try:
                connection, _ = listening.accept()
            except TimeoutError:
                continue
            calls.append(time.monotonic())
            connection.close()
    assert 2 <= len(calls) <= 8


def test_a_register_the_meter_does_not_have_is_no_reading(peer: Callable[..., Peer], drive: Drive) -> None:
    port = peer({1: {0: [0, 0]}}).port
    driver = drive(map="sdm630", tcp=f"127.0.0.1:{port}")
    wait_for_reading(driver, is_stale, "no reading")
    with pytest.raises(NoAnswer, match=r"unit 1 refuses register 0x0034: exception 2"):
        driver.commissioning()


@pytest.mark.parametrize(("code", "refused"), [(2, True), (6, True), (10, False), (11, False)])
def test_a_converter_that_finds_nobody_is_no_meter_that_refuses(drive: Drive, code: int, refused: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def refuse() -> None:
            connection, _ = listening.accept()
            with connection:
                while asked := connection.recv(1024):
                    connection.sendall(asked[:4] + bytes([0, 3, asked[6], asked[7] | 0x80, code]))

        serving = threading.Thread(target=refuse)
        serving.start()
        driver = drive(map="sdm120", tcp=f"127.0.0.1:{listening.getsockname()[1]}", timeout_s=3)
        with pytest.raises(NoAnswer, match=f"exception {code}") as said:
            driver.commissioning()
        driver.close()
        serving.join(60)
    assert isinstance(said.value, Refused) is refused
    assert getattr(said.value, "not_known", False) is (code == 2)


def test_a_meter_without_its_maps_energy_register_is_read_all_the_same(
    peer: Callable[..., Peer], drive: Drive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agents.drivers.modbus.ENERGY_EVERY_S", 0.0)
    registers = sdm630(1380.0)
    energy = registers.pop(0x156)
    without = peer({1: registers})
    driver = drive(map="sdm630", tcp=f"127.0.0.1:{without.port}", period_ms=50)
    assert driver.tells_energy
    read: list[Reading] = []

    def some_are_good(reading: Reading) -> bool:
        read.extend([reading] if is_good(reading) else [])
        return len(read) > 10

    with structlog.testing.capture_logs() as logged:
        wait_for_reading(driver, some_are_good, "some readings")
    assert {(reading.power_w, reading.energy_wh) for reading in read} == {(1380.0, None)}
    told = [line["reason"] for line in logged if "energy register" in line["event"]]
    assert told == [driver.energy_refused] == ["unit 1 refuses register 0x0156: exception 2"]
    assert not driver.tells_energy
    without.kill()
    without.start({1: {**registers, 0x156: energy}})
    wait_for_reading(driver, lambda reading: reading.energy_wh is not None, "the register of another meter", 60)
    assert driver.tells_energy
    assert driver.energy_refused is None


def test_a_value_that_is_no_number_is_a_fault(peer: Callable[..., Peer], drive: Drive) -> None:
    port = peer({1: {**sdm630(1.0), 0x34: [0x7FC0, 0]}}).port
    driver = drive(map="sdm630", tcp=f"127.0.0.1:{port}")
    reading = wait_for_reading(driver, lambda r: r.quality is Quality.FAULT, "a fault")
    assert reading.power_w is None


def test_the_line_is_given_back_when_the_last_unit_leaves(peer: Callable[..., Peer], drive: Drive) -> None:
    port = peer({1: sdm630(1.0), 2: sdm630(2.0)}).port
    # Whatever the second asks for: the settings of the line are those it was opened with.
    one, two = (drive(map="sdm630", tcp=f"127.0.0.1:{port}", unit=unit, timeout_s=0.3 * unit) for unit in (1, 2))
    for driver in (one, two):
        wait_for_reading(driver, is_good, "a reading")
    threads = [t for t in threading.enumerate() if t.name == f"modbus 127.0.0.1:{port}"]
    assert len(threads) == 1
    one.close()
    assert threads[0].is_alive()
    two.close()
    assert not threads[0].is_alive()


def test_one_port_is_one_line_by_whatever_name(tmp_path: Path) -> None:
    port, alias = tmp_path / "ttyUSB0", tmp_path / "meters"
    port.touch()
    alias.symlink_to(port)
    one, two = (parsed({"map": "sdm630", "rtu": str(path)}).address() for path in (port, alias))
    other = parsed({"map": "sdm630", "rtu": str(port), "baudrate": 19_200}).address()
    assert one.place == two.place == other.place
    assert one.manners == two.manners != other.manners


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"map": "sdm630"}, "give one of tcp"),
        ({"map": "sdm630", "tcp": "a:1", "rtu": "/dev/x"}, "give one of tcp"),
        ({"map": "sdm630", "tcp": "host:port"}, "is not host:port"),
        ({"map": "sdm630", "tcp": ":502"}, "is not host:port"),
        ({"map": "sdm630", "tcp": "meter..lan:502"}, "'meter..lan' is no name of a host"),
        ({"map": "sdm630", "rtu_tcp": f"{'m' * 64}.lan:4001"}, "is no name of a host"),
        ({"map": "sdm630", "tcp": "a:1", "ct_ratio": float("inf")}, "ct_ratio: "),
        ({"map": "sdm999", "tcp": "a:1"}, "no register map is called 'sdm999'; there are: dtsd1352, sdm120, sdm630"),
        ({"tcp": "a:1"}, 'needs map = "..."'),
        ({"map": "sdm630", "tcp": "a:1", "unit": 0}, "unit: "),
        ({"map": "sdm630", "tcp": "a:1", "colour": 1}, "colour: "),
        ({"map": "sdm630", "tcp": "a:1", "retries": 5}, "retries: "),
    ],
)
def test_a_wrong_setting_is_named(drive: Drive, params: dict[str, Any], message: str) -> None:
    with pytest.raises(BadDriverSetting, match=message):
        drive(**params)


def test_without_the_library_the_agent_imports_and_the_driver_says_what_to_install() -> None:
    program = (
        "import sys\n"
        "sys.modules['pymodbus'] = None\n"
        "import edge_agents.cli, importlib.util\n"
        "from edge_agents.drivers import build_driver\n"
        "from edge_agents.drivers.base import BadDriverSetting, DriverContext\n"
        "from wire.clock import SystemClock\n"
        "assert not [m for m in sys.modules if m.startswith('pymodbus.')]\n"
        "try:\n"
        "    build_driver('modbus', DriverContext('i', SystemClock(), 1000, {'map': 'sdm120', 'tcp': 'a:1'}))\n"
        "except BadDriverSetting as error:\n"
        "    assert \"pip install 'openlab[edge]'\" in str(error), error\n"
        "else:\n"
        "    raise SystemExit('was built')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_port_that_is_not_there_is_a_stale_meter(drive: Drive) -> None:
    for params in ({"tcp": f"127.0.0.1:{free_port()}"}, {"rtu": "/dev/there-is-no-such-port"}):
        driver = drive(map="sdm120", **params)
        assert is_stale(wait_for_reading(driver, is_stale, "silence"))
