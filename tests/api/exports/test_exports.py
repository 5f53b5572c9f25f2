"""Exports of real runs: recorded, audited, marked DRAFT until the lock, and refused where there is no run."""

from dataclasses import replace

import pytest
from sqlalchemy import select

from api.errors import Refused
from api.exports.csv_file import parse_export, write_csv
from api.exports.rows import InstrumentRow, LineRow, RunRow, TotalRow, content_sha256, reward_rows
from api.exports.service import export_run, run_to_export
from api.rewards.steps import withdraw_run
from api.verify.runs import export_file, exports
from store.canonical import sha256_hex
from store.periods import PeriodKind
from store.tables.audit import AuditEvent
from store.tables.rewards import ExportFile
from tests.api.charging.building import CUSTOMER, FINANCE, INSTRUMENT, NINE
from tests.api.rewards.building import DAY, MANAGER, OFFICER, YEAR, RewardCounty


def refused(county: RewardCounty, step, *args, who=FINANCE) -> Refused:
    with pytest.raises(Refused) as caught:
        county.do(step, *args, who=who)
    return caught.value


def test_a_locked_run_is_exported_with_its_totals_and_lines(county: RewardCounty) -> None:
    paid, unpaid = county.paid(), county.tested(NINE + DAY)
    run = county.lock(county.prepare())
    export = county.do(export_run, run.run_id, who=FINANCE)
    head, total, instrument, *lines = parse_export(export.data)
    assert isinstance(head, RunRow)
    assert (head.status, head.period, head.payable_fen, head.result_sha256) == (
        "FINAL",
        "2026",
        4_000,
        run.result_sha256,
    )
    assert isinstance(total, TotalRow)
    assert (total.host_id, total.reward_fen, total.name_zh) == ("h01", 4_000, "示例单位")
    assert instrument == InstrumentRow("h01", INSTRUMENT, 2, 1, 40_000, "", 3_600)
    assert {line.charge_id: line.reason for line in lines if isinstance(line, LineRow)} == {
        paid: "eligible",
        unpaid: "unpaid",
    }
    assert export.file_name == "openlab-reward-FLAT10-2026-run1.csv"
    with county.database.read() as session:
        row = session.get_one(ExportFile, export.export_id)
        assert (row.row_count, row.total_fen, row.created_by) == (5, 4_000, "finance")
        assert (row.content_sha256, row.file_sha256) == (export.content_sha256, sha256_hex(export.data))
        assert content_sha256(reward_rows(session, run.run_id)) == export.content_sha256
        [event] = session.execute(select(AuditEvent).where(AuditEvent.action == "reward_run.exported")).scalars()
        assert (event.actor, export.content_sha256.encode() in event.body) == ("finance", True)


def test_a_file_that_left_before_there_were_instruments_in_it_still_verifies(county: RewardCounty) -> None:
    county.paid()
    run = county.lock(county.prepare())
    export = county.do(export_run, run.run_id, who=FINANCE)
    rows = [row for row in parse_export(export.data) if not isinstance(row, InstrumentRow)]
    with county.database.write() as session:
        now = session.get_one(ExportFile, export.export_id)
        columns = {column.key: getattr(now, column.key) for column in ExportFile.__mapper__.column_attrs}
        session.add(ExportFile(**columns | {"export_id": "OLD", "content_sha256": content_sha256(rows)}))
    with county.database.read() as session:
        assert list(exports(session)) == list(export_file(write_csv(rows))(session)) == []
        assert isinstance(rows[-1], LineRow)
        [said] = export_file(write_csv([*rows[:-1], replace(rows[-1], payer_org="org-other")]))(session)
        assert "payer_org='org-other'" in said.what


def test_a_run_that_waits_for_its_lock_leaves_as_a_draft_only(county: RewardCounty) -> None:
    county.paid()
    run = county.prepare()
    export = county.do(export_run, run.run_id, who=OFFICER)
    head = parse_export(export.data)[0]
    assert isinstance(head, RunRow)
    assert (head.status, export.is_draft, export.file_name) == (
        "DRAFT",
        True,
        "openlab-reward-FLAT10-2026-run1-DRAFT.csv",
    )


def test_a_period_without_a_run_says_how_to_prepare_one(county: RewardCounty) -> None:
    error = refused(county, lambda work: run_to_export(work.session, "FLAT10", PeriodKind.YEAR, YEAR))
    assert (error.status, error.code) == (404, "no_run")
    assert "openlab rewards prepare FLAT10 2026" in error.en
    assert "openlab rewards prepare FLAT10 2026" in error.zh


def test_a_withdrawn_run_is_not_exported(county: RewardCounty) -> None:
    county.paid()
    run = county.prepare()
    county.do(withdraw_run, run.run_id, "wrong month", who=OFFICER)
    assert refused(county, export_run, run.run_id).code == "run_withdrawn"
    error = refused(county, lambda work: run_to_export(work.session, "FLAT10", PeriodKind.YEAR, YEAR))
    assert error.code == "no_run"


def test_of_a_period_the_newest_locked_run_is_exported(county: RewardCounty) -> None:
    county.paid()
    first = county.lock(county.prepare())
    county.later()
    county.prepare()
    found = county.do(lambda work: run_to_export(work.session, "FLAT10", PeriodKind.YEAR, YEAR))
    assert found.run_id == first.run_id


@pytest.mark.parametrize("who", [MANAGER, CUSTOMER], ids=["manager", "customer"])
def test_managers_and_customers_export_nothing(county: RewardCounty, who) -> None:
    county.paid()
    assert refused(county, export_run, county.prepare().run_id, who=who).status == 403


def test_an_unknown_run_is_not_found(county: RewardCounty) -> None:
    assert refused(county, export_run, "01NOTHING").status == 404


def test_names_are_those_of_the_day_of_the_run(county: RewardCounty) -> None:
    """A host that is renamed later does not change what was exported, or what is exported again."""
    county.paid()
    run = county.lock(county.prepare())
    first = county.do(export_run, run.run_id, who=FINANCE)
    county.tamper("UPDATE org SET name_zh = '=新名称' WHERE org_id = 'org-h01'")
    assert county.do(export_run, run.run_id, who=FINANCE).data == first.data
