"""Messages for tests: one plain usage record, and Hypothesis strategies for every type that travels."""

from typing import Any

from hypothesis import strategies as st

from wire.commands import Command, Op, Refused, Reply, desired_config
from wire.ids import QUANTITY
from wire.messages import (
    MAX_EXTRA,
    MAX_TELEMETRY_SAMPLES,
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
    timestamp,
)

STREAM = "01HZX7W3Q8V5K2M4N6P8R0T2Y4"


def a_usage_record(**changes: Any) -> UsageRecord:
    """Return a tick of one minute of running, with any field changed."""
    fields: dict[str, Any] = {
        "stream": STREAM,
        "seq": 1,
        "boot": "boot-1",
        "kind": RecordKind.TICK,
        "inst": "xc-h01-01",
        "from_ms": 1_000,
        "to_ms": 61_000,
        "state": PowerState.RUNNING,
        "odo": Odometer(running=60_000),
        "ts": "2026-11-21T01:00:00.123Z",
        "ts_q": ClockQuality.NTP,
        "power_w": Power(avg=1210.5, min=1180.0, max=1300.0),
        "samples": 6,
    }
    return UsageRecord(**fields | changes)


WIRE_IDS = st.from_regex(r"[a-z0-9-]{3,32}", fullmatch=True)
INSTRUMENTS = WIRE_IDS | st.just("_")
STREAMS = st.from_regex(r"[0-9A-HJKMNP-TV-Z]{26}", fullmatch=True)
TIMESTAMPS = st.integers(0, 4_102_444_800_000).map(timestamp)
MS = st.integers(0, 2**53)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
NAMES = TEXT.filter(bool)
QUALITY = st.sampled_from(ClockQuality)
STATES = st.sampled_from(PowerState)
EXTRA = st.dictionaries(st.from_regex(QUANTITY[1:-1], fullmatch=True), FINITE, max_size=MAX_EXTRA)


@st.composite
def usage_records(draw: st.DrawFn) -> UsageRecord:
    start = draw(MS)
    return UsageRecord(
        stream=draw(STREAMS),
        seq=draw(st.integers(1, 2**53)),
        boot=draw(NAMES),
        kind=draw(st.sampled_from(RecordKind)),
        inst=draw(INSTRUMENTS),
        session=draw(NAMES),
        from_ms=start,
        to_ms=draw(st.integers(start, 2**53)),
        state=draw(STATES),
        odo=Odometer(off=draw(MS), standby=draw(MS), running=draw(MS), unknown=draw(MS)),
        ts=draw(TIMESTAMPS),
        ts_q=draw(QUALITY),
        power_w=draw(st.none() | st.builds(Power, avg=FINITE, min=FINITE, max=FINITE)),
        energy_wh=draw(st.none() | FINITE),
        energy_q=draw(st.sampled_from(["ok", "reset", "jump", "none"])),
        samples=draw(MS),
        missed=draw(MS),
        flags=tuple(draw(st.lists(TEXT, max_size=4))),
        reason=draw(st.none() | TEXT),
        user_hint=draw(st.none() | TEXT),
        edge_unc_ms=draw(st.none() | MS),
        detail=draw(st.dictionaries(TEXT, st.none() | st.integers() | FINITE | TEXT, max_size=4)),
    )


@st.composite
def telemetry(draw: st.DrawFn) -> Telemetry:
    offsets = draw(st.lists(MS, min_size=1, max_size=MAX_TELEMETRY_SAMPLES, unique=True))
    count = len(offsets)
    column = st.lists(st.none() | FINITE, min_size=count, max_size=count)
    return Telemetry(
        stream=draw(STREAMS),
        seq=draw(st.integers(1, 2**53)),
        boot=draw(NAMES),
        inst=draw(INSTRUMENTS),
        t0_ms=draw(MS),
        ts=draw(TIMESTAMPS),
        ts_q=draw(QUALITY),
        period_ms=draw(st.integers(1, 60_000)),
        dt_ms=tuple(sorted(offsets)),
        power_w=tuple(draw(st.lists(FINITE, min_size=count, max_size=count))),
        state=tuple(draw(st.lists(STATES, min_size=count, max_size=count))),
        energy_wh=tuple(draw(st.just([]) | column)),
        extra=draw(EXTRA),
    )


POSITIONS = st.builds(
    StreamPosition, stream=STREAMS, kind=st.sampled_from(StreamKind), first_kept=st.integers(1, 2**53), last=MS
)
TEXT_MAPS = st.dictionaries(TEXT, TEXT, max_size=3)

SEQ = st.integers(1, 2**52)
READ_NOW = st.just({}) | st.fixed_dictionaries({"inst": st.none() | INSTRUMENTS})
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | FINITE | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
PROFILES = st.dictionaries(
    INSTRUMENTS, st.dictionaries(TEXT, st.booleans() | st.integers(-(2**53), 2**53) | FINITE, max_size=4), max_size=3
)

MESSAGES: st.SearchStrategy[Message] = st.one_of(
    usage_records(),
    telemetry(),
    st.builds(
        AgentState,
        online=st.booleans(),
        cause=st.sampled_from(["start", "running", "stop", "lost"]),
        boot=TEXT,
        ts=TIMESTAMPS,
        clock=QUALITY,
        queued=MS,
        dropped=MS,
        stream=st.none() | STREAMS,
    ),
    st.builds(
        Birth,
        agent=WIRE_IDS,
        boot=TEXT,
        ts=TIMESTAMPS,
        software=TEXT,
        speaks=st.lists(TEXT, max_size=3).map(tuple),
        instruments=st.lists(INSTRUMENTS, max_size=3).map(tuple),
        drivers=TEXT_MAPS,
        profiles=TEXT_MAPS,
        streams=st.lists(POSITIONS, max_size=3).map(tuple),
        config_version=MS,
        capabilities=st.dictionaries(TEXT, st.lists(TEXT, max_size=3).map(tuple), max_size=3),
    ),
    st.builds(Live, inst=INSTRUMENTS, ts=TIMESTAMPS, power_w=st.none() | FINITE, state=STATES, extra=EXTRA),
    st.builds(Refused, stream=STREAMS, seq=SEQ, reason=NAMES, text=TEXT),
    st.builds(Ack, stream=STREAMS, upto=MS, holes=st.lists(st.tuples(MS, MS), max_size=5).map(tuple)),
    st.builds(ServerState, online=st.booleans(), gateway=WIRE_IDS, ts=TIMESTAMPS),
    st.builds(
        Command,
        id=STREAMS,
        op=st.just(Op.REPLAY),
        args=st.builds(
            lambda stream, first, more: {"stream": stream, "ranges": [[first, first + more]]}, STREAMS, SEQ, SEQ
        ),
        not_after=TIMESTAMPS,
        by=NAMES,
    ),
    st.builds(Command, id=STREAMS, op=st.just(Op.READ_NOW), args=READ_NOW, not_after=TIMESTAMPS, by=NAMES),
    st.builds(
        Reply,
        id=STREAMS,
        op=TEXT,
        outcome=st.sampled_from(["done", "refused", "failed"]),
        code=NAMES,
        text=TEXT,
        result=st.dictionaries(TEXT, JSON_VALUES, max_size=3),
        ts=TIMESTAMPS,
    ),
    st.builds(desired_config, WIRE_IDS, SEQ, PROFILES, NAMES),
)
