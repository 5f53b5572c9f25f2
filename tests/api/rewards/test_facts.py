"""What the database knows of a charge becomes its one reason, on both engines, as of the run's watermark."""

from api.charging.anomalies import COVERAGE_BELOW_95, anomalies_of, decide_anomaly, raise_anomaly
from api.charging.invoices import record_invoice
from api.charging.reversal import reverse_charge
from api.charging.service import recharge_booking
from api.rewards.facts import charge_facts
from api.rewards.policy_body import Attribution
from store.tables.audit import Verdict
from store.tables.charging import Charge, InvoiceKind, Tender
from store.tables.registry import Affiliation
from tests.api.charging.building import NINE, OFFICER, OTHER_FIRM
from tests.api.rewards.building import DAY, MANAGER, MARCH, RewardCounty
from wire.clock import from_ms


def test_every_charge_of_the_period_has_exactly_one_reason(county: RewardCounty) -> None:
    """One charge for each reason, made by the services that make it in life."""
    wanted: dict[str, str] = {}
    wanted[county.tested()] = "eligible"
    unpaid = county.tested(NINE + DAY, 30)
    wanted[county.tested(NINE + 2 * DAY, share=0.9)] = "coverage"
    no_use = county.book(NINE + 3 * DAY)
    wanted[county.charge_of(no_use)] = "no_session"
    own = county.book(NINE + 4 * DAY, payer="org-h01")
    county.use(own, 60, NINE + 4 * DAY)
    wanted[county.charge_of(own)] = "internal"
    wanted[county.tested(NINE + 5 * DAY, payer=OTHER_FIRM)] = "affiliated"
    county.relate(Affiliation.AFFILIATED, other=OTHER_FIRM)
    taken_back = county.tested(NINE + 6 * DAY)
    wanted[taken_back] = "reversed"
    reversal = county.do(reverse_charge, taken_back, "wrong meter", who=OFFICER)
    wanted[reversal.charge_id] = "reversed"
    odd, wrong = county.tested(NINE + 7 * DAY), county.tested(NINE + 8 * DAY)
    for charge in (odd, wrong):
        found = county.do(_anomaly, charge)
    county.do(decide_anomaly, found, Verdict.CONFIRMED, "same samples twice", who=OFFICER)
    wanted |= {odd: "anomaly_open", wrong: "anomaly_confirmed"}
    uncertified = county.copied(odd, certificate_valid=False)
    wanted |= {uncertified: "certificate", county.copied(odd, purpose="no_show"): "no_show_or_cancellation"}
    statement = county.bill()
    county.pay(statement, 40_000)
    wanted[unpaid] = "unpaid"
    run = county.prepare()
    assert county.reasons(run) == wanted
    assert (run.charge_count, run.base_fen) == (len(wanted), 40_000)
    assert len(set(wanted.values())) == 11


def test_a_relation_counts_from_its_date_and_ends_with_the_next_one(county: RewardCounty) -> None:
    before, during, after = (county.tested(NINE + day * DAY) for day in (0, 4, 8))
    county.relate(Affiliation.AFFILIATED, from_ms(NINE + 3 * DAY))
    county.relate(Affiliation.INDEPENDENT, from_ms(NINE + 7 * DAY))
    county.pay(county.bill())
    reasons = county.reasons(county.prepare())
    assert [reasons[charge] for charge in (before, during, after)] == ["eligible", "affiliated", "eligible"]


def test_a_relation_holds_at_the_very_instant_it_begins(county: RewardCounty) -> None:
    charge = county.tested()
    with county.database.read() as session:
        service_at = session.get_one(Charge, charge).service_at
    county.pay(county.bill())
    county.relate(Affiliation.AFFILIATED, service_at)
    assert set(county.reasons(county.prepare()).values()) == {"affiliated"}


def test_thin_samples_that_a_person_reviewed_count(county: RewardCounty) -> None:
    charge = county.tested(share=0.9)
    with county.database.read() as session:
        [(anomaly, _)] = anomalies_of(session, "charge", charge)
    assert anomaly.rule == COVERAGE_BELOW_95
    county.pay(county.bill())
    county.do(decide_anomaly, anomaly.anomaly_id, Verdict.CLEARED, "power cut, report seen", who=OFFICER)
    assert county.reasons(county.prepare()) == {charge: "eligible"}


