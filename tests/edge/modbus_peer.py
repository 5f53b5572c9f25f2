"""A Modbus peer for the tests: the library's own server in a process that can be killed, with the registers it is told.

python -m tests.edge.modbus_peer '{"tcp": 5020, "units": {"1": {"52": [17530, 16384]}}}'

A unit that is not listed is silent, as on a real line (by itself the library's server would answer for it).
"""

import asyncio
import json
import os
import select
import struct
import subprocess
import sys
import threading
import tty
from pathlib import Path
from typing import Any

from pymodbus import FramerType
from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from tests.support.brokers import WITH_THIS_PROCESS
from tests.support.ports import free_port
from tests.support.waiting import wait_until

Registers = dict[int, list[int]]


def words(kind: str, value: float) -> list[int]:
    """The registers of one value, high word first. `kind` is a struct format such as 'f', 'i' or 'H'."""
    raw = struct.pack(f">{kind}", value if kind == "f" else round(value))
    return list(struct.unpack(f">{len(raw) // 2}H", raw))


def sdm630(power_w: float, *, amperes: float = 2.0, wh: float = 123_450.0, swap: bool = False) -> Registers:
    """An SDM630 with 230 V on three phases whose power factor makes `power_w`."""
    values = {0x34: power_w, 0x156: wh / 1000}
    for phase in range(3):
        values |= {2 * phase: 230.0, 6 + 2 * phase: amperes, 0x1E + 2 * phase: power_w / (3 * 230 * amperes)}
    return {at: words("f", value)[:: -1 if swap else 1] for at, value in values.items()}


def dtsd1352(secondary_w: float, *, ct: int = 40) -> Registers:
    """A DTSD1352 behind current transformers: everything it says is of the secondary side."""
    registers = {0x16A: words("i", secondary_w), 0x0A: words("I", 500), 0x8D: [1], 0x8E: [ct]}
    for phase in range(3):
        registers |= {0x61 + phase: [2300], 0x64 + phase: [200], 0x17C + phase: words("h", secondary_w / 1380 * 1000)}
    return registers


class Peer:
    """The server as a process. `port` for TCP, or `serial` for the path of a port."""

    def __init__(self, units: dict[int, Registers], *, serial: str | None = None, rtu_over_tcp: bool = False) -> None:
        self.port = 0 if serial else free_port()
        self._fields: dict[str, Any] = {"tcp": self.port, "serial": serial, "rtu_over_tcp": rtu_over_tcp}
        self._process: subprocess.Popen[str] | None = None
        self.start(units)

    def start(self, units: dict[int, Registers]) -> None:
        told = json.dumps({**self._fields, "units": units})
        command = [*WITH_THIS_PROCESS, sys.executable, "-m", "tests.edge.modbus_peer", told]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


class SerialCable:
    """Two serial ports and the wire between them: what is written to one can be read from the other."""

    def __init__(self) -> None:
        masters, slaves = zip(*(os.openpty() for _ in range(2)), strict=True)
        for slave in slaves:
            tty.setraw(slave)
        self._masters, self._slaves = masters, slaves
        self.here, self.there = (os.ttyname(slave) for slave in slaves)
        self.bytes_sent = 0
        self._stop_read, self._stop_write = os.pipe()
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self._thread.start()

    def _carry(self) -> None:
        other = dict(zip(self._masters, reversed(self._masters), strict=True))
        while True:
            ready, _, _ = select.select([*self._masters, self._stop_read], [], [])
            if self._stop_read in ready:
                return
            for master in ready:
                data = os.read(master, 1024)
                self.bytes_sent += len(data)
                os.write(other[master], data)

    def close(self) -> None:
        os.write(self._stop_write, b"x")
        self._thread.join(5)
        for descriptor in (*self._masters, *self._slaves, self._stop_read, self._stop_write):
            os.close(descriptor)


async def _serve(fields: dict[str, Any]) -> None:
    devices = [
        SimDevice(
            int(unit),
            [SimData(int(at), values=values, datatype=DataType.REGISTERS) for at, values in sorted_by_int(registers)],
        )
        for unit, registers in fields["units"].items()
    ]
    if fields["serial"]:
        server: ModbusSerialServer | ModbusTcpServer = ModbusSerialServer(
            devices, port=fields["serial"], baudrate=9600, ignore_missing_devices=True
        )
    else:
        framer = FramerType.RTU if fields["rtu_over_tcp"] else FramerType.SOCKET
        address = ("127.0.0.1", fields["tcp"])
        server = ModbusTcpServer(devices, address=address, framer=framer, ignore_missing_devices=True)
    await server.serve_forever(background=True)
    print("ready", flush=True)
    await server.serving


def sorted_by_int(registers: dict[str, list[int]]) -> list[tuple[int, list[int]]]:
    return sorted((int(at), values) for at, values in registers.items())


def wait_for_reading(driver: Any, wanted: Any, what: str, timeout_s: float = 20.0) -> Any:
    """Read, as the agent would, until a reading is `wanted`."""

    def found() -> Any:
        reading = driver.read(driver.next_due(0))
        return reading if wanted(reading) else None

    return wait_until(found, what, timeout_s)


if __name__ == "__main__":
    asyncio.run(_serve(json.loads(sys.argv[1])))
