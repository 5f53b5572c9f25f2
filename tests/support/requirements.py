"""What a test needs from the machine. Missing on a developer's machine: a loud skip. Missing in CI: a failure."""

import os
import shutil
from pathlib import Path

import pytest


def require(found: object, reason: str) -> None:
    """Go on if `found` is truthy; else skip with `reason` (say how to get it), or fail where OPENLAB_CI=1."""
    if found:
        return
    if os.environ.get("OPENLAB_CI") == "1":
        pytest.fail(f"needed in CI and missing: {reason}", pytrace=False)
    pytest.skip(f"NOT TESTED HERE: {reason}")


def require_binary(name: str, how_to_get_it: str) -> Path:
    """Return the path of a program, looking in sbin too (Debian keeps servers there); skip or fail without it."""
    path = shutil.which(name) or shutil.which(name, path="/usr/local/sbin:/usr/sbin:/sbin")
    require(path, f"{name} is not installed; get it with: {how_to_get_it}")
    assert path is not None
    return Path(path)
