"""What two people record of a booking keeps its fees out where a policy looks at it, from its approval until that of
its withdrawal; and where a payer is registered."""

import pytest
from sqlalchemy import text, update
from sqlalchemy.exc import IntegrityError

from api.bundle.service import bundle_bytes
from api.charging.reversal import reverse_charge
from api.charging.service import recharge_booking
from api.rewards.marks import decide_mark, find_mark, marks_of, propose_mark, withdraw_mark
from api.rewards.whatif import Asked, what_if
from api.verify.checks import bundle_checks, run_checks, verify
from store.errors import AppendOnly
from store.periods import PeriodKind
from store.tables.charging import Charge
from store.tables.registry import Org
from store.tables.rewards import MarkCode, RewardMarkDecision, RewardRun
from tests.api.bundle.test_checker import said_of
from tests.api.charging.building import FINANCE, FIRM, MANAGER, NINE, OFFICER
from tests.api.rewards.building import DAY, SECOND_OFFICER, YEAR, RewardCounty
from tests.api.rewards.test_steps import refused

pytestmark = pytest.mark.slow_on_postgresql

LOOKS = {"exclusions": sorted(["affiliated", *(code.value for code in MarkCode)])}


def mark(county: RewardCounty, charge: str, code: MarkCode = MarkCode.STATUTORY) -> str:
    """Proposed by the first officer, approved by finance; return its id."""
    row = county.do(propose_mark, code, "order of the bureau, no. 7", charge, who=OFFICER)
    county.do(decide_mark, row.mark_id, True, who=FINANCE)
    return row.mark_id


def booking_of(county: RewardCounty, charge: str) -> str:
    with county.database.read() as session:
        return session.get_one(Charge, charge).booking_id


def nothing_is_found(county: RewardCounty, run: RewardRun, folder) -> None:
    """By verification, by the bundle held against the ledger, and by the checker alone."""
    with county.database.read() as session:
        data = bundle_bytes(session, session.get_one(RewardRun, run.run_id))
        outcomes = [*verify(session, run_checks(run.run_id)), *verify(session, bundle_checks(data))]
    assert [one.finding for one in outcomes if one.finding] == []
    assert said_of(data, folder) == ""


def test_each_mark_keeps_a_fee_out_under_policies_that_look_at_it_alone(county: RewardCounty, tmp_path) -> None:
    charges = {code.value: county.tested(NINE + day * DAY) for day, code in enumerate(MarkCode)}
    plain = county.tested(NINE + 20 * DAY)
    county.pay(county.bill())
    for code in MarkCode:
        mark(county, charges[code.value], code)
    no = county.do(propose_mark, MarkCode.MEDICAL, "hearsay", plain, who=OFFICER)
    county.do(decide_mark, no.mark_id, False, "no paper shows it", who=FINANCE)
    county.publish("MARKS", **LOOKS)
    run = county.prepare("MARKS")
    assert county.reasons(run) == {charge: code for code, charge in charges.items()} | {plain: "eligible"}
    nothing_is_found(county, run, tmp_path)
    usual = county.prepare()
    assert set(county.reasons(usual).values()) == {"eligible"}
    with county.database.read() as session:
        assert b"marks.json" not in bundle_bytes(session, session.get_one(RewardRun, usual.run_id))


def test_a_mark_counts_from_its_approval_until_that_of_its_withdrawal(county: RewardCounty, tmp_path) -> None:
    charge = county.paid()
    county.publish("MARKS", **LOOKS)
    row = county.do(propose_mark, MarkCode.BULK, " 400 samples on one order ", charge, who=OFFICER)
    assert (row.evidence, row.booking_id) == ("400 samples on one order", booking_of(county, charge))
    first = county.lock(county.prepare("MARKS"))
    assert county.reasons(first) == {charge: "eligible"}
    county.do(decide_mark, row.mark_id, True, who=SECOND_OFFICER)
    county.later()
    second = county.lock(county.prepare("MARKS"))
    assert county.reasons(second) == {charge: "bulk"}
    assert county.result(second).carried_out_fen == -county.result(first).payable_fen
    away = county.do(withdraw_mark, row.mark_id, "it was two orders", who=SECOND_OFFICER)
    county.later()
    with county.database.read() as session:
        assert find_mark(session, row.mark_id).stands
    county.do(decide_mark, away.mark_id, True, who=OFFICER)
    county.later()
    third = county.prepare("MARKS")
    assert county.reasons(third) == {charge: "eligible"}
    assert county.result(third).payable_fen == 0
    for run in (first, second, third):
        nothing_is_found(county, run, tmp_path)


