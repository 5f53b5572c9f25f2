"""The documents under docs/contract are those of the code, and what they say of a message is what `decode` does."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from tests.support.messages import MESSAGES as GENERATED
from wire import contract
from wire.contract import MESSAGES, file_name, schema_of
from wire.errors import BadPayload
from wire.messages import Message, decode, encode
from wire.topics import Channel, down, parse_up, server_state

FOLDER = Path(__file__).parents[2] / "docs" / "contract"
VALIDATORS = {kind: Draft202012Validator(schema_of(kind)) for kind in MESSAGES}
DOCUMENT = json.loads((FOLDER / "asyncapi.json").read_text(encoding="utf-8"))


def test_the_documents_in_the_repository_are_those_of_the_code() -> None:
    """Run `python -m wire.contract docs/contract` after changing a message."""
    found = {path.relative_to(FOLDER).as_posix(): path.read_text("utf-8") for path in FOLDER.rglob("*.json")}
    assert sorted(found) == sorted(contract.files())
    assert [name for name, text in contract.files().items() if found[name] != text] == []


def test_writing_the_documents_takes_away_what_no_longer_belongs(tmp_path: Path) -> None:
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas" / "lab.old.1.json").write_text("{}")
    contract.main(str(tmp_path))
    assert {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.json")} == set(contract.files())


@pytest.mark.parametrize("kind", MESSAGES)
def test_every_message_has_an_example_that_is_valid_and_canonical(kind: type[Message]) -> None:
    payload = (FOLDER / "examples" / file_name(kind)).read_bytes().rstrip(b"\n")
    assert encode(decode(kind, payload)) == payload
    schema = json.loads((FOLDER / "schemas" / file_name(kind)).read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(json.loads(payload))


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(GENERATED)
def test_whatever_the_code_sends_fits_its_schema(message: Message) -> None:
    VALIDATORS[type(message)].validate(json.loads(encode(message)))


BREAKS: list[tuple[str, dict[str, Any]]] = [
    ("lab.usage/1", {"odd": 1}),
    ("lab.usage/1", {"seq": 0}),
    ("lab.usage/1", {"stream": "01kab0zv2x9m6q3t4r5s7w8y9a"}),
    ("lab.usage/1", {"inst": "XC-H01-01"}),
    ("lab.usage/1", {"state": "idle"}),
    ("lab.usage/1", {"ts": "2026-11-21T09:02:03+08:00"}),
    ("lab.usage/1", {"schema": "lab.usage/2"}),
    ("lab.telemetry/1", {"dt_ms": []}),
    ("lab.telemetry/1", {"extra": {"Volts": 1.0}}),
    ("lab.telemetry/1", {"extra": {"volts": None}}),
    ("lab.live/1", {"extra": {f"n{n}": 1.0 for n in range(17)}}),
    ("lab.refused/1", {"seq": 0}),
    ("lab.state/1", {"cause": "bored"}),
    ("lab.birth/1", {"streams": [{"stream": "x"}]}),
    ("lab.ack/1", {"upto": -1}),
    ("lab.command/1", {"op": "explode"}),
    ("lab.command/1", {"args": {}}),
    ("lab.command/1", {"args": {"stream": "01KAB0ZV2X9M6Q3T4R5S7W8Y9A", "ranges": []}}),
    ("lab.command/1", {"op": "switch", "args": {"inst": "xc-h01-01"}}),
    ("lab.command/1", {"op": "restart", "args": {"now": True}}),
    ("lab.command/1", {"not_after": "soon"}),
    ("lab.reply/1", {"outcome": "perhaps"}),
    ("lab.config/1", {"version": 0}),
    ("lab.config/1", {"sha256": "0"}),
    ("lab.config/1", {"profiles": {"xc-h01-01": {"on_w": "much"}}}),
    ("lab.server/1", {"online": 1}),
]


@pytest.mark.parametrize(("name", "change"), BREAKS, ids=str)
def test_what_the_schema_refuses_the_code_refuses_too(name: str, change: dict[str, Any]) -> None:
    [kind] = [kind for kind in MESSAGES if name == kind.SCHEMA]
    fields = json.loads((FOLDER / "examples" / file_name(kind)).read_text(encoding="utf-8")) | change
    assert not VALIDATORS[kind].is_valid(fields)
    with pytest.raises(BadPayload):
        decode(kind, json.dumps(fields).encode())


@pytest.mark.parametrize("kind", MESSAGES)
def test_a_message_without_its_schema_name_is_refused_by_both(kind: type[Message]) -> None:
    fields = json.loads((FOLDER / "examples" / file_name(kind)).read_text(encoding="utf-8"))
    del fields["schema"]
    assert not VALIDATORS[kind].is_valid(fields)
    with pytest.raises(BadPayload):
        decode(kind, json.dumps(fields).encode())


def test_the_asyncapi_document_names_every_topic_of_the_code() -> None:
    names = {"agent": "a-h01-l1", "instrument": "xc-h01-01", "command": "01KAB1Q0S6T4V8W2X5Y7Z9A3BC", "gateway": "gw-1"}
    seen = set()
    for channel in DOCUMENT["channels"].values():
        topic = channel["address"].format(**names)
        assert set(channel["parameters"]) == {n for n in names if f"{{{n}}}" in channel["address"]}
        if "/up/" in topic:
            seen.add(parse_up(topic).channel)
        elif "/down/" in topic:
            seen.add(Channel(topic.rsplit("/", 1)[1]))
            assert topic == down(names["agent"], Channel(topic.rsplit("/", 1)[1]))
        else:
            assert topic == server_state("gw-1")
    assert seen == set(Channel)


def references(node: Any) -> list[str]:
    if isinstance(node, list):
        return [found for each in node for found in references(each)]
    if not isinstance(node, dict):
        return []
    own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
    return own + [found for value in node.values() for found in references(value)]


def test_every_reference_of_the_asyncapi_document_leads_somewhere() -> None:
    resolver = Registry().with_resource("", Resource.opaque(DOCUMENT)).resolver()
    found = references(DOCUMENT)
    assert len(found) > 30
    for reference in found:
        if reference.startswith("#"):
            assert resolver.lookup(reference).contents
        else:
            assert (FOLDER / reference).is_file()


def test_commands_are_never_retained_and_state_always_is() -> None:
    bindings = {name: each["bindings"]["mqtt"] for name, each in DOCUMENT["operations"].items()}
    assert not bindings["receive_command"]["retain"]
    assert all(bindings[name]["retain"] for name in ("send_state", "send_birth", "receive_config", "send_live"))
    assert {name for name, each in bindings.items() if each["qos"] == 0} == {"send_live"}
