"""House rules that no linter knows: small files, engines named in few places, commands that explain themselves."""

import ast
import importlib
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import structlog
import typer

ROOT = Path(__file__).parents[1]
PACKAGES = ("wire", "store", "gateway", "api", "edge_agents", "dashboards")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CODE = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
LINES_AT_MOST = 350
IN_ONE_FILE = {"api/bundle/check.py": 400}
"""What leaves the house as a single file cannot be split."""

# Where an engine may be named: the functions that open one, migrations, settings and composition roots.
MAY_NAME_ENGINES = re.compile(
    r"store/(database|series|series_\w+|tables_series|influx_url)\.py|store/migrations/.*"
    r"|api/(app|settings|cli|doctor|backup)\.py|api/(embedded|cli|operations)/.*|gateway/(cli|running)\.py|dashboards/sources\.py"
)
# Beside an instrument there is no choice of engine: spool and journal are SQLite files, and say so.
EDGE = "edge_agents/"
ENGINE_TEXT = re.compile(r"(sqlite|postgresql|influxdb|influxdbs)(\+\w+)?(:.*)?\Z")
ENGINE_MODULES = {"store.series_sqlite", "store.series_influx", "sqlalchemy.dialects", "psycopg", "influxdb_client"}
ENGINE_CLASSES = re.compile(r"(Sqlite|Influx|Postgres)\w*")

MACHINE = re.compile(r"(?<![\w.])/(work|root|home/\w+|opt/wheels)/|find-links|index-url|extra-index", re.IGNORECASE)


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def texts_of_the_project() -> list[Path]:
    """Every text file that is, or will be, in version control."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    suffixes = {".py", ".md", ".yml", ".yaml", ".toml", ".lock", ".sh", ".conf", ".sql", ".json", ".csv", ""}
    paths = [ROOT / name for name in listed.stdout.splitlines()]
    return [path for path in paths if path.is_file() and path.suffix in suffixes]


def engines_named(tree: ast.AST) -> Iterator[str]:
    """Where a file asks or says which engine it talks to."""
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Attribute) and node.attr == "name" and ast.unparse(node.value).endswith("dialect"):
            yield f"line {line}: asks for dialect.name"
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and ENGINE_TEXT.match(node.value):
            yield f"line {line}: {node.value!r}"
        elif isinstance(node, ast.ImportFrom) and node.module and _is_engine_module(node.module):
            yield f"line {line}: imports {node.module}"
        elif isinstance(node, ast.Import):
            yield from (f"line {line}: imports {a.name}" for a in node.names if _is_engine_module(a.name))
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "isinstance":
            kinds = [n.id for n in ast.walk(node.args[1]) if isinstance(n, ast.Name) and ENGINE_CLASSES.match(n.id)]
            yield from (f"line {line}: isinstance of {kind}" for kind in kinds)


def _is_engine_module(name: str) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in ENGINE_MODULES)


@pytest.mark.parametrize("path", CODE, ids=relative)
def test_a_file_of_code_can_be_read_in_one_sitting(path: Path) -> None:
    if "migrations" not in path.parts:  # written by Alembic, one table after the other
        assert len(path.read_text(encoding="utf-8").splitlines()) <= IN_ONE_FILE.get(relative(path), LINES_AT_MOST)


@pytest.mark.parametrize("path", CODE, ids=relative)
def test_a_module_says_what_it_is_for(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not tree.body or ast.get_docstring(tree), f"{relative(path)} has no docstring"


@pytest.mark.parametrize("path", CODE, ids=relative)
def test_which_engine_is_behind_a_port_is_asked_in_one_place(path: Path) -> None:
    if not MAY_NAME_ENGINES.fullmatch(relative(path)) and not relative(path).startswith(EDGE):
        assert list(engines_named(ast.parse(path.read_text(encoding="utf-8")))) == []


def test_the_search_for_engines_finds_every_way_to_name_one() -> None:
    planted = """
import psycopg
from store.series_sqlite import open_sqlite
if session.bind.dialect.name == "sqlite": ...
if isinstance(series, InfluxSeries): ...
open_database("postgresql+psycopg://x")
"""
    assert len(list(engines_named(ast.parse(planted)))) == 6


def test_no_file_knows_the_machine_it_was_written_on() -> None:
    found = [
        f"{relative(path)}:{number}: {line.strip()}"
        for path in texts_of_the_project()
        if path != Path(__file__)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if MACHINE.search(line)
    ]
    assert found == []


def test_the_lock_is_a_plain_list_of_exact_versions() -> None:
    for name in ("requirements.lock", "requirements-dev.lock"):
        lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
        assert lines
        assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!+]+", line)] == []


def test_the_development_lock_contains_the_runtime_lock() -> None:
    runtime, everything = (
        set((ROOT / name).read_text(encoding="utf-8").splitlines())
        for name in ("requirements.lock", "requirements-dev.lock")
    )
    assert runtime <= everything


def test_every_dependency_is_named_in_the_readme() -> None:
    wanted = [*PROJECT["dependencies"], *(one for extra in PROJECT["optional-dependencies"].values() for one in extra)]
    names = {re.split(r"[\[<>=!~ ]", one)[0] for one in wanted} - {PROJECT["name"]}
    readme = (ROOT / "README.md").read_text(encoding="utf-8").lower()
    assert sorted(name for name in names if name.lower() not in readme) == []


class _Captured(Exception):
    """Carries the command-line application out of a console script's entry."""

    def __init__(self, app: typer.Typer) -> None:
        self.app = app


@pytest.mark.parametrize("script", PROJECT["scripts"])
def test_every_command_has_help_with_an_example(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def capture(app: typer.Typer, *arguments: object, **options: object) -> None:
        raise _Captured(app)

    monkeypatch.setattr(typer.Typer, "__call__", capture)
    module, _, name = PROJECT["scripts"][script].partition(":")
    try:
        with pytest.raises(_Captured) as caught:
            getattr(importlib.import_module(module), name)()
    finally:
        structlog.reset_defaults()
    command = typer.main.get_command(caught.value.app)
    assert [path for path, help_text in helps(command, script) if "xample" not in help_text] == []


def helps(command: click.Command, path: str) -> Iterator[tuple[str, str]]:
    """Every command below (and including) this one that does something, with its help."""
    below = getattr(command, "commands", None)
    if below is None:
        yield path, command.help or ""
    else:
        for name, one in below.items():
            yield from helps(one, f"{path} {name}")
