"""Reads a power meter over Modbus: TCP, RTU on a serial port, or RTU over TCP.

params = { map = "sdm630", tcp = "192.0.2.7:502", unit = 1 }
params = { map = "dtsd1352", rtu = "/dev/ttyUSB0", baudrate = 9600, parity = "N", unit = 3, ct_ratio = 40 }
params = { path = "my-meter.toml", rtu_tcp = "192.0.2.8:4001", unit = 2, word_order = "little" }

`read` never waits: the line's thread asks the meter (modbus_line says why) and leaves what it answered here, with
the moment of the answer. Units on one line may belong to different instruments, of one agent or of several.
"""

import threading
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from edge_agents.drivers.base import BadDriverSetting, DriverContext, Quality, Reading, stale
from edge_agents.drivers.modbus_line import (
    Line,
    LineAddress,
    LineDown,
    NoAnswer,
    Refused,
    join_line,
    leave_line,
    require_library,
)
from edge_agents.drivers.modbus_map import Ask, Commissioning, MeterReader, Ratios, WordOrder, load_map
from wire.clock import Clock
from wire.ids import is_host_name

log = structlog.get_logger(__name__)

KEPT_READINGS = 600
ENERGY_EVERY_S = 10.0
FURTHER_TRIES = 3
LONGEST_WAIT_MS = 3_000


