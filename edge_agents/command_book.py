"""Which commands an agent has seen in the last 24 hours, on disk in its folder: each is executed at most once.

An id is written down before the command is executed and its answer after it. A command that comes again gets the
answer it had; one whose execution was cut short by a crash is not tried a second time. The book is a file of lines that
are appended, so a command costs a small write however many there were; it is written anew when it is opened or long.
A line that was being written in a power cut is dropped (its command was not begun yet). A book that cannot be read
is set aside, and what was ordered before that moment is not executed.
"""

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import structlog
from pydantic import ValidationError

from wire.commands import REMEMBERED_MS, Reply

log = structlog.get_logger(__name__)

REWRITE_ABOVE_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Entry:
    """One command: when it was taken up (wall time) and what was answered, None while that is open."""

    at_ms: int
    reply: Reply | None


class CommandBook:
    """One file. The stepping thread owns it."""

    def __init__(self, path: Path, now_ms: int) -> None:
        """Read the book or begin one. Raises OSError where the folder cannot be used."""
        self._path = path
        self._size = 0
        self.since_ms = 0
        self._entries: dict[str, Entry] = {}
        try:
            self._read(path.read_bytes())
        except FileNotFoundError:
            pass
        except (ValueError, TypeError, KeyError, AttributeError, IndexError, ValidationError) as error:
            aside = path.with_name(path.name + ".damaged")
            os.replace(path, aside)
            log.error("the memory of commands was damaged and set aside", file=aside.name, error=str(error))
            self.since_ms = now_ms
            self._entries = {}
        self._rewrite(now_ms)

    def find(self, command_id: str) -> Entry | None:
        """Return what is known of a command; None where it was not seen in the last 24 hours."""
        return self._entries.get(command_id)

    def begin(self, command_id: str, now_ms: int) -> None:
        """Write down, durably, that a command is being executed. Raises OSError: then it must not be."""
        if self._size > REWRITE_ABOVE_BYTES:
            self._rewrite(now_ms)
        self._append({"id": command_id, "at_ms": now_ms})
        self._entries[command_id] = Entry(now_ms, None)
        self._entries = {key: entry for key, entry in self._entries.items() if now_ms - entry.at_ms < REMEMBERED_MS}

    def finish(self, reply: Reply) -> None:
        """Write down what was answered. A disk that is full costs the answer of a repeat, no more."""
        entry = self._entries.get(reply.id)
        if entry is None:
            return
        self._entries[reply.id] = replace(entry, reply=reply)
        try:
            self._append({"id": reply.id, "reply": _fields(reply)})
        except OSError as error:
            log.error("the answer to a command could not be written down", id=reply.id, error=str(error))

    def _read(self, content: bytes) -> None:
        # What follows the last line end was cut off while it was written.
        lines = [json.loads(line) for line in content.decode().split("\n")[:-1]]
        if lines[0]["v"] != 1:
            raise ValueError(f"it is of version {lines[0]['v']}")
        self.since_ms = int(lines[0]["since_ms"])
        for line in lines[1:]:
            if "reply" in line:
                reply = Reply.model_validate_json(json.dumps(line["reply"]))
                self._entries[line["id"]] = replace(self._entries[line["id"]], reply=reply)
            else:
                self._entries[line["id"]] = Entry(int(line["at_ms"]), None)

    def _append(self, line: dict[str, Any]) -> None:
        data = json.dumps(line).encode() + b"\n"
        with self._path.open("r+b") as file:
            # Over what a failed attempt may have left behind.
            file.truncate(self._size)
            file.seek(self._size)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        self._size += len(data)

    def _rewrite(self, now_ms: int) -> None:
        lines: list[dict[str, Any]] = [{"v": 1, "since_ms": self.since_ms}]
        for key, entry in self._entries.items():
            if now_ms - entry.at_ms < REMEMBERED_MS:
                lines.append({"id": key, "at_ms": entry.at_ms})
                lines += [{"id": key, "reply": _fields(entry.reply)}] if entry.reply is not None else []
        text = "".join(json.dumps(line) + "\n" for line in lines)
        write_durably(self._path, text)
        self._size = len(text.encode())


def _fields(reply: Reply) -> dict[str, Any]:
    fields: dict[str, Any] = reply.model_dump(mode="json", by_alias=True)
    return fields


def write_durably(path: Path, text: str) -> None:
    """Replace a file: after a power cut it holds the old text or the new one. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".new")
    with draft.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
