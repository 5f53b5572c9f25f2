import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.messages import MESSAGES, STREAM, a_usage_record
from wire.contract_examples import EXAMPLES
from wire.errors import BadPayload
from wire.messages import (
    MAX_TELEMETRY_BYTES,
    MAX_USAGE_BYTES,
    Ack,
    AgentState,
    Birth,
    ClockQuality,
    Live,
    Message,
    Odometer,
    PowerState,
    Telemetry,
    UsageRecord,
    decode,
    encode,
    timestamp,
    timestamp_ms,
)

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
RECORD = encode(a_usage_record())


def changed(**changes: Any) -> bytes:
    return json.dumps(json.loads(RECORD) | changes).encode()


def refusal(kind: type[Message], payload: bytes) -> BadPayload:
    with pytest.raises(BadPayload) as caught:
        decode(kind, payload)
    return caught.value


@given(MESSAGES)
def test_what_is_encoded_is_decoded_back_to_the_same_bytes(message: Message) -> None:
    payload = encode(message)
    again = decode(type(message), payload)
    assert again == message
    assert encode(again) == payload


@given(MESSAGES, st.randoms())
def test_the_bytes_do_not_depend_on_the_order_of_the_fields(message: Message, random: Any) -> None:
    fields = list(json.loads(encode(message)).items())
    random.shuffle(fields)
    shuffled = json.dumps(dict(fields), indent=2).encode()
    assert encode(decode(type(message), shuffled)) == encode(message)


def test_the_canonical_bytes_of_a_record_never_change() -> None:
    assert RECORD.decode() == (
        '{"boot":"boot-1","detail":{},"edge_unc_ms":null,"energy_q":"none","energy_wh":null,"flags":[],"from_ms":1000,'
        '"inst":"xc-h01-01","kind":"tick","missed":0,"odo":{"off":0,"running":60000,"standby":0,"unknown":0},'
        '"power_w":{"avg":1210.5,"max":1300.0,"min":1180.0},"reason":null,"samples":6,"schema":"lab.usage/1",'
        f'"seq":1,"session":null,"state":"running","stream":"{STREAM}","to_ms":61000,'
        '"ts":"2026-11-21T01:00:00.123Z","ts_q":"ntp","user_hint":null}'
    )


def test_chinese_text_travels_as_utf8_not_as_escapes() -> None:
    assert "送检人".encode() in encode(a_usage_record(user_hint="送检人"))


@pytest.mark.parametrize(("kind", "limit"), [(UsageRecord, MAX_USAGE_BYTES), (Telemetry, MAX_TELEMETRY_BYTES)])
def test_a_message_beyond_the_limit_is_refused_unread(kind: type[Message], limit: int) -> None:
    assert refusal(kind, b"{" * (limit + 1)).reason == "too_large"
    assert refusal(kind, b"{" * limit).reason == "not_json"


@pytest.mark.parametrize("payload", [b"", b"{", b"\xff\xfe\x00", b"lab", b'{"a":1}}', b"[" * 8000, b"9" * 8000])
def test_what_is_not_json_is_refused(payload: bytes) -> None:
    assert refusal(UsageRecord, payload).reason == "not_json"


@pytest.mark.parametrize("schema", ["lab.usage/2", "lab.telemetry/1", "", None, 1, ["lab.usage/1"]])
def test_an_unknown_schema_is_refused_and_named(schema: object) -> None:
    error = refusal(UsageRecord, changed(schema=schema))
    assert error.reason == "unknown_schema"
    assert repr(schema) in str(error)


@pytest.mark.parametrize("payload", [b"[]", b"1", b"null", b'"lab.usage/1"', b"{}"])
def test_json_without_a_schema_is_refused(payload: bytes) -> None:
    assert refusal(UsageRecord, payload).reason == "unknown_schema"


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"extra": 1}, "extra"),
        ({"odo": {"off": 0, "asleep": 1}}, "odo.asleep"),
        ({"seq": 0}, "seq"),
        ({"seq": "1"}, "seq"),
        ({"seq": 1.0}, "seq"),
        ({"seq": True}, "seq"),
        ({"stream": STREAM.lower()}, "stream"),
        ({"inst": "XC-H01-01"}, "inst"),
        ({"state": "idle"}, "state"),
        ({"kind": "other"}, "kind"),
        ({"from_ms": -1}, "from_ms"),
        ({"to_ms": 999}, "to_ms lies before from_ms"),
        ({"kind": "open"}, "names its session"),
        ({"odo": {"off": -1}}, "odo.off"),
        ({"energy_wh": float("nan")}, "energy_wh"),
        ({"detail": {"x": float("inf")}}, "detail.x"),
        ({"detail": {"x": [1]}}, "detail.x"),
        ({"flags": ["f"] * 17}, "flags"),
        ({"ts": "2026-11-21T09:00:00.123+08:00"}, "ts"),
        ({"ts": "2026-11-21T01:00:00Z"}, "ts"),
        ({"ts": "2026-11-21T01:00:00.123"}, "ts"),
        ({"ts": "0001-01-01T00:00:00.000+14:00"}, "ts"),
        ({"ts": "9999-12-31T23:59:59.999-14:00"}, "ts"),
        ({"ts": "2026-02-30T01:00:00.123Z"}, "ts"),
    ],
    ids=str,
)
def test_an_invalid_field_is_refused_and_named(changes: dict[str, Any], names: str) -> None:
    error = refusal(UsageRecord, changed(**changes))
    assert error.reason == "invalid"
    assert names in str(error)