class ModbusParams(BaseModel):
    """The driver's own settings; exactly one of `tcp`, `rtu` and `rtu_tcp` says where the line is.

    Each `extra_s` one of the further values (voltages, currents, power factors) is asked for, in turn; 0: none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    map: str | None = None
    path: str | None = None
    unit: int = Field(1, ge=1, le=247)
    tcp: str | None = None
    rtu: str | None = None
    rtu_tcp: str | None = None
    baudrate: int = Field(9600, ge=300, le=1_000_000)
    parity: Literal["N", "E", "O"] = "N"
    stopbits: Literal[1, 2] = 1
    timeout_s: Annotated[float, Field(ge=0.05, le=3)] = 0.3
    retries: Annotated[int, Field(ge=0, le=1)] = 0
    ct_ratio: Annotated[float | None, Field(gt=0)] = None
    pt_ratio: Annotated[float, Field(gt=0)] = 1.0
    word_order: WordOrder | None = None
    extra_s: Annotated[float, Field(ge=0)] = 5.0

    @model_validator(mode="after")
    def _one_line(self) -> Self:
        if sum(x is not None for x in (self.tcp, self.rtu, self.rtu_tcp)) != 1:
            raise ValueError('give one of tcp = "host:502", rtu = "/dev/ttyUSB0" and rtu_tcp = "host:port"')
        self.address()
        return self

    def address(self) -> LineAddress:
        """Return the line. Raises ValueError for a host without a proper port."""
        common = {"timeout_s": self.timeout_s, "retries": self.retries}
        if self.rtu is not None:
            return LineAddress("rtu", self.rtu, 0, self.baudrate, self.parity, self.stopbits, **common)  # type: ignore[arg-type]
        host, colon, port = str(self.rtu_tcp if self.tcp is None else self.tcp).rpartition(":")
        if not colon:
            host, port = port, "502"
        if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
            raise ValueError(f"{host}:{port} is not host:port")
        if not is_host_name(host):
            raise ValueError(f"{host!r} is no name of a host: between two dots are 1 to 63 characters")
        return LineAddress("rtu_tcp" if self.tcp is None else "tcp", host, int(port), **common)  # type: ignore[arg-type]


class ModbusDriver:
    """One unit on a line. Joins the line at the first question, leaves it when closed."""

    name = "modbus"

    def __init__(
        self,
        address: LineAddress,
        unit: int,
        reader: MeterReader,
        clock: Clock,
        period_ms: int,
        extra_s: float = 5.0,
    ) -> None:
        self.unit = unit
        self.period_ms = period_ms
        self.every_s = period_ms / 1000
        self._address = address
        self._reader = reader
        self._clock = clock
        self._line: Line | None = None
        self._lock = threading.Lock()
        self._answers: deque[Reading] = deque(maxlen=KEPT_READINGS)
        self._last: Reading | None = None
        self._silent = False
        self._energy_at = self._further_at = -1e9
        self._energy_refused: str | None = None
        self._extra_s = extra_s
        self._further = deque(reader.further if extra_s else ())
        self._failures: dict[str, int] = {}

    def next_due(self, after_ms: int) -> int:
        """At once while answers wait to be fetched, else a little after the next one should be there."""
        if self._answers:
            return after_ms + 1
        last = self._last
        phase = 0 if last is None else last.mono_ms + min(self.period_ms // 2, 200)
        return after_ms + self.period_ms - (after_ms - phase) % self.period_ms

    def read(self, due_ms: int) -> Reading:
        """Return the oldest answer not fetched yet; none yet, the last one again; from a silent meter, `stale`."""
        if self._line is None:
            self._join()
        with self._lock:
            if self._answers:
                self._last = self._answers.popleft()
                return self._last
            now = self._clock.mono_ms()
            last = self._last
            if self._silent or last is None or now - last.mono_ms > max(3 * self.period_ms, LONGEST_WAIT_MS):
                return stale(now)
            return last

    def close(self) -> None:
        if self._line is not None:
            leave_line(self._line, self)
            self._line = None

    @property
    def tells_energy(self) -> bool:
        """Whether the meter has an energy register: its map names one, and it was not refused."""
        return self._reader.has_energy and self._energy_refused is None

    @property
    def energy_refused(self) -> str | None:
        """What the meter said when it refused the energy register of its map; None where it did not."""
        return self._energy_refused

    def commissioning(self) -> Commissioning:
        """Ask the meter what the commissioning check needs. Raises NoAnswer or LineDown. Waits for the line."""
        line = self._join()
        found: list[Commissioning] = []
        line.talk(self.unit, lambda ask: found.append(self._reader.commissioning(ask)))
        return found[0]

    def poll(self, ask: Ask) -> None:
        """Called by the line: ask for power each time, for energy now and then, because lines are slow."""
        power = self._reader.power_w(ask)
        at = self._clock.mono_ms()
        energy = None
        if time.monotonic() - self._energy_at >= ENERGY_EVERY_S:
            energy = self._next_energy(ask)
            self._energy_at = time.monotonic()
        extra = self._next_further(ask)
        quality = Quality.FAULT if power is None else Quality.GOOD
        with self._lock:
            self._silent = False
            self._answers.append(Reading(at, power, energy, quality, extra))

    def _next_energy(self, ask: Ask) -> float | None:
        """Ask for the energy register. A meter that refuses it is one without: that must not cost the power. It is
        asked for again all the same, for the meter may have been busy, or be another one by then."""
        try:
            energy = self._reader.energy_wh(ask)
        except Refused as error:
            if self._energy_refused is None:
                log.warning("a meter does not tell its energy register", unit=self.unit, reason=str(error))
            self._energy_refused = str(error)
            return None
        self._energy_refused = None
        return energy

    def _next_further(self, ask: Ask) -> dict[str, float]:
        """Ask for one further value where it is time. It must not cost the power that was read: one that does not come
        is left out, and after a few times for good, for the meter does not have it."""
        if not self._further or time.monotonic() - self._further_at < self._extra_s:
            return {}
        self._further_at = time.monotonic()
        name = self._further.popleft()
        try:
            value = self._reader.further_value(ask, name)
        except LineDown:
            value = None  # the line's fault, which the next poll finds too
        except NoAnswer as error:
            value = None
            self._failures[name] = self._failures.get(name, 0) + 1
            if self._failures[name] >= FURTHER_TRIES:
                log.warning("a meter does not tell a value", unit=self.unit, value=name, reason=str(error))
                return {}
        else:
            self._failures[name] = 0
        self._further.append(name)
        return {} if value is None else {name: value}

    def unanswered(self, reason: str) -> None:
        """Called by the line: there is no answer, at this moment."""
        with self._lock:
            self._silent = True
            self._energy_at = -1e9  # behind a hole the register is asked for at once: it says what was drawn in it
            self._answers.append(stale(self._clock.mono_ms()))

    def _join(self) -> Line:
        if self._line is None:
            self._line = join_line(self._address, self)
        return self._line


def parsed(params: Mapping[str, Any]) -> ModbusParams:
    """Return the settings. Raises BadDriverSetting with the name of the one that is wrong."""
    try:
        return ModbusParams.model_validate(dict(params))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadDriverSetting(f"params of the modbus driver: {where + ': ' if where else ''}{first['msg']}") from None


def channel_of(params: ModbusParams) -> int | None:
    """Return which of a meter's powers is read: the address of its register, where the laboratory wrote the map itself;
    None, the meter as a whole, with a map that comes with the program. Raises BadDriverSetting."""
    return None if params.path is None else load_map(params.map, Path(params.path)).power_w.address


def build(context: DriverContext) -> ModbusDriver:
    """Build from `params` as shown above. Raises BadDriverSetting, also where pymodbus is not installed."""
    params = parsed(context.params)
    require_library(params.address().kind)
    registers = load_map(params.map, None if params.path is None else Path(params.path))
    if registers.secondary and params.ct_ratio is None:
        raise BadDriverSetting(
            f"{registers.name} shows values of the secondary side: say ct_ratio = primary / secondary "
            "(40 for 200:5 A; 1 where the conductor goes through the meter)"
        )
    reader = MeterReader(registers, Ratios(params.ct_ratio or 1.0, params.pt_ratio), params.word_order)
    return ModbusDriver(params.address(), params.unit, reader, context.clock, context.period_ms, params.extra_s)
