"""Imports run one way. The contracts are in pyproject.toml; `make lint` runs them too, with a report to read."""

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_every_contract_between_the_packages_is_kept() -> None:
    linter = Path(sysconfig.get_path("scripts")) / "lint-imports"
    result = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("package", ["wire", "edge_agents.cli"])
def test_what_runs_beside_an_instrument_loads_nothing_of_a_server(package: str) -> None:
    """Contracts see what is written; this sees what is loaded."""
    program = (
        f"import sys, {package}\n"
        "unwanted = {'sqlalchemy', 'fastapi', 'alembic', 'store', 'gateway', 'api'} & set(sys.modules)\n"
        "assert not unwanted, unwanted"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_the_store_loads_neither_mqtt_nor_http() -> None:
    program = (
        "import sys, pkgutil, importlib, store\n"
        "for found in pkgutil.walk_packages(store.__path__, 'store.'):\n"
        "    if '.migrations.' not in found.name:\n"
        "        importlib.import_module(found.name)\n"
        "unwanted = {'paho', 'fastapi', 'gateway', 'api', 'edge_agents'} & set(sys.modules)\n"
        "assert not unwanted, unwanted"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
