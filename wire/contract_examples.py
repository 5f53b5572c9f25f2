"""One example of each message, for the documents of the contract. Made of the types, so that each of them is valid."""

from collections.abc import Mapping

from wire.commands import Command, Op, Refused, Reply, desired_config
from wire.messages import (
    Ack,
    AgentState,
    Birth,
    ClockQuality,
    Live,
    Message,
    Odometer,
    Power,
    PowerState,
    RecordKind,
    ServerState,
    StreamKind,
    StreamPosition,
    Telemetry,
    UsageRecord,
)

_AGENT, _INSTRUMENT, _GATEWAY = "a-h01-l1", "xc-h01-01", "gateway-1"
_USAGE, _TELEMETRY = "01KAB0ZV2X9M6Q3T4R5S7W8Y9A", "01KAB0ZV31B7C2D8E4F6G9H0JK"
_COMMAND = "01KAB1Q0S6T4V8W2X5Y7Z9A3BC"
_BOOT = "6f1d8c52-3f9a-4a55-9f0e-2b7d1c9e4a10"
_TS = "2026-11-21T01:02:03.004Z"
_PROFILE = "5f8a1d4be0c9276f3a41d7c85e9b0263f18d4c7a92e60b35d8f1a7c4092be6d3"

_MESSAGES: tuple[Message, ...] = (
    AgentState(
        online=True, cause="running", boot=_BOOT, ts=_TS, clock=ClockQuality.NTP, queued=3, dropped=0, stream=_USAGE
    ),
    Birth(
        agent=_AGENT,
        boot=_BOOT,
        ts=_TS,
        software="openlab/0.1.0",
        speaks=("lab.usage/1", "lab.telemetry/1", "lab.live/1", "lab.command/1", "lab.reply/1", "lab.config/1"),
        instruments=(_INSTRUMENT,),
        drivers={_INSTRUMENT: "modbus"},
        profiles={_INSTRUMENT: _PROFILE},
        streams=(
            StreamPosition(stream=_USAGE, kind=StreamKind.USAGE, first_kept=1, last=17),
            StreamPosition(stream=_TELEMETRY, kind=StreamKind.TELEMETRY, first_kept=40, last=52),
        ),
        config_version=3,
        capabilities={_INSTRUMENT: ("power", "energy")},
    ),
    UsageRecord(
        stream=_USAGE,
        seq=17,
        boot=_BOOT,
        kind=RecordKind.TICK,
        inst=_INSTRUMENT,
        session=f"{_INSTRUMENT}.{_USAGE}.3",
        from_ms=912_000,
        to_ms=972_000,
        state=PowerState.RUNNING,
        odo=Odometer(running=840_000, standby=72_000),
        ts=_TS,
        ts_q=ClockQuality.NTP,
        power_w=Power(avg=1498.2, min=1471.5, max=1530.0),
        energy_wh=20_412.5,
        energy_q="ok",
        samples=60,
    ),
    Telemetry(
        stream=_TELEMETRY,
        seq=52,
        boot=_BOOT,
        inst=_INSTRUMENT,
        t0_ms=969_000,
        ts=_TS,
        ts_q=ClockQuality.NTP,
        period_ms=1000,
        dt_ms=(0, 1000, 2000),
        power_w=(1490.5, 1501.0, 1498.25),
        state=(PowerState.RUNNING,) * 3,
        energy_wh=(20_411.7, 20_412.1, 20_412.5),
        extra={"volts": 231.4, "amperes": 6.62, "power_factor": 0.98},
    ),
    Live(
        inst=_INSTRUMENT,
        ts=_TS,
        power_w=1498.25,
        state=PowerState.RUNNING,
        extra={"volts": 231.4, "amperes": 6.62, "power_factor": 0.98},
    ),
    Ack(stream=_USAGE, upto=11, holes=((12, 14),)),
    Refused(stream=_USAGE, seq=17, reason="wrong_kind", text=f"stream {_USAGE} of {_AGENT} is one of telemetry"),
    Command(
        id=_COMMAND,
        op=Op.REPLAY,
        args={"stream": _USAGE, "ranges": [[12, 14]]},
        not_after="2026-11-21T01:02:33.004Z",
        by=f"gateway:{_GATEWAY}",
    ),
    Reply(id=_COMMAND, op="replay", outcome="done", code="ok", result={"kept": 2, "gone": [[12, 12]]}, ts=_TS),
    desired_config(
        _AGENT,
        3,
        {_INSTRUMENT: {"on_w": 1025.0, "off_w": 715.0, "standby_w": 30.0, "up_ms": 10_000, "down_ms": 60_000}},
        "operator:wang",
    ),
    ServerState(online=True, gateway=_GATEWAY, ts=_TS),
)

EXAMPLES: Mapping[type[Message], Message] = {type(message): message for message in _MESSAGES}
"""By type; every message of the contract has one."""
