"""A bundle that left the house against the ledger: every member must be what the ledger would say again today."""

import io
import json
import zipfile
import zlib
from collections.abc import Iterator
from itertools import zip_longest

from sqlalchemy.orm import Session

from api.bundle.service import CHECKER, bundle_bytes
from api.verify.finding import Check, Finding
from store.tables.rewards import RewardRun

_RUN = "run.json"
_UNREADABLE = (
    *(zipfile.BadZipFile, zlib.error, ValueError, KeyError, TypeError, NotImplementedError),
    *(EOFError, OSError, RuntimeError),
)


def bundle_file(data: bytes) -> Check:
    """Return the check of an archive: it is what the ledger says of the run that it names."""

    def check(session: Session) -> Iterator[Finding]:
        run = session.get(RewardRun, run_bundled_in(data))
        if run is None:
            yield Finding("bundle", _RUN, "it names no run that there is")
            return
        with (
            zipfile.ZipFile(io.BytesIO(data)) as given,
            zipfile.ZipFile(io.BytesIO(bundle_bytes(session, run))) as made,
        ):
            for name in sorted({*given.namelist(), *made.namelist()}):
                # The manifest names the checker's hash; a later version of the product may bring a better one.
                if name not in (CHECKER, "manifest.json"):
                    yield from _member_differs(given, made, name)

    return check


def run_bundled_in(data: bytes) -> str:
    """Return the id of the run that an archive is about; "" (no run has it) where it cannot be read."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return str(json.loads(archive.read(_RUN))["run_id"])
    except _UNREADABLE:
        return ""


def _member_differs(given: zipfile.ZipFile, made: zipfile.ZipFile, name: str) -> Iterator[Finding]:
    if name not in given.namelist() or name not in made.namelist():
        yield Finding("bundle", name, "it is missing, or it is no member of a bundle")
        return
    try:
        with given.open(name) as one, made.open(name) as other:
            for number, (said, wanted) in enumerate(zip_longest(one, other), start=1):
                if said != wanted:
                    yield Finding(
                        "bundle", f"{name}, line {number}", f"it says {_shown(said)}, the ledger says {_shown(wanted)}"
                    )
                    return
    except _UNREADABLE as error:
        yield Finding("bundle", name, f"it cannot be read: {error}")


def _shown(line: bytes | None) -> str:
    text = "nothing" if line is None else line.decode(errors="replace").rstrip("\n")
    return text if len(text) <= 120 else text[:120] + "…"
