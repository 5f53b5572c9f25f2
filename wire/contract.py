"""The message contract as documents: JSON Schemas, an AsyncAPI 3 document and examples, made from the code.

`python -m wire.contract docs/contract` writes them; a test fails while the files in the repository differ. Pure but for
`main`. The schemas say what `decode` takes; where a rule cannot be said in JSON Schema (columns of one length, a hash
that fits), `decode` is stricter.
"""

import json
import sys
from pathlib import Path
from typing import Any

from wire.commands import ARGUMENTS, Command, Config, Refused, Reply
from wire.contract_examples import EXAMPLES
from wire.messages import (
    Ack,
    AgentState,
    Birth,
    Live,
    Message,
    ServerState,
    Telemetry,
    UsageRecord,
    encode,
)
from wire.topics import ROOT, Channel

MESSAGES: tuple[type[Message], ...] = (
    AgentState, Birth, UsageRecord, Telemetry, Live, Reply, Ack, Refused, Command, Config, ServerState,
)  # fmt: skip
DRAFT = "https://json-schema.org/draft/2020-12/schema"
STREAM = r"^[0-9A-HJKMNP-TV-Z]{26}$"
INSTRUMENT = r"^(_|[a-z0-9-]{3,32})$"
WIRE_ID = r"^[a-z0-9-]{3,32}$"
INSTANT = r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$"
# What the types check in Python and JSON Schema can say too, by field name.
_PATTERNS = {
    "stream": STREAM,
    "id": STREAM,
    "inst": INSTRUMENT,
    "ts": INSTANT,
    "not_after": INSTANT,
    "sha256": r"^[0-9a-f]{64}$",
}

# (channel, message, who sends it, QoS, retained, what it is for); `{tail}` says what the last level names.
_UP = (
    (Channel.STATE, AgentState, 1, True, None, "Is the agent there? Also its last will."),
    (Channel.BIRTH, Birth, 1, True, None, "On every connect: instruments, software, streams, configuration."),
    (Channel.USAGE, UsageRecord, 1, False, "instrument", "Usage records: durable, in order, never dropped."),
    (Channel.TELEMETRY, Telemetry, 1, False, "instrument", "Batches of samples: durable, droppable and then counted."),
    (Channel.LIVE, Live, 0, True, "instrument", "The newest sample for a display; never stored."),
    (Channel.REPLY, Reply, 1, False, "command", "The answer to one command."),
)
_DOWN = (
    (Channel.ACK, Ack, 1, False, "What is committed: the only receipt an agent may delete on."),
    (Channel.REFUSED, Refused, 1, False, "What was set aside and will not be acknowledged, and why."),
    (Channel.COMMAND, Command, 1, False, "Commands, never retained."),
    (Channel.CONFIG, Config, 1, True, "The configuration the agent should go by."),
)
_PARAMETERS = {
    "agent": {"description": "The agent's wire id: its user name and client id."},
    "instrument": {"description": "The instrument's wire id, or `_` for the agent itself."},
    "command": {"description": "The id of the command that is answered."},
    "gateway": {"description": "The gateway's wire id."},
}


