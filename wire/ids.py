"""Names: ids that travel (lower-case codes; streams and boots are named once, where they are born), and hosts."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from ulid import ULID

from wire.errors import BadTopic

_WIRE_ID = re.compile(r"[a-z0-9-]{3,32}\Z")
_STREAM_ID = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}\Z")

QUANTITY = r"^[a-z][a-z0-9_]{0,31}$"
"""What a further reading of a meter may be called: what it is and its unit, like `volts_l1`."""


def wire_id(code: str) -> str:
    """Return the wire form of a catalogue code: `XC-H01-01` -> `xc-h01-01`.

    Raises BadTopic where the result would not be 3 to 32 characters of `[a-z0-9-]`.
    """
    lowered = code.lower()
    if not _WIRE_ID.match(lowered):
        raise BadTopic(f"{code!r} cannot be a wire id: use 3 to 32 characters of a-z, 0-9 and '-'")
    return lowered


def is_wire_id(text: str) -> bool:
    """Whether `text` may stand as one level of a topic (agent or instrument)."""
    return _WIRE_ID.match(text) is not None


def is_quantity(text: str) -> bool:
    """Whether a further reading may be called this (`QUANTITY`)."""
    return re.fullmatch(QUANTITY, text) is not None


def is_host_name(text: str) -> bool:
    """Whether `text` can be the name or address of a host at all: what lies between two dots is 1 to 63 characters."""
    try:
        text.encode("idna")
    except UnicodeError:
        return False
    return True


def is_stream_id(text: str) -> bool:
    """Whether `text` is a ULID as `new_ulid` makes them."""
    return _STREAM_ID.match(text) is not None


_maker: ContextVar[Callable[[], str] | None] = ContextVar("maker of ids", default=None)


def new_ulid() -> str:
    """Return a fresh ULID (26 characters, upper case): the name of a stream, a command or a row."""
    make = _maker.get()
    return str(ULID()) if make is None else make()


@contextmanager
def named_by(make: Callable[[], str]) -> Iterator[None]:
    """Within the block (this thread's), take fresh names from `make`: a simulation gives the same ones for a seed."""
    token = _maker.set(make)
    try:
        yield
    finally:
        _maker.reset(token)


def session_id(instrument: str, stream: str, open_seq: int) -> str:
    """Return the id of the session that the record `open_seq` of `stream` opens.

    Recomputable by anyone who has the record, so a session has one id however often it is sent.
    """
    return f"{instrument}.{stream}.{open_seq}"


def kernel_boot_id() -> str:
    """Return the boot id of this machine: monotonic times of two boots are never compared."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