def test_a_mark_holds_for_a_charge_that_takes_the_place_of_the_one_that_was_marked(county: RewardCounty) -> None:
    charge = county.tested()
    mark(county, charge, MarkCode.ALREADY_FUNDED)
    county.do(reverse_charge, charge, "wrong meter", who=OFFICER)
    county.do(recharge_booking, booking_of(county, charge), county.series, "put right", who=OFFICER)
    county.publish("MARKS", **LOOKS)
    reasons = county.reasons(county.prepare("MARKS"))
    assert sorted(reasons.values()) == ["already_funded", "reversed", "reversed"]


def test_two_people_decide_once_and_say_why_they_refuse(county: RewardCounty) -> None:
    charge = county.tested()
    assert refused(county, propose_mark, MarkCode.BULK, " ", charge, who=OFFICER).code == "evidence_missing"
    assert refused(county, propose_mark, MarkCode.BULK, "x", charge, who=FINANCE).status == 403
    assert refused(county, propose_mark, MarkCode.BULK, "x", charge, who=MANAGER).status == 403
    assert refused(county, propose_mark, MarkCode.BULK, "x", "none").status == 404
    assert refused(county, propose_mark, MarkCode.BULK, "x", None, "none").status == 404
    assert refused(county, propose_mark, MarkCode.BULK, "x").code == "one_booking"
    row = county.do(propose_mark, MarkCode.BULK, "x", None, booking_of(county, charge), who=OFFICER)
    assert refused(county, decide_mark, row.mark_id, True, who=OFFICER).code == "same_person"
    assert refused(county, decide_mark, row.mark_id, True, who=MANAGER).status == 403
    assert refused(county, decide_mark, row.mark_id, False, who=FINANCE).code == "note_missing"
    assert refused(county, withdraw_mark, row.mark_id, "x").code == "mark_not_standing"
    county.do(decide_mark, row.mark_id, False, "it was one sample", who=FINANCE)
    assert refused(county, decide_mark, row.mark_id, True, who=FINANCE).code == "already_decided"
    assert refused(county, decide_mark, "none", True, who=FINANCE).status == 404
    standing = mark(county, charge)
    assert refused(county, propose_mark, MarkCode.STATUTORY, "x", charge).code == "already_marked"
    both = [county.do(withdraw_mark, standing, "x", who=OFFICER).mark_id for _ in range(2)]
    county.do(decide_mark, both[0], True, who=FINANCE)
    assert refused(county, decide_mark, both[1], True, who=FINANCE).code == "mark_not_standing"
    with county.database.read() as session:
        assert [seen.stands for seen in marks_of(session, booking_of(county, charge))] == [False] * 4


def test_the_database_wants_two_people_and_no_edits_of_marks(county: RewardCounty) -> None:
    charge = county.tested()
    row = county.do(propose_mark, MarkCode.BULK, "x", charge, who=OFFICER)
    with pytest.raises(IntegrityError, match="two_people"), county.database.write() as session:
        session.add(
            RewardMarkDecision(
                mark_id=row.mark_id,
                approved=True,
                note="",
                prepared_by="officer",
                decided_by="officer",
                decided_at=county.now,
            )
        )
    county.do(decide_mark, row.mark_id, True, who=FINANCE)
    for statement in ("UPDATE reward_mark SET code = 'medical'", "DELETE FROM reward_mark_decision"):
        with pytest.raises(AppendOnly), county.database.write() as session:
            session.execute(text(statement))


def test_a_payer_from_elsewhere_counts_where_the_policy_does_not_ask(county: RewardCounty, tmp_path) -> None:
    charge = county.paid()
    with county.database.write() as session:
        session.execute(update(Org).where(Org.org_id == FIRM).values(uscc="91330624MA2AAAAA0X"))
    fields = {"exclusions": ["affiliated", "out_of_area"]}
    county.publish("INSIDE", **fields, area_codes=["3306"])
    county.publish("OUTSIDE", **fields, area_codes=["310101", "330602"])
    inside, outside = county.prepare("INSIDE"), county.prepare("OUTSIDE")
    assert county.reasons(inside) == {charge: "eligible"}
    assert county.reasons(outside) == {charge: "out_of_area"}
    for run in (inside, outside):
        nothing_is_found(county, run, tmp_path)


def test_what_if_tells_what_marks_and_caps_would_leave_out(county: RewardCounty) -> None:
    charges = [county.paid(NINE + day * DAY) for day in range(3)]
    mark(county, charges[0], MarkCode.ENFORCEMENT)
    body = county.publish("DRAFT", **LOOKS, instrument_fee_cap_fen=40_000)
    found = county.do(what_if, Asked(PeriodKind.YEAR, YEAR, body=body, against_policy="FLAT10"), who=OFFICER)
    left_out = [(one.reason, one.count) for one in found.asked.left_out]
    assert left_out == [("enforcement", 1), ("instrument_cap", 1)]
    assert (found.asked.reward_fen, found.against.reward_fen) == (4_000, 12_000)