def test_a_missing_field_is_refused_and_named() -> None:
    fields = json.loads(RECORD)
    del fields["odo"]
    error = refusal(UsageRecord, json.dumps(fields).encode())
    assert (error.reason, str(error)) == ("invalid", "odo: Field required")


@given(st.sampled_from(sorted(json.loads(RECORD))), JSON_VALUES)
@example("detail", {"x": 10**400})
@example("user_hint", "\ud800")
@example("ts", "0001-01-01T00:00:00.000+23:59")
def test_whatever_stands_in_a_field_it_is_taken_whole_or_refused(name: str, value: Any) -> None:
    try:
        message = decode(UsageRecord, changed(**{name: value}))
    except BadPayload:
        return
    assert decode(UsageRecord, encode(message)) == message


@given(st.binary(max_size=200) | JSON_VALUES.map(lambda value: json.dumps(value).encode()))
def test_no_bytes_raise_anything_but_a_bad_payload(payload: bytes) -> None:
    for kind in (UsageRecord, Telemetry, AgentState, Ack):
        with pytest.raises(BadPayload):
            decode(kind, payload)


@pytest.mark.parametrize(
    "changes",
    [
        {"dt_ms": [0, 1000, 1000]},
        {"dt_ms": [0, 1000]},
        {"power_w": [1.0]},
        {"state": ["running"] * 4},
        {"energy_wh": [1.0]},
        {"dt_ms": [], "power_w": [], "state": []},
    ],
    ids=str,
)
def test_columns_of_telemetry_that_do_not_fit_together_are_refused(changes: dict[str, Any]) -> None:
    batch = Telemetry(
        stream=STREAM,
        seq=1,
        boot="boot-1",
        inst="xc-h01-01",
        t0_ms=0,
        ts="2026-11-21T01:00:00.000Z",
        ts_q=ClockQuality.NTP,
        period_ms=1000,
        dt_ms=(0, 1000, 2000),
        power_w=(1.0, 2.0, 3.0),
        state=(PowerState.RUNNING,) * 3,
    )
    assert refusal(Telemetry, json.dumps(json.loads(encode(batch)) | changes).encode()).reason == "invalid"


def test_a_message_does_not_change_after_it_was_made() -> None:
    with pytest.raises(ValueError, match="frozen"):
        a_usage_record().seq = 2  # type: ignore[misc]


@given(st.lists(st.tuples(st.sampled_from(PowerState), st.integers(0, 86_400_000))))
def test_an_odometer_accounts_for_all_the_time_it_was_driven(steps: list[tuple[PowerState, int]]) -> None:
    odometer = Odometer()
    for state, ms in steps:
        odometer = odometer.plus(state, ms)
    assert odometer.total == sum(ms for _, ms in steps)
    assert odometer.running == sum(ms for state, ms in steps if state is PowerState.RUNNING)


@given(st.integers(-30_000_000_000_000, 253_402_300_799_999))
@example(0)
@example(999)
def test_a_timestamp_keeps_its_milliseconds(ms: int) -> None:
    assert timestamp_ms(timestamp(ms)) == ms


def test_what_an_older_agent_leaves_out_means_that_it_is_not_said() -> None:
    fields = json.loads(encode(EXAMPLES[AgentState]))
    del fields["stream"]
    assert decode(AgentState, json.dumps(fields).encode()).stream is None
    fields = json.loads(encode(EXAMPLES[Birth]))
    del fields["capabilities"]
    assert decode(Birth, json.dumps(fields).encode()).capabilities == {}
    for kind in (Telemetry, Live):
        fields = json.loads(encode(EXAMPLES[kind]))
        del fields["extra"]
        assert decode(kind, json.dumps(fields).encode()) == EXAMPLES[kind].model_copy(update={"extra": {}})
    # The least that a usage record of version 1 ever said: what was added since has a meaning where it is missing.
    least = {
        **{"schema": "lab.usage/1", "stream": "01KAB0ZV2X9M6Q3T4R5S7W8Y9A", "seq": 1, "boot": "b", "kind": "tick"},
        **{"inst": "xc-h01-01", "from_ms": 0, "to_ms": 1, "state": "off", "odo": {}, "ts_q": "rtc"},
        "ts": "2026-11-21T01:02:03.004Z",
    }
    assert decode(UsageRecord, json.dumps(least).encode()).detail == {}


def test_a_field_that_is_newer_than_its_reader_is_named() -> None:
    """What an older gateway says of a newer agent's record, and parks it with its place and bytes (tests/gateway)."""
    newer = json.loads(encode(EXAMPLES[UsageRecord])) | {"humidity": 40}
    error = refusal(UsageRecord, json.dumps(newer).encode())
    assert (error.reason, "humidity" in str(error)) == ("invalid", True)
