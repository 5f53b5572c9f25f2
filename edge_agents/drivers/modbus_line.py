"""One Modbus line (a serial port or a TCP connection) and the units on it: a thread of its own asks them in turn.

Why a thread: the agent has one stepping thread for all its instruments, and a silent meter would hold it for a
timeout at each poll. Why one a line and not one a meter: a line carries one question at a time, and a serial port
can be opened once. A silent unit is left in quarantine and asked every 30 s, so that its neighbours lose 1 % of the
line, not a third. Timeouts and pauses follow the machine's own time.
"""

import importlib.util
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import structlog

from edge_agents.drivers.base import BadDriverSetting
from edge_agents.drivers.modbus_map import Ask

if TYPE_CHECKING:
    from pymodbus.client import ModbusSerialClient, ModbusTcpClient

log = structlog.get_logger(__name__)

SILENT_AFTER = 3
QUARANTINE_S = 30.0
RECONNECT_S = (0.5, 30.0)
_HUSH_S = 0.05


_NOT_KNOWN = (1, 2, 3)
"""Exceptions of a meter that does not have what was asked for: illegal function, address, value."""
_NOBODY_THERE = (10, 11)
"""Exceptions in which a network converter says that the unit behind it was silent."""

Place = tuple[str, str, int]
"""What can be opened only once: kind, host or real path, and port."""


class NoAnswer(Exception):
    """The unit did not answer, or not with what was asked for; the message says which."""


class Refused(NoAnswer):
    """The unit answered that it does not tell this register. `not_known`: it does not have it at all, so it is there,
    its line is good, and the map is another meter's."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.not_known = code in _NOT_KNOWN


class LineDown(Exception):
    """The line itself cannot be used: port gone, connection refused or lost."""


@dataclass(frozen=True)
class LineAddress:
    """Where a line is. `kind` is tcp, rtu_tcp (RTU frames over TCP) or rtu (a serial port)."""

    kind: str
    target: str
    port: int = 502
    baudrate: int = 9600
    parity: str = "N"
    stopbits: int = 1
    timeout_s: float = 0.3
    retries: int = 0

    @property
    def place(self) -> Place:
        """What can be opened only once, by whatever name."""
        return (self.kind, os.path.realpath(self.target) if self.kind == "rtu" else self.target.lower(), self.port)

    @property
    def manners(self) -> tuple[object, ...]:
        """What all units of one line have to agree on."""
        return (self.baudrate, self.parity, self.stopbits, self.timeout_s, self.retries)

    def __str__(self) -> str:
        if self.kind == "rtu":
            return f"{self.target} ({self.baudrate} 8{self.parity}{self.stopbits})"
        return f"{self.target}:{self.port}"


class Polled(Protocol):
    """A unit on a line. Its methods are called on the line's thread and must return quickly."""

    unit: int
    every_s: float

    def poll(self, ask: Ask) -> None:
        """Ask for what is wanted and keep it. What `ask` raises goes through."""
        ...

    def unanswered(self, reason: str) -> None:
        """The unit, or its line, did not answer."""
        ...


class _Seat:
    """One unit's place in the round."""

    def __init__(self, polled: Polled) -> None:
        self.polled = polled
        self.due = time.monotonic()
        self.failures = 0


