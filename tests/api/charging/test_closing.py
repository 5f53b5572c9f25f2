"""Closing a month: complete lists, a seal a chain, red invoices in parts, and the way of a dispute over HTTP."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import select

from api.charging.corrections import Proposal, propose_correction
from api.charging.disputes import raise_dispute
from api.charging.invoices import record_invoice
from api.charging.months import close_month, sealed_chains
from api.charging.months_checklist import checklist
from api.charging.statements import finalize_statement, prepare_statement
from api.errors import Refused
from api.verify.checks import all_checks, verify
from store.database import Database
from store.errors import AppendOnly
from store.tables.accounts import Role
from store.tables.charging import InvoiceKind, Statement
from store.tables.disputes import CorrectionKind, MonthSeal
from tests.api.charging.building import (
    CUSTOMER,
    FINANCE,
    FIRM,
    HOST,
    INSTRUMENT,
    MANAGER,
    MINUTE,
    OFFICER,
    County,
    build,
)
from tests.support.api_client import ApiClient, in_process, test_parts
from tests.support.usage import NINE
from wire.clock import ManualClock, to_ms

MARCH = 202603
AFTER = timedelta(days=31)
BLUE = "26330000000000000001"


def clean_charge(county: County, start_ms: int = NINE) -> str:
    booking_id = county.book(start_ms)
    county.use(booking_id, 30, start_ms)
    charge_id = county.charge(booking_id).charge_id
    assert charge_id is not None
    return charge_id


def bill(county: County) -> Statement:
    draft = county.do(prepare_statement, HOST, FIRM, MARCH, who=MANAGER)
    final: Statement = county.do(finalize_statement, draft.statement_id, who=MANAGER)
    return final


def open_points(county: County) -> dict[str, int]:
    with county.database.read() as session:
        return {point.what: point.count for point in checklist(session, HOST, MARCH)}


@pytest.fixture
def web(database: Database, tmp_path) -> Iterator[tuple[County, ApiClient]]:
    county = build(database, tmp_path)
    parts = test_parts(database, county.series, ManualClock(to_ms(county.now + AFTER)))
    with in_process(parts) as nobody:
        yield county, nobody
    county.series.close()


def test_a_dispute_and_a_correction_that_wait_hold_the_month(county):
    charge_id = clean_charge(county)
    bill(county)
    county.do(raise_dispute, charge_id, "x", who=CUSTOMER)
    county.do(propose_correction, charge_id, Proposal(CorrectionKind.STANDS, "why", "what"), who=MANAGER)
    assert open_points(county) == {"undecided_anomalies": 1, "open_disputes": 1, "waiting_corrections": 1}
    with pytest.raises(Refused) as caught:
        county.do(close_month, HOST, MARCH, who=FINANCE, now=county.now + AFTER)
    assert caught.value.code == "month_not_done"


def test_every_chain_is_sealed_and_the_seals_are_found_broken_when_a_row_changes(county):
    clean_charge(county)
    statement = bill(county)
    [closed] = county.do(close_month, HOST, MARCH, who=FINANCE, now=county.now + AFTER)
    by_chain = {seal.chain.partition(":")[0]: seal for seal in closed.chains}
    assert set(by_chain) == {"charges", "statements", "usage", "audit"}
    assert (by_chain["charges"].row_count, by_chain["charges"].row_sum) == (1, 20_000)
    assert (by_chain["statements"].row_count, by_chain["statements"].row_sum) == (1, statement.total_fen)
    assert by_chain["usage"].row_sum == 30 * MINUTE
    assert by_chain["charges"].sha256 == closed.seal.sha256
    with county.database.read() as session:
        assert sealed_chains(session, HOST, MARCH) == tuple(sorted(closed.chains, key=lambda seal: seal.chain))
        assert [one.name for one in verify(session, all_checks()) if one.finding] == []
    with pytest.raises(AppendOnly), county.database.write() as session:
        session.connection().exec_driver_sql("UPDATE month_seal SET row_sum = 0")


def test_what_grows_after_the_lock_leaves_the_seals_as_they_were(county):
    clean_charge(county)
    bill(county)
    county.do(close_month, HOST, MARCH, who=FINANCE, now=county.now + AFTER)
    clean_charge(county, NINE + 300 * MINUTE)
    with county.database.read() as session:
        assert session.scalars(select(MonthSeal)).first() is not None
        assert [one.name for one in verify(session, all_checks()) if one.finding] == []


def test_an_invoice_is_taken_back_in_parts_and_issued_anew_for_what_was_taken(county):
    clean_charge(county)
    statement = bill(county)

    def invoice(number, kind, reverses=None, fen=None):
        return county.do(record_invoice, statement.statement_id, number, kind, county.now, reverses, fen, who=MANAGER)

    invoice(BLUE, InvoiceKind.BLUE)
    assert invoice("26330000000000000002", InvoiceKind.RED, BLUE, 5_000).amount_fen == -5_000
    with pytest.raises(Refused) as caught:
        invoice("26330000000000000003", InvoiceKind.RED, BLUE, 15_001)
    assert caught.value.code == "bad_amount"
    assert invoice("26330000000000000003", InvoiceKind.BLUE).amount_fen == 5_000
    assert invoice("26330000000000000004", InvoiceKind.RED, BLUE).amount_fen == -15_000
    with pytest.raises(Refused) as caught:
        invoice("26330000000000000005", InvoiceKind.RED, BLUE)
    assert caught.value.code == "invoice_already_reversed"
    with county.database.read() as session:
        assert [one.name for one in verify(session, all_checks()) if one.finding] == []


def test_the_officer_reads_the_list_and_closes_the_month_over_http(web):
    county, nobody = web
    clean_charge(county)
    officer = nobody.signed_in(Role.COUNTY_OFFICER)
    manager = nobody.signed_in(Role.LAB_MANAGER, org_id="org-h01", host_id=HOST)
    where = f"/hosts/{HOST}/months/{MARCH}"
    told = manager.get(f"{where}/checklist").json()
    assert [(point["what"], point["count"]) for point in told["open"]] == [("unbilled_charges", 1)]
    refused = officer.post(f"{where}/close")
    assert (refused.status_code, refused.json()["code"]) == (409, "month_not_done")
    bill(county)
    assert officer.get(f"{where}/checklist").json()["open"] == []
    closed = officer.post(f"{where}/close").json()
    assert (closed["charge_count"], closed["sum_yuan"], closed["already"]) == (1, "200.00", False)
    assert officer.get(f"{where}/checklist").json()["state"] == "locked"
    assert manager.post(f"{where}/close").status_code == 403
    stranger = nobody.signed_in(Role.LAB_MANAGER, org_id="org-h01", host_id="h02")
    assert stranger.get(f"{where}/checklist").status_code == 403
    assert officer.get(f"/hosts/{HOST}/months/202613/checklist").status_code == 422
    assert officer.get(f"/hosts/h99/months/{MARCH}/checklist").status_code == 404


def test_from_an_objection_to_a_new_charge_and_a_file_over_http(web):
    county, nobody = web
    charge_id = clean_charge(county)
    firm = nobody.signed_in(Role.SME, org_id=FIRM)
    first = nobody.signed_in(Role.LAB_MANAGER, org_id="org-h01", host_id=HOST)
    second = nobody.signed_in(Role.COUNTY_OFFICER)
    draft = first.post("/statements", {"host_id": HOST, "payer_org": FIRM, "month": MARCH}).json()
    where = f"/statements/{draft['statement_id']}"
    assert firm.get(where).status_code == 404
    issued = first.post(f"{where}/issue")
    assert issued.status_code == 201, issued.text
    assert firm.get(where).json()["dispute_until"] is not None
    objected = firm.post(f"/charges/{charge_id}/disputes", {"reason": "we left early", "line_no": 1})
    assert objected.status_code == 201, objected.text
    assert [one["charge_id"] for one in first.get("/disputes?open_only=true").json()["items"]] == [charge_id]
    use = firm.get(f"/charges/{charge_id}/explain").json()["uses"][0]
    asked = {
        "kind": "metered",
        "reason": "it idled",
        "evidence": "log book",
        "session_id": use["session_id"],
        "metered_ms": 0,
    }
    proposed = first.post(f"/charges/{charge_id}/corrections", asked)
    assert proposed.status_code == 201, proposed.text
    decision = {"approved": True, "note": "checked", "body_sha256": proposed.json()["body_sha256"]}
    step = f"/corrections/{proposed.json()['correction_id']}/decision"
    assert first.post(step, decision).json()["code"] == "same_person"
    decided = second.post(step, decision)
    assert (decided.status_code, decided.json()["approved"]) == (201, True), decided.text
    assert firm.get(f"/disputes/{objected.json()['dispute_id']}").json()["outcome"] == "corrected"
    told = firm.get(f"/charges/{charge_id}/explain").json()
    assert [one["total_fen"] for one in told["revisions"]] == [20_000, -20_000, 0]
    assert first.get(f"{where}/file?format=csv").content.startswith(b"\xef\xbb\xbf")
    assert firm.get(f"{where}/file?format=xlsx").content.startswith(b"PK")
    assert INSTRUMENT
    assert OFFICER
    assert [row["payer_org"] for row in second.get("/ageing").json()] == []
