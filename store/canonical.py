"""Canonical bytes: what is hashed is stored, and what is stored is hashed. Never a re-rendering by a database."""

import hashlib
import json
from collections.abc import Iterable
from typing import Any

GENESIS = "0" * 64


def canonical_json(value: Any) -> bytes:
    """Return the one byte form of a JSON value: sorted keys, no spaces, UTF-8, integers only.

    Raises TypeError for floats: two engines may print one number in two ways.
    """
    _refuse_floats(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def sha256_hex(data: bytes) -> str:
    """Return the SHA-256 of `data`, 64 lower-case hex characters."""
    return hashlib.sha256(data).hexdigest()


def chain_hash(previous: str, body: bytes) -> str:
    """Return the hash of a chain's next row: SHA-256 over the previous hash and the stored body."""
    return hashlib.sha256(previous.encode() + body).hexdigest()


_PLAIN = frozenset({str, int, bool, type(None)})


def _refuse_floats(value: Any) -> None:
    if type(value) in _PLAIN:  # nearly everything is: asked before anything that costs more
        return
    if isinstance(value, float):
        raise TypeError(f"{value!r} is a float; canonical JSON carries integers and text only")
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"key {key!r} is not text")
        items: Iterable[Any] = value.values()
    elif isinstance(value, (list, tuple)):
        items = value
    else:
        return
    for item in items:
        if type(item) not in _PLAIN:
            _refuse_floats(item)
