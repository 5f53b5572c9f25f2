"""`verify` finds nothing where nothing was changed, and names the row where one byte was."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select

from api.charging.months import close_month
from api.charging.reversal import reverse_charge
from api.exports.csv_file import parse_export, write_csv
from api.exports.service import export_run
from api.rewards.payments import record_reward_payments
from api.rewards.steps import withdraw_run
from api.verify.checks import all_checks, charge_checks, export_checks, run_checks, statement_checks, verify
from api.verify.finding import Finding, NamedCheck
from store.canonical import sha256_hex
from store.periods import SHANGHAI
from store.tables.audit import AuditEvent
from store.tables.charging import Charge, ChargeEvidence, Statement
from store.tables.registry import Affiliation
from store.tables.rewards import ExportFile, RewardInput, RewardRun
from store.tables.usage import UsageEntry, UsageRecordRow, UsageSession
from tests.api.charging.building import FINANCE, NINE
from tests.api.rewards.building import DAY, HOST, MARCH, OFFICER, RewardCounty


def findings(county: RewardCounty, checks: list[NamedCheck] | None = None) -> dict[str, Finding]:
    """What every check finds, by its name."""
    with county.database.read() as session:
        outcomes = list(verify(session, all_checks() if checks is None else checks))
    return {one.name: one.finding for one in outcomes if one.finding is not None}


def first(county: RewardCounty, column: Any, *where: Any) -> Any:
    with county.database.read() as session:
        return session.execute(select(column).where(*where).order_by(column)).scalars().first()


def live(county: RewardCounty) -> bytes:
    """Two tests paid, one taken back, one run locked, one prepared and withdrawn, exports; return the last file."""
    county.paid()
    county.paid(NINE + DAY, 30)
    county.later()  # what is recorded just before a run may have been committed after it had looked
    run = county.lock(county.prepare())
    county.later()
    county.do(reverse_charge, county.tested(NINE + 2 * DAY), "wrong meter", who=OFFICER)
    county.bill()
    county.do(withdraw_run, county.prepare().run_id, "only to see", who=OFFICER)
    exported: bytes = county.do(export_run, run.run_id, who=FINANCE).data
    return exported


def test_nothing_is_found_where_nothing_was_changed(county: RewardCounty) -> None:
    data = live(county)
    county.do(close_month, HOST, MARCH, who=FINANCE)
    assert findings(county) == {}
    assert findings(county, export_checks(data)) == {}
    assert findings(county, charge_checks(MARCH)) == {}
    with county.database.read() as session:
        number = session.execute(select(Statement.number)).scalars().first()
    assert findings(county, statement_checks(number)) == {}


def test_an_empty_database_holds(county: RewardCounty) -> None:
    assert findings(county) == {}


def test_what_comes_after_a_run_is_no_fault_of_the_run(county: RewardCounty) -> None:
    live(county)
    county.relate(Affiliation.AFFILIATED)
    county.later()
    county.paid(NINE + 5 * DAY)
    assert findings(county) == {}


def _record(county: RewardCounty) -> tuple[str, dict[str, object], str, str]:
    with county.database.read() as session:
        row = session.execute(select(UsageRecordRow).order_by(UsageRecordRow.agent_id, UsageRecordRow.seq)).scalars()
        one = row.first()
        assert one is not None
        payload = bytes(one.payload).replace(b'"running":', b'"runnin9":', 1)
    key = f"{one.agent_id}/{one.stream}/{one.seq}"
    sql = "UPDATE usage_record SET payload = :p WHERE agent_id = :a AND stream = :s AND seq = :q"
    return sql, {"p": payload, "a": one.agent_id, "s": one.stream, "q": one.seq}, "usage_record", key


def _entry(county: RewardCounty) -> tuple[str, dict[str, object], str, str]:
    with county.database.read() as session:
        one = session.execute(select(UsageEntry).where(UsageEntry.kind == "session")).scalars().first()
        assert one is not None
    key = f"{one.agent_id}/{one.stream}/{one.chain_seq}"
    sql = "UPDATE usage_entry SET quantity_ms = quantity_ms + 1 WHERE row_hash = :h"
    return sql, {"h": one.row_hash}, "usage_entry", key


def _session(county: RewardCounty) -> tuple[str, dict[str, object], str, str]:
    session_id = first(county, UsageSession.session_id)
    sql = "UPDATE usage_session SET odo_running_last_ms = odo_running_last_ms + 60000 WHERE session_id = :s"
    return sql, {"s": session_id}, "usage_session", session_id


def _booking_use(county: RewardCounty) -> tuple[str, dict[str, object], str, str]:
    session_id = first(county, UsageSession.session_id)
    sql = "UPDATE booking_use SET running_ms = running_ms + 1 WHERE session_id = :s"
    return sql, {"s": session_id}, "booking_use", session_id


def _line(county: RewardCounty) -> tuple[str, dict[str, object], str, str]:
    charge = first(county, Charge.charge_id, Charge.revision == 1)
    return (
        "UPDATE charge_line SET amount_fen = amount_fen + 1 WHERE charge_id = :c",
        {"c": charge},
        "charge_line",
        charge,
    )


def _header(county: RewardCounty) -> tuple[str, dict[str, object], str, str]:
    charge = first(county, Charge.charge_id, Charge.revision == 1)
    return "UPDATE charge SET coverage_bp = 9999 WHERE charge_id = :c", {"c": charge}, "charge", charge


def _reversal(county: RewardCounty) -> tuple[str, dict[str, object], str, str]:
    charge = first(county, Charge.charge_id, Charge.revision == 2)
    return "UPDATE charge SET service_month = 202602 WHERE charge_id = :c", {"c": charge}, "charge", charge


def _evidence(county: RewardCounty) -> tuple[str, dict[str, object], str, str]:
    with county.database.read() as session:
        row = session.execute(select(ChargeEvidence).where(ChargeEvidence.kind == "samples")).scalars().first()
        assert row is not None
        content = bytearray(row.content)
    content[len(content) // 2] ^= 1
    sql = "UPDATE charge_evidence SET content = :b WHERE charge_id = :c AND kind = 'samples'"
    return sql, {"b": bytes(content), "c": row.charge_id}, "charge_evidence", f"{row.charge_id}/samples"


def _tariff(county: RewardCounty) -> tuple[str, dict[str, object], str, str]:
    sql = "UPDATE tariff_version SET body = replace(body, '40000', '40001')"
    return sql, {}, "tariff_version", "/1"


def _statement(county: RewardCounty) -> tuple[str, dict[str, object], str, str]:
    number = first(county, Statement.number, Statement.total_fen > 0)
    return "UPDATE statement SET total_fen = total_fen + 1 WHERE number = :n", {"n": number}, "statement", number


def _statement_hash(county: RewardCounty) -> tuple[str, dict[str, object], str, str]:
    number = first(county, Statement.number)
    sql = "UPDATE statement SET finalized_by = 'officer' WHERE number = :n"
    return sql, {"n": number}, "statement", number


def _settlement(county: RewardCounty) -> tuple[str, dict[str, object], str, str]:
    charge = first(county, Charge.charge_id, Charge.revision == 1)
    return "UPDATE settlement SET amount_fen = amount_fen + 1 WHERE charge_id = :c", {"c": charge}, "settlement", charge


def _audit(county: RewardCounty) -> tuple[str, dict[str, object], str, str]:
    with county.database.read() as session:
        row = session.execute(select(AuditEvent).where(AuditEvent.action == "payment.recorded")).scalars().first()
        assert row is not None
        body = bytes(row.body).replace(b'"payment.recorded"', b'"payment.recordee"')
    sql = "UPDATE audit_event SET body = :b WHERE chain_id = :c AND seq = :s"
    return sql, {"b": body, "c": row.chain_id, "s": row.seq}, "audit_event", f"{row.chain_id}/{row.seq}"


def _audit_column(county: RewardCounty) -> tuple[str, dict[str, object], str, str]:
    with county.database.read() as session:
        row = session.execute(select(AuditEvent).where(AuditEvent.action == "payment.recorded")).scalars().first()
        assert row is not None
    sql = "UPDATE audit_event SET actor = 'somebody' WHERE chain_id = :c AND seq = :s"
    return sql, {"c": row.chain_id, "s": row.seq}, "audit_event", f"{row.chain_id}/{row.seq}"


def _policy(county: RewardCounty) -> tuple[str, dict[str, object], str, str]:
    sql = "UPDATE reward_policy_version SET body = replace(body, '1000', '1001') WHERE policy_id = 'FLAT10'"
    return sql, {}, "reward_policy_version", "FLAT10/1"


def _input(county: RewardCounty) -> tuple[str, dict[str, object], str, str]:
    charge = first(county, RewardInput.charge_id, RewardInput.reason == "eligible")
    run = first(county, RewardRun.run_id, RewardRun.state == "locked")
    sql = "UPDATE reward_input SET eligible_fen = eligible_fen - 1 WHERE charge_id = :c AND run_id = :r"
    return sql, {"c": charge, "r": run}, "reward_input", f"{run}/{charge}"


def _missing_input(county: RewardCounty) -> tuple[str, dict[str, object], str, str]:
    charge = first(county, RewardInput.charge_id, RewardInput.reason == "eligible")
    run = first(county, RewardRun.run_id, RewardRun.state == "locked")
    sql = "DELETE FROM reward_input WHERE charge_id = :c AND run_id = :r"
    return sql, {"c": charge, "r": run}, "reward_input", f"{run}/{charge}"


def _result(county: RewardCounty) -> tuple[str, dict[str, object], str, str]:
    run = first(county, RewardRun.run_id, RewardRun.state == "locked")
    sql = "UPDATE reward_result SET reward_fen = reward_fen + 1, payable_fen = payable_fen + 1 WHERE run_id = :r"
    return sql, {"r": run}, "reward_result", f"{run}/{HOST}"


def _explanation(county: RewardCounty) -> tuple[str, dict[str, object], str, str]:
    run = first(county, RewardRun.run_id, RewardRun.state == "locked")
    sql = "UPDATE reward_result SET explanation = replace(explanation, '示例单位', '他人单位') WHERE run_id = :r"
    return sql, {"r": run}, "reward_run", run


def _run(county: RewardCounty) -> tuple[str, dict[str, object], str, str]:
    run = first(county, RewardRun.run_id, RewardRun.state == "locked")
    return "UPDATE reward_run SET payable_fen = payable_fen + 1 WHERE run_id = :r", {"r": run}, "reward_run", run


def _export(county: RewardCounty) -> tuple[str, dict[str, object], str, str]:
    export = first(county, ExportFile.export_id)
    sql = "UPDATE export_file SET content_sha256 = input_sha256 FROM reward_run WHERE run_id = subject_id"
    return sql, {}, "export_file", export


def _step(county: RewardCounty) -> tuple[str, dict[str, object], str, str]:
    run = first(county, RewardRun.run_id, RewardRun.state == "locked")
    sql = "UPDATE reward_step SET done_at = done_at - 172800000 WHERE run_id = :r AND action = 'approve'"
    return sql, {"r": run}, "reward_step", f"{run}/3"


def _payment(county: RewardCounty) -> tuple[str, dict[str, object], str, str]:
    run = first(county, RewardRun.run_id, RewardRun.state == "locked")
    day = county.now.astimezone(SHANGHAI).date()
    county.do(record_reward_payments, run, {HOST: 1_000}, day, "BANK-R1", who=FINANCE)
    assert findings(county, run_checks(run)) == {}
    sql = "UPDATE reward_payment SET amount_fen = amount_fen + 1000000 WHERE run_id = :r"
    return sql, {"r": run}, "reward_payment", f"{run}/{HOST}/1"


TAMPERINGS = [
    _record, _entry, _session, _booking_use, _line, _header, _reversal, _evidence, _tariff, _statement, _statement_hash,
    _settlement, _audit, _audit_column, _policy, _input, _missing_input, _result, _explanation, _run, _export,
    _step, _payment,
]  # fmt: skip


@pytest.mark.slow_on_postgresql
@pytest.mark.parametrize("tampering", TAMPERINGS, ids=lambda one: one.__name__.strip("_"))
def test_one_changed_row_is_named(
    county: RewardCounty, tampering: Callable[[RewardCounty], tuple[str, dict[str, object], str, str]]
) -> None:
    live(county)
    sql, values, table, key = tampering(county)
    county.tamper(sql, **values)
    found = findings(county)
    named = [one for one in found.values() if one.table == table and key in one.key]
    assert named, found


@pytest.mark.slow_on_postgresql
@pytest.mark.parametrize("tampering", [_line, _header, _evidence, _tariff], ids=lambda one: one.__name__.strip("_"))
def test_the_charges_of_the_month_show_it_and_those_of_another_do_not(county: RewardCounty, tampering) -> None:
    live(county)
    sql, values, _, _ = tampering(county)
    county.tamper(sql, **values)
    assert findings(county, charge_checks(MARCH))
    if tampering is not _tariff:
        assert not findings(county, charge_checks(202604))


def test_a_charge_posted_into_a_closed_month_breaks_its_seal(county: RewardCounty) -> None:
    live(county)
    county.do(close_month, HOST, MARCH, who=FINANCE)
    charge = first(county, Charge.charge_id, Charge.revision == 1)
    county.copied(charge)
    assert findings(county)["closed months (22)"].key == f"{HOST}/{MARCH}"


def test_an_affiliate_that_was_counted_is_found_in_the_live_data(county: RewardCounty) -> None:
    live(county)
    county.relate(Affiliation.AFFILIATED)
    county.tamper("UPDATE affiliation_event SET recorded_at = effective_at")
    found = findings(county)
    assert "affiliated at the time" in found["affiliates (17)"].what
    assert "the facts say affiliated" in found["reward inputs"].what


def test_internal_use_that_was_counted_is_found_in_the_live_data(county: RewardCounty) -> None:
    live(county)
    county.tamper("UPDATE charge SET payer_org = 'org-h01' WHERE revision = 1")
    assert "own use" in findings(county)["internal use (16)"].what


def test_an_entry_whose_hashes_were_all_made_again_is_still_found_by_what_rests_on_it(county: RewardCounty) -> None:
    """Somebody who can compute hashes changes a record and its hash: the chain's digest no longer covers it."""
    live(county)
    with county.database.read() as session:
        one = session.execute(select(UsageRecordRow).where(UsageRecordRow.kind == "close")).scalars().first()
        assert one is not None
    fields = json.loads(one.payload)
    fields["odo"]["running"] += 3_600_000
    payload = json.dumps(fields, separators=(",", ":")).encode()
    county.tamper(
        "UPDATE usage_record SET payload = :p, payload_sha256 = :h WHERE agent_id = :a AND stream = :s AND seq = :q",
        p=payload, h=sha256_hex(payload), a=one.agent_id, s=one.stream, q=one.seq,
    )  # fmt: skip
    found = findings(county)
    assert found["usage chains"].table == "usage_entry"
    assert found["sessions folded again"].table == "usage_session"
    assert found["charge evidence"].table == "usage_record"


