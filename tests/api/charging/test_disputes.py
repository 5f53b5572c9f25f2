"""A payer objects, the lab answers with evidence, another person decides; nothing is edited and nothing is lost."""

from datetime import timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from api.charging.anomalies import decide_anomaly
from api.charging.corrections import Proposal, decide_correction, propose_correction
from api.charging.disputes import raise_dispute, withdraw_dispute
from api.charging.reversal import reverse_charge
from api.charging.statements import finalize_statement, prepare_statement
from api.charging.statements_window import issue_statement, set_dispute_days
from api.errors import Refused
from store.errors import AppendOnly
from store.tables.audit import Anomaly, AnomalyDecision, Verdict
from store.tables.charging import Charge
from store.tables.disputes import Correction, CorrectionKind, Dispute, DisputeEnd
from tests.api.charging.building import (
    CUSTOMER,
    FINANCE,
    FIRM,
    HOST,
    MANAGER,
    OFFICER,
    RIVAL,
    SECOND,
    STRANGER,
    WORKER,
    County,
)

pytestmark = pytest.mark.slow_on_postgresql

MONTH = 202603
STANDS = Proposal(CorrectionKind.STANDS, "as metered", "power curve")
GONE = Proposal(CorrectionKind.WITHDRAWAL, "samples were spoilt", "report 7")


def refused(county: County, *step: object, who=CUSTOMER, now=None) -> Refused:
    with pytest.raises(Refused) as caught:
        county.do(*step, who=who, now=now)
    return caught.value


def dispute(county: County, charge_id: str, line_no: int | None = None, now=None) -> Dispute:
    found: Dispute = county.do(raise_dispute, charge_id, "we left early", line_no, who=CUSTOMER, now=now)
    return found


def propose(county: County, charge_id: str, proposal: Proposal = STANDS, who=MANAGER) -> Correction:
    found: Correction = county.do(propose_correction, charge_id, proposal, who=who)
    return found


def decide(county: County, correction: Correction, approved: bool = True, who=SECOND):
    step = (decide_correction, correction.correction_id, approved, "checked", correction.body_sha256, county.series)
    return county.do(*step, who=who)


def end_of(county: County, found: Dispute) -> str | None:
    with county.database.read() as session:
        end = session.get(DisputeEnd, found.dispute_id)
        return None if end is None else end.outcome


def draft(county: County):
    return county.do(prepare_statement, HOST, FIRM, MONTH, who=MANAGER)


def test_an_objection_is_kept_with_its_line_and_keeps_the_charge_out_of_a_reward(county):
    charge_id = county.charged()
    found = dispute(county, charge_id, 1)
    assert (found.charge_id, found.line_no, found.payer_org, found.raised_by) == (charge_id, 1, FIRM, "customer")
    with county.database.read() as session:
        [anomaly] = session.scalars(select(Anomaly).where(Anomaly.rule == "disputed"))
        assert (anomaly.subject_id, anomaly.blocks_reward) == (charge_id, True)


def test_an_officer_does_not_decide_the_anomaly_of_an_open_dispute_past_its_answer(county):
    charge_id = county.charged()
    found = dispute(county, charge_id)
    with county.database.read() as session:
        [anomaly] = session.scalars(select(Anomaly).where(Anomaly.rule == "disputed"))
    step = (decide_anomaly, anomaly.anomaly_id)
    for verdict in Verdict:
        assert refused(county, *step, verdict, "seen", who=OFFICER).code == "disputed"
    county.do(withdraw_dispute, found.dispute_id, "we were wrong", who=CUSTOMER)
    assert refused(county, *step, Verdict.CLEARED, "seen", who=OFFICER).code == "already_decided"


def test_only_the_payer_objects_once_at_a_time_with_a_reason_and_to_a_line_that_exists(county):
    charge_id = county.charged()
    assert refused(county, raise_dispute, charge_id, "x", who=RIVAL).status == 404
    assert refused(county, raise_dispute, charge_id, "x", who=MANAGER).status == 403
    assert refused(county, raise_dispute, charge_id, "x", who=OFFICER).status == 403
    assert refused(county, raise_dispute, charge_id, "  ").code == "reason_missing"
    assert refused(county, raise_dispute, charge_id, "x", 9).code == "no_such_line"
    dispute(county, charge_id)
    assert refused(county, raise_dispute, charge_id, "again").code == "dispute_open"


def test_the_window_is_data_and_ends_to_the_millisecond(county):
    charge_id = county.charged()
    county.do(set_dispute_days, HOST, 3, county.now, who=OFFICER)
    issued = county.do(issue_statement, draft(county).statement_id, who=MANAGER)
    assert issued.dispute_until == county.now + timedelta(days=3)
    assert refused(county, raise_dispute, charge_id, "x", now=issued.dispute_until).code == "dispute_window_over"
    assert dispute(county, charge_id, now=issued.dispute_until - timedelta(milliseconds=1)).dispute_no == 1


def test_a_statement_that_was_never_issued_can_be_objected_to_as_long_after_it_became_final(county):
    charge_id = county.charged()
    final = county.do(finalize_statement, draft(county).statement_id, who=MANAGER)
    assert final.dispute_until == county.now + timedelta(days=7)
    assert refused(county, raise_dispute, charge_id, "x", now=final.dispute_until).code == "dispute_window_over"
    dispute(county, charge_id, now=final.dispute_until - timedelta(milliseconds=1))


