"""Exports and bundles over HTTP and on the command line: all formats, recorded with who and when, and verified."""

import io
import json
import zipfile
from pathlib import Path

import pytest
from sqlalchemy import select
from typer.testing import CliRunner

from api.commands import app
from api.exports.files import parse_any
from api.exports.rows import content_sha256
from store.canonical import sha256_hex
from store.database import Database
from store.tables.accounts import Role
from store.tables.audit import AuditEvent
from store.tables.rewards import ExportFile
from tests.api.rewards.building import RewardCounty, build_rewards
from tests.support.api_client import in_process, test_parts
from wire.clock import ManualClock, to_ms

TYPES = {
    "csv": "text/csv; charset=utf-8",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "json": "application/json",
}


@pytest.fixture
def county(sqlite_database: Database, tmp_path: Path):
    """The county of the reward tests; what differs between engines is shown elsewhere."""
    built = build_rewards(sqlite_database, tmp_path)
    yield built
    built.series.close()


def test_every_format_is_served_recorded_and_of_the_same_content(county: RewardCounty) -> None:
    county.paid()
    run = county.lock(county.prepare())
    parts = test_parts(county.database, county.series, ManualClock(to_ms(county.now)))
    with in_process(parts) as anonymous:
        finance, customer = anonymous.signed_in(Role.FINANCE), anonymous.signed_in(Role.SME)
        hashes = set()
        for name, media_type in TYPES.items():
            for path in (f"/reward-runs/{run.run_id}/export.{name}", f"/reward-exports/FLAT10/2026.{name}"):
                answer = finance.get(path)
                assert (answer.status_code, answer.headers["content-type"]) == (200, media_type)
                assert answer.headers["content-disposition"].endswith(f'FLAT10-2026-run1.{name}"')
                assert content_sha256(parse_any(answer.content)) == answer.headers["x-content-sha256"]
                hashes.add(answer.headers["x-content-sha256"])
        assert len(hashes) == 1
        assert finance.get(f"/reward-runs/{run.run_id}/export.pdf").status_code == 422
        assert customer.get(f"/reward-runs/{run.run_id}/bundle.zip").status_code == 403
        bundles = [finance.get(f"/reward-runs/{run.run_id}/bundle.zip") for _ in range(2)]
        assert bundles[0].headers["content-type"] == "application/zip"
        assert bundles[0].content == bundles[1].content
    with county.database.read() as session:
        recorded = session.scalars(select(ExportFile).where(ExportFile.subject_id == run.run_id)).all()
        assert sorted(row.format for row in recorded) == ["csv", "csv", "json", "json", "xlsx", "xlsx"]
        assert all(row.created_at == county.now and row.created_by for row in recorded)
        taken = session.scalars(select(AuditEvent).where(AuditEvent.action == "reward_run.bundled")).all()
        assert len(taken) == 2
        assert json.loads(taken[0].body)["after"]["file_sha256"] == sha256_hex(bundles[0].content)


def test_the_command_line_exports_bundles_and_verifies(
    county: RewardCounty, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    county.paid()
    run = county.lock(county.prepare())
    monkeypatch.setenv("OPENLAB_DATABASE_URL", str(county.database.engine.url))
    cli = CliRunner()
    for name in TYPES:
        out = tmp_path / f"reward.{name}"
        command = ["export", "run", run.run_id, "--as", "finance", "--format", name, "--out", str(out)]
        assert cli.invoke(app, command).exit_code == 0
        verified = cli.invoke(app, ["verify", "export", str(out)])
        assert (verified.exit_code, verified.output.count("ok ")) == (0, 7), verified.output
    out = tmp_path / "run.zip"
    made = cli.invoke(app, ["bundle", run.run_id, "--as", "finance", "-o", str(out)])
    assert (made.exit_code, run.result_sha256 in made.output) == (0, True)
    assert cli.invoke(app, ["verify", "bundle", str(out)]).exit_code == 0
    with zipfile.ZipFile(io.BytesIO(out.read_bytes())) as packed:
        assert packed.testzip() is None
        assert json.loads(packed.read("run.json"))["run_id"] == run.run_id