def schema_of(kind: type[Message]) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of one message."""
    schema = _tightened(kind.model_json_schema(by_alias=True))
    # It has one value, so the code fills it in; on the wire it must be there.
    schema["required"] = sorted({*schema.get("required", []), "schema"})
    if kind is Command:
        schema["allOf"] = [
            {
                "if": {"properties": {"op": {"const": op.value}}},
                "then": {"properties": {"args": _inlined(_tightened(arguments.model_json_schema(by_alias=True)))}},
            }
            for op, arguments in ARGUMENTS.items()
        ]
    return {"$schema": DRAFT, "$id": f"urn:openlab:{kind.SCHEMA}", **schema}


def file_name(kind: type[Message]) -> str:
    """Return what the files of a message are called: `lab.usage/1` -> `lab.usage.1.json`."""
    return kind.SCHEMA.replace("/", ".") + ".json"


def asyncapi() -> dict[str, Any]:
    """Return the AsyncAPI 3 document, from the agent's point of view: it sends what goes up, receives the rest."""
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}

    def add(name: str, address: str, kind: type[Message], action: str, qos: int, retain: bool, text: str) -> None:
        parameters = {key: _PARAMETERS[key] for key in _PARAMETERS if f"{{{key}}}" in address}
        channels[name] = {
            "address": address,
            "description": text,
            "parameters": parameters,
            "messages": {kind.__name__: {"$ref": f"#/components/messages/{kind.__name__}"}},
        }
        operations[f"{action}_{name}"] = {
            "action": action,
            "channel": {"$ref": f"#/channels/{name}"},
            "messages": [{"$ref": f"#/channels/{name}/messages/{kind.__name__}"}],
            "bindings": {"mqtt": {"qos": qos, "retain": retain, "bindingVersion": "0.2.0"}},
        }

    for channel, kind, qos, retain, tail, text in _UP:
        address = f"{ROOT}/up/{{agent}}/{channel}" + (f"/{{{tail}}}" if tail else "")
        add(channel.name.lower(), address, kind, "send", qos, retain, text)
    for channel, kind_down, qos, retain, text in _DOWN:
        add(channel.name.lower(), f"{ROOT}/down/{{agent}}/{channel}", kind_down, "receive", qos, retain, text)
    text = "Is this gateway there? Also its last will."
    add("server_state", f"{ROOT}/srv/{{gateway}}/state", ServerState, "receive", 1, True, text)
    operations["receive_command"]["reply"] = {
        "channel": {"$ref": "#/channels/reply"},
        "messages": [{"$ref": "#/channels/reply/messages/Reply"}],
    }
    return {
        "asyncapi": "3.0.0",
        "id": "urn:openlab:wire",
        "info": {
            "title": "OpenLab: agents and the county",
            "version": "1",
            "description": "MQTT 3.1.1, QoS 1, persistent sessions, canonical JSON. The rules are in docs/messages.md.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "county": {
                "host": "broker.example.org:8883",
                "protocol": "mqtts",
                "protocolVersion": "3.1.1",
                "security": [{"$ref": "#/components/securitySchemes/login"}],
                "bindings": {
                    "mqtt": {
                        "clientId": "the agent's wire id",
                        "cleanSession": False,
                        "keepAlive": 15,
                        "lastWill": {"topic": f"{ROOT}/up/{{agent}}/state", "qos": 1, "retain": True},
                        "bindingVersion": "0.2.0",
                    }
                },
            }
        },
        "channels": channels,
        "operations": operations,
        "components": {
            "securitySchemes": {"login": {"type": "userPassword", "description": "One credential an agent."}},
            "messages": {
                kind.__name__: {
                    "name": kind.SCHEMA,
                    "contentType": "application/json",
                    "summary": (kind.__doc__ or "").strip().splitlines()[0],
                    "payload": {
                        "schemaFormat": f"application/schema+json;version={DRAFT.split('/')[-2]}",
                        "schema": {"$ref": f"schemas/{file_name(kind)}"},
                    },
                    "examples": [{"name": kind.SCHEMA, "payload": json.loads(encode(EXAMPLES[kind]))}],
                }
                for kind in MESSAGES
            },
        },
    }


def files() -> dict[str, str]:
    """Return every document by its path below docs/contract."""
    out = {"asyncapi.json": _text(asyncapi())}
    for kind in MESSAGES:
        out[f"schemas/{file_name(kind)}"] = _text(schema_of(kind))
        out[f"examples/{file_name(kind)}"] = encode(EXAMPLES[kind]).decode() + "\n"
    return out


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _tightened(node: Any) -> Any:
    """Add the patterns that the types check by code, and leave out titles, which only repeat names."""
    if isinstance(node, list):
        return [_tightened(each) for each in node]
    if not isinstance(node, dict):
        return node
    out = {key: _tightened(value) for key, value in node.items() if key != "title" or not isinstance(value, str)}
    for name, field in out.get("properties", {}).items() if isinstance(out.get("properties"), dict) else ():
        for variant in (field, *field.get("anyOf", ())):
            if name in _PATTERNS and variant.get("type") == "string":
                variant["pattern"] = _PATTERNS[name]
    return out


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema without `$defs`: each reference replaced by what it names."""
    definitions = schema.pop("$defs", {})

    def resolved(node: Any) -> Any:
        if isinstance(node, list):
            return [resolved(each) for each in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return resolved(definitions[node["$ref"].rsplit("/", 1)[1]])
        return {key: resolved(value) for key, value in node.items()}

    inlined: dict[str, Any] = resolved(schema)
    return inlined


def main(folder: str) -> None:
    """Write all documents below `folder`, and remove those that no longer belong to the contract."""
    wanted = files()
    root = Path(folder)
    for old in root.rglob("*.json"):
        if old.relative_to(root).as_posix() not in wanted:
            old.unlink()
    for name, text in wanted.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "docs/contract")