def test_an_anomaly_of_the_booking_or_of_its_session_blocks_the_charge(county: RewardCounty) -> None:
    first, second = county.book(), county.book(NINE + DAY)
    county.use(first, 60)
    session_id = county.use(second, 60, NINE + DAY)
    charges = [county.charge_of(first), county.charge_of(second)]
    county.pay(county.bill())
    county.do(_anomaly, first, "booking")
    county.do(_anomaly, session_id, "session")
    assert county.reasons(county.prepare()) == dict.fromkeys(charges, "anomaly_open")


def test_only_what_was_known_at_the_watermark_is_seen(county: RewardCounty) -> None:
    charge = county.tested()
    early = county.now
    county.later()
    county.relate(Affiliation.AFFILIATED)
    county.do(_anomaly, charge)
    county.pay(county.bill())
    county.later()
    county.do(reverse_charge, charge, "late", who=OFFICER)
    months, service = (MARCH,), Attribution.SERVICE
    with county.database.read() as session:
        [then] = charge_facts(session, months, service, early)
        now = {facts.charge_id: facts for facts in charge_facts(session, months, service, county.now)}
        assert list(charge_facts(session, months, service, from_ms(NINE))) == []
    assert (then.reversed, then.affiliated, then.anomaly_open, then.cash_fen) == (0, 0, 0, 0)
    assert len(now) == 2
    seen = now[charge]
    assert seen.reversed
    assert seen.affiliated
    assert seen.anomaly_open
    assert seen.cash_fen == 40_000


def test_tenders_are_told_apart(county: RewardCounty) -> None:
    charge = county.tested()
    statement = county.bill()
    county.pay(statement, 25_000)
    county.pay(statement, 10_000, Tender.VOUCHER)
    county.pay(statement, 5_000, Tender.WAIVER)
    run = county.prepare()
    assert county.reasons(run) == {charge: "eligible"}
    assert run.base_fen == 25_000


def test_an_invoice_must_cover_what_is_live_on_the_statement(county: RewardCounty) -> None:
    county.publish("INV", basis="invoiced")
    kept, taken_back = county.tested(), county.tested(NINE + DAY, 30)
    statement = county.bill()
    issued = (statement.statement_id, "26332000000000000001", InvoiceKind.BLUE, county.now, None, 40_000)
    county.do(record_invoice, *issued, who=MANAGER)
    with county.database.read() as session:
        facts = {f.charge_id: f.invoiced for f in charge_facts(session, (MARCH,), Attribution.SERVICE, county.now)}
    assert not any(facts.values())
    county.later()
    county.do(reverse_charge, taken_back, "never happened", who=OFFICER)
    reasons = county.reasons(county.prepare("INV"))
    assert (reasons[kept], reasons[taken_back]) == ("eligible", "reversed")


def test_a_charge_that_was_posted_again_counts_in_its_new_form_only(county: RewardCounty) -> None:
    booking = county.book()
    county.use(booking, 60)
    first = county.charge_of(booking)
    county.do(reverse_charge, first, "wrong category", who=OFFICER)
    again = county.do(recharge_booking, booking, county.series, "right category", who=OFFICER)
    county.pay(county.bill())
    reasons = county.reasons(county.prepare())
    assert sorted(reasons.values()) == ["eligible", "reversed", "reversed"]
    assert reasons[again.charge_id] == "eligible"


def test_attribution_by_posting_looks_at_the_month_of_the_accounts(county: RewardCounty) -> None:
    county.publish("POSTED", attribution="posting", period_kind="month")
    county.publish("SERVED", period_kind="month")
    charge = county.tested()
    county.copied(charge, posting_month=202604)
    by_month = {}
    with county.database.read() as session:
        for attribution in Attribution:
            for month in (MARCH, 202604):
                found = list(charge_facts(session, (month,), attribution, county.now))
                by_month[attribution, month] = len(found)
    assert by_month == {
        (Attribution.SERVICE, MARCH): 2,
        (Attribution.SERVICE, 202604): 0,
        (Attribution.POSTING, MARCH): 1,
        (Attribution.POSTING, 202604): 1,
    }


def _anomaly(work, subject: str, kind: str = "charge") -> str:
    return raise_anomaly(
        work, rule="same_samples_twice", subject_kind=kind, subject_id=subject, host_id="h01", detail="seen"
    )