class Line:
    """Opens itself when the first unit joins and ends when the last one leaves. Safe to use from any thread."""

    def __init__(self, address: LineAddress) -> None:
        self.address = address
        self._seats: list[_Seat] = []
        self._changed = threading.Condition()
        self._talking = threading.RLock()
        self._thread: threading.Thread | None = None
        self._client: ModbusTcpClient | ModbusSerialClient | None = None
        self._pause_s = RECONNECT_S[0]
        self._connect_at = 0.0
        self._down = False

    def join(self, polled: Polled) -> None:
        """Begin to poll a unit."""
        with self._changed:
            self._seats.append(_Seat(polled))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=f"modbus {self.address}", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def leave(self, polled: Polled) -> bool:
        """Stop polling a unit; whether it was the last one and the line is closed now."""
        with self._changed:
            self._seats = [seat for seat in self._seats if seat.polled is not polled]
            if self._seats:
                return False
            thread, self._thread = self._thread, None
            self._changed.notify_all()
        if thread is not None and thread is not threading.current_thread():
            thread.join(5 + 4 * self.address.timeout_s)
        return True

    def talk(self, unit: int, conversation: Callable[[Ask], None]) -> None:
        """Let the caller's thread ask a unit between two polls. Raises NoAnswer or LineDown."""
        with self._talking:
            self._connect(now=time.monotonic(), patient=True)
            conversation(self._asker(unit))

    def _run(self) -> None:
        me = threading.current_thread()
        try:
            while True:
                with self._changed:
                    if self._thread is not me:
                        return
                    seat = min(self._seats, key=lambda one: one.due)
                    wait = seat.due - time.monotonic()
                    if wait > 0:
                        self._changed.wait(wait)
                        continue
                with self._talking:
                    self._serve(seat)
        except Exception:
            # Readings stop, so every meter of this line turns stale: that is told, and must not go unexplained.
            log.exception("the thread of a meter line ended", line=str(self.address))
            raise
        finally:
            with self._talking:
                self._hang_up()

    def _serve(self, seat: _Seat) -> None:
        polled = seat.polled
        try:
            self._connect(time.monotonic())
            polled.poll(self._asker(polled.unit))
        except LineDown as error:
            # Nobody's fault on this line: all wait for it together, and start afresh when it is back.
            seat.due = max(self._connect_at, time.monotonic() + _HUSH_S)
            seat.failures = 0
            polled.unanswered(str(error))
            return
        except NoAnswer as error:
            seat.failures += 1
            silent = seat.failures >= SILENT_AFTER
            if seat.failures == SILENT_AFTER:
                log.warning("a meter is silent", line=str(self.address), unit=polled.unit, reason=str(error))
            seat.due = time.monotonic() + (QUARANTINE_S if silent else polled.every_s)
            polled.unanswered(str(error))
            return
        if seat.failures >= SILENT_AFTER:
            log.info("a silent meter answers again", line=str(self.address), unit=polled.unit)
        seat.failures = 0
        # On a grid, so that a slow answer does not shift the next; what was missed is not made up.
        late = max(0.0, time.monotonic() - seat.due)
        seat.due += polled.every_s * (1 + late // polled.every_s)

    def _connect(self, now: float, *, patient: bool = False) -> None:
        if self._client is not None:
            return
        if now < self._connect_at and not patient:
            raise LineDown(f"{self.address} is down")
        client = _open_client(self.address)
        if not client.connect():
            client.close()
            # Full jitter above half, so that many agents do not come back to one gateway at once.
            self._connect_at = time.monotonic() + self._pause_s * random.uniform(0.5, 1.0)
            self._pause_s = min(2 * self._pause_s, RECONNECT_S[1])
            if not self._down:
                log.warning("a meter line cannot be opened", line=str(self.address))
            self._down = True
            raise LineDown(f"{self.address} cannot be opened")
        if self._down:
            log.info("a meter line is back", line=str(self.address))
        self._client, self._down = client, False

    def _hang_up(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def _asker(self, unit: int) -> Ask:
        from pymodbus.exceptions import ConnectionException, ModbusException

        def ask(function: int, address: int, count: int) -> Sequence[int]:
            client = self._client
            if client is None:
                raise LineDown(f"{self.address} is down")
            read = client.read_input_registers if function == 4 else client.read_holding_registers
            try:
                answer = read(address, count=count, device_id=unit)
            except (ConnectionException, OSError) as error:
                self._lost()
                raise LineDown(f"{self.address}: {error}") from None
            except ModbusException as error:
                self._after_silence()
                raise NoAnswer(f"unit {unit} does not answer: {error}") from None
            if answer.isError():
                self._pause_s = RECONNECT_S[0]
                code = answer.exception_code
                if code in _NOBODY_THERE:
                    raise NoAnswer(f"unit {unit} does not answer the converter: exception {code}")
                raise Refused(f"unit {unit} refuses register {address:#06x}: exception {code}", code)
            if len(answer.registers) != count:
                self._after_silence()
                raise NoAnswer(f"unit {unit} sent {len(answer.registers)} registers instead of {count}")
            self._pause_s = RECONNECT_S[0]
            return list(answer.registers)

        return ask

    def _lost(self) -> None:
        """The connection broke. Who accepts it and closes it at once must not be called in a loop either."""
        self._hang_up()
        self._connect_at = time.monotonic() + self._pause_s * random.uniform(0.5, 1.0)
        self._pause_s = min(2 * self._pause_s, RECONNECT_S[1])

    def _after_silence(self) -> None:
        """An answer that comes too late must not be taken for the answer to the next question."""
        if self.address.kind == "rtu":
            time.sleep(_HUSH_S)
        else:
            self._hang_up()


_lines: dict[Place, Line] = {}
_guard = threading.Lock()


def join_line(address: LineAddress, polled: Polled) -> Line:
    """Join the one line of this process at `address`, opening it for the first unit: that one's manners count.

    A port opens once, so a second line there would be down for ever; settings that differ are refused when read.
    """
    with _guard:
        line = _lines.setdefault(address.place, Line(address))
        if line.address.manners != address.manners:
            log.error("a meter asks for other settings than those its line has", line=str(line.address))
        line.join(polled)
        return line


def leave_line(line: Line, polled: Polled) -> None:
    """Leave a line; the last one out closes it. Harmless when repeated."""
    with _guard:
        if line.leave(polled):
            _lines.pop(line.address.place, None)


def require_library(kind: str) -> None:
    """Raise BadDriverSetting, naming the extra, where a library for this kind of line is not installed."""
    for module in ("pymodbus", "serial") if kind == "rtu" else ("pymodbus",):
        if importlib.util.find_spec(module) is None:
            library = "pyserial" if module == "serial" else module
            raise BadDriverSetting(f"the modbus driver needs {library}: pip install 'openlab[edge]'")


def _open_client(address: LineAddress) -> "ModbusTcpClient | ModbusSerialClient":
    from pymodbus import FramerType
    from pymodbus.client import ModbusSerialClient, ModbusTcpClient

    # It reports every timeout as an error; what matters of that is logged here.
    logging.getLogger("pymodbus.logging").setLevel(logging.CRITICAL)
    if address.kind == "rtu":
        return ModbusSerialClient(
            address.target,
            baudrate=address.baudrate,
            parity=address.parity,
            stopbits=address.stopbits,
            timeout=address.timeout_s,
            retries=address.retries,
        )
    return ModbusTcpClient(
        address.target,
        port=address.port,
        framer=FramerType.SOCKET if address.kind == "tcp" else FramerType.RTU,
        timeout=address.timeout_s,
        retries=address.retries,
    )