def test_terms_begin_later_than_now_and_than_the_last_ones(county):
    county.do(set_dispute_days, HOST, 3, county.now, who=FINANCE)
    for valid_from in (county.now, county.now - timedelta(seconds=1)):
        assert refused(county, set_dispute_days, HOST, 5, valid_from, who=OFFICER).code == "terms_not_later"
    assert refused(county, set_dispute_days, HOST, 61, county.now, who=OFFICER).code == "bad_days"
    assert refused(county, set_dispute_days, HOST, 5, county.now, who=MANAGER).status == 403


def test_a_draft_in_its_window_or_with_a_disputed_line_does_not_become_final(county):
    charge_id = county.charged()
    issued = county.do(issue_statement, draft(county).statement_id, who=MANAGER)
    step = (finalize_statement, issued.statement_id)
    assert refused(county, *step, who=MANAGER).code == "dispute_window_open"
    found = dispute(county, charge_id)
    error = refused(county, *step, who=MANAGER, now=issued.dispute_until)
    assert (error.code, error.facts["charges"]) == ("disputed", [charge_id])
    decide(county, propose(county, charge_id))
    assert end_of(county, found) == "stands"
    assert county.do(*step, who=MANAGER, now=issued.dispute_until).state == "final"


def test_a_draft_that_changed_is_issued_anew(county):
    county.charged()
    issued = county.do(issue_statement, draft(county).statement_id, who=MANAGER)
    assert draft(county).issued_at == issued.issued_at
    county.charged(20, 1_772_413_200_000 + 5 * 3_600_000)
    assert draft(county).issued_at is None


def test_whoever_proposed_does_not_decide_and_nothing_happens_before_somebody_else_does(county):
    charge_id = county.charged()
    found = dispute(county, charge_id)
    correction = propose(county, charge_id, GONE)
    step = (decide_correction, correction.correction_id, True, "ok", correction.body_sha256, county.series)
    assert refused(county, *step, who=MANAGER).code == "same_person"
    assert refused(county, *step, who=STRANGER).status == 404
    assert refused(county, *step, who=CUSTOMER).status == 403
    assert refused(county, *step, who=WORKER).status == 403
    wrong = (decide_correction, correction.correction_id, True, "ok", "0" * 64, county.series)
    assert refused(county, *wrong, who=SECOND).code == "not_what_was_read"
    with county.database.read() as session:
        assert [charge.revision for charge in session.scalars(select(Charge))] == [1]
    assert end_of(county, found) is None


def test_a_proposal_that_is_turned_down_leaves_the_dispute_open_for_another(county):
    charge_id = county.charged()
    found = dispute(county, charge_id)
    first = propose(county, charge_id)
    assert refused(county, propose_correction, charge_id, GONE, who=MANAGER).code == "correction_waits"
    decide(county, first, approved=False)
    assert end_of(county, found) is None
    decide(county, propose(county, charge_id, GONE), who=OFFICER)
    assert end_of(county, found) == "corrected"
    step = (decide_correction, first.correction_id, True, "ok", first.body_sha256, county.series)
    assert refused(county, *step, who=SECOND).code == "already_decided"


def test_the_payer_takes_an_objection_back_and_its_anomaly_is_cleared(county):
    charge_id = county.charged()
    found = dispute(county, charge_id)
    assert refused(county, withdraw_dispute, found.dispute_id, "x", who=MANAGER).status == 403
    county.do(withdraw_dispute, found.dispute_id, "the curve shows it", who=CUSTOMER)
    assert end_of(county, found) == "withdrawn"
    assert refused(county, withdraw_dispute, found.dispute_id, "x").code == "dispute_ended"
    with county.database.read() as session:
        [decision] = session.scalars(select(AnomalyDecision))
        assert decision.verdict == "cleared"
    assert dispute(county, charge_id).dispute_no == 2


def test_a_disputed_charge_is_not_taken_back_past_its_dispute(county):
    charge_id = county.charged()
    dispute(county, charge_id)
    assert refused(county, reverse_charge, charge_id, "x", who=MANAGER).code == "disputed"


def test_what_is_no_live_charge_is_neither_disputed_nor_corrected(county):
    charge_id = county.charged()
    reversal = county.do(reverse_charge, charge_id, "x", who=MANAGER)
    for one in (charge_id, reversal.charge_id):
        assert refused(county, raise_dispute, one, "x").code == "not_a_live_charge"
        assert refused(county, propose_correction, one, GONE, who=MANAGER).code == "not_a_live_charge"


def test_a_charge_stands_only_where_somebody_objected(county):
    charge_id = county.charged()
    assert refused(county, propose_correction, charge_id, STANDS, who=MANAGER).code == "bad_correction"


def test_the_database_itself_wants_two_people_and_edits_nothing(county):
    charge_id = county.charged()
    dispute(county, charge_id)
    correction = propose(county, charge_id)
    row = f"('{correction.correction_id}', true, 'x', 'manager', 'manager', 1)"
    columns = "correction_id, approved, note, proposed_by, decided_by, decided_at"
    with pytest.raises(IntegrityError), county.database.write() as session:
        session.connection().exec_driver_sql(f"INSERT INTO correction_decision ({columns}) VALUES {row}")
    for table in ("dispute", "correction"):
        with pytest.raises(AppendOnly), county.database.write() as session:
            session.connection().exec_driver_sql(f"UPDATE {table} SET reason = 'other'")