def test_a_carried_amount_that_nobody_carried_out_is_found(county: RewardCounty) -> None:
    live(county)
    county.tamper("UPDATE reward_result SET carried_in_fen = -7, carried_out_fen = -7")
    assert findings(county)["carried amounts"].key.endswith(f"/{HOST}")


def test_a_file_that_was_changed_does_not_verify(county: RewardCounty) -> None:
    data = live(county)
    for old, new in ((b"6000", b"9000"), ("示例单位".encode(), "他人单位".encode()), (b"FINAL", b"DRAFT")):
        changed = data.replace(old, new, 1)
        assert changed != data
        assert findings(county, export_checks(changed))


def test_a_file_that_fits_in_itself_but_is_not_the_run_does_not_verify(county: RewardCounty) -> None:
    """Its own content hash is right; it is the ledger that disagrees."""
    run, total, *lines = parse_export(live(county))
    forged = write_csv([run, replace(total, payable_fen=total.payable_fen + 100_000), *lines])  # type: ignore[call-arg]
    assert "the run says" in findings(county, export_checks(forged))["exported file"].what


def test_a_run_that_is_verified_alone_names_its_rows(county: RewardCounty) -> None:
    live(county)
    sql, values, table, key = _input(county)
    county.tamper(sql, **values)
    assert findings(county, run_checks(str(values["r"])))["reward inputs"] == Finding(
        table, key, "stored eligible 39999 of 40000 fen, the facts say eligible 40000 of 40000 fen"
    )
