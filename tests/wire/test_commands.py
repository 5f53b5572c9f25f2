"""Commands, replies and configurations as they travel: what is refused, and what is the same byte for byte."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.messages import JSON_VALUES, STREAM, STREAMS
from wire.commands import ARGUMENTS, Command, Config, Op, Reply, desired_config, not_kept_record, profiles_sha256
from wire.errors import BadPayload, BadTopic
from wire.messages import MAX_USAGE_BYTES, UsageRecord, decode, encode
from wire.topics import all_down

COMMAND: dict[str, Any] = {
    "schema": "lab.command/1", "id": STREAM, "op": "identify", "args": {}, "not_after": "2026-11-21T01:00:00.123Z",
    "by": "wang",
}  # fmt: skip


def refused(kind: Any, fields: dict[str, Any]) -> str:
    with pytest.raises(BadPayload) as caught:
        decode(kind, json.dumps(fields).encode())
    return str(caught.value)


@pytest.mark.parametrize(
    ("op", "args", "names"),
    [
        ("identify", {"x": 1}, "args.x"),
        ("read_now", {"inst": "X"}, "args.inst"),
        ("replay", {"stream": STREAM, "ranges": [[3, 2]]}, "from its first to its last"),
        ("replay", {"stream": STREAM, "ranges": [[0, 2]]}, "args.ranges.0.0"),
        ("replay", {"stream": STREAM, "ranges": [[1, 2, 3]]}, "args.ranges.0"),
        ("replay", {"stream": STREAM, "ranges": [[1, 2]] * 101}, "args.ranges"),
        ("replay", {"stream": "x", "ranges": [[1, 2]]}, "args.stream"),
        ("teach", {"inst": "xc-h01-01", "mark": "start"}, "names the state"),
        ("teach", {"inst": "xc-h01-01", "mark": "stop", "state": "off"}, "names the state"),
        ("switch", {"inst": "xc-h01-01", "on": 1}, "args.on"),
        ("switch", {"inst": "xc-h01-01", "on": False, "quiet_s": -1}, "args.quiet_s"),
        ("switch", {"inst": "xc-h01-01", "on": False, "only_if": {"state": "idle"}}, "args.only_if.state"),
        ("restart", {"now": True}, "args.now"),
    ],
    ids=str,
)
def test_arguments_that_do_not_fit_the_op_are_refused_and_named(op: str, args: dict[str, Any], names: str) -> None:
    assert names in refused(Command, COMMAND | {"op": op, "args": args})


@given(st.sampled_from(Op), st.dictionaries(st.text(max_size=6), JSON_VALUES, max_size=3))
@example(Op.REPLAY, {"stream": STREAM, "ranges": [[1, 2**53]]})
def test_whatever_the_arguments_are_they_are_taken_whole_or_refused(op: Op, args: dict[str, Any]) -> None:
    payload = json.dumps(COMMAND | {"op": op.value, "args": args}).encode()
    try:
        command = decode(Command, payload)
    except BadPayload:
        return
    assert isinstance(command.arguments(), ARGUMENTS[op])
    assert decode(Command, encode(command)) == command


@given(
    st.binary(max_size=100)
    | st.sampled_from([b'{"args":' * 2000, b"[" * 5000, b'{"schema":"lab.command/1","args":NaN}'])
)
def test_no_bytes_raise_anything_but_a_bad_payload(payload: bytes) -> None:
    for kind in (Command, Reply, Config):
        with pytest.raises(BadPayload):
            decode(kind, payload)


def test_a_number_that_is_none_is_refused_wherever_it_hides() -> None:
    for raw in (b"NaN", b"Infinity", b"-Infinity"):
        body = json.dumps(COMMAND).encode().replace(b'"args": {}', b'"args": {"x": ' + raw + b"}")
        with pytest.raises(BadPayload):
            decode(Command, body)


def test_a_configuration_whose_profiles_were_touched_is_refused() -> None:
    config = desired_config("a-h01-l1", 3, {"xc-h01-01": {"on_w": 300.0, "off_w": 250.0}}, "wang")
    fields = json.loads(encode(config))
    assert decode(Config, encode(config)) == config
    fields["profiles"]["xc-h01-01"]["on_w"] = 301.0
    assert "sha256" in refused(Config, fields)
    assert profiles_sha256({"a": {"x": 1, "y": 2}}) == profiles_sha256({"a": {"y": 2, "x": 1}})


@given(STREAMS, st.integers(1, 2**53))
@example("7ZZZZZZZZZZZZZZZZZZZZZZZZZ", 1)
@example("ZZZZZZZZZZZZZZZZZZZZZZZZZZ", 2**53)
def test_the_record_that_stands_for_a_lost_one_is_always_the_same_and_always_valid(stream: str, seq: int) -> None:
    payload = encode(not_kept_record(stream, seq))
    assert payload == encode(not_kept_record(stream, seq))
    assert len(payload) < MAX_USAGE_BYTES
    record = decode(UsageRecord, payload)
    assert (record.stream, record.seq, record.inst, record.kind.value) == (stream, seq, "_", "gap")


def test_one_subscription_covers_what_is_sent_to_an_agent_and_to_no_other() -> None:
    assert all_down("xc-h01-01") == "lab/v1/down/xc-h01-01/+"
    for name in ("+", "#", "a/b", "", "XC"):
        with pytest.raises(BadTopic):
            all_down(name)
