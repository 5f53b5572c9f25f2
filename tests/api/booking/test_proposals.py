"""Another slot with the other side's consent: proposed by either, answered once, swapped whole or not at all."""

from datetime import timedelta
from typing import Any

import pytest

from api.booking import consents, proposals, reservations
from api.booking.completion import expire_booking
from api.booking.outages import declare_outage
from api.booking.proposals import expire_proposal
from api.booking.states import BookingAction
from api.charging.tariff_body import CancellationTerms, Prices, TariffBody, TimePrice, TimeUnit, canonical_body
from api.errors import Refused
from store.canonical import sha256_hex
from store.tables.booking_rules import BookingProposal, ProposalState
from store.tables.calendar import BookingMode, BookingState, DueKind
from store.tables.charging import Charge, TariffVersion
from store.tables.notices import Notice
from tests.support.builders_booking import FIRM_A, FIRM_B, HOUR, MANAGER, MINUTE, OTHER_MANAGER, WORKER, Office
from tests.support.consent import answer, outage, propose, refused, the_proposal

A, S, P = BookingAction, BookingState, ProposalState
TERMS = TariffBody(
    schema_name="openlab.tariff/2",
    default=Prices(time=TimePrice(per=TimeUnit.HOUR, unit_fen=40_000, step_s=1800), setup_fen=5_000),
    cancellation=CancellationTerms(free_until_s=24 * 3600, fee_bp=3000),
)
DEARER = Prices(time=TimePrice(per=TimeUnit.HOUR, unit_fen=50_000, step_s=1800), setup_fen=5_000)


def publish(office: Office, body: TariffBody, version: int = 2) -> None:
    """Another price list comes into force."""
    document = canonical_body(body)
    with office.database.write() as session:
        session.add(
            TariffVersion(
                tariff_id=f"t-{office.instrument}",
                version=version,
                valid_from=office.now - version * MINUTE,
                body=document.decode(),
                body_sha256=sha256_hex(document),
                prepared_by="p-m",
                approved_by="p-c",
                published_at=office.now,
            )
        )


def test_the_managers_proposal_moves_the_booking_once_the_firm_agrees(office: Office) -> None:
    booking_id = office.book(FIRM_A, office.slot(1, 1))
    to = office.slot(5, 1)
    proposal = propose(office, MANAGER, booking_id, to)
    assert (proposal.state, proposal.difference_fen) == (P.OPEN, 0)
    assert office.booking(booking_id).slot_from == office.now + HOUR
    assert refused(office, answer, MANAGER, proposal) == "forbidden"
    assert refused(office, answer, FIRM_B, proposal) == "not_found"
    done = answer(office, FIRM_A, proposal)
    booking = office.booking(booking_id)
    assert (done.state, done.answered_by) == (P.ACCEPTED, "system:consent:p-a")
    assert (booking.state, booking.slot_from, booking.slot_to) == (S.CONFIRMED, to.from_at, to.to_at)
    assert [(row.from_at, row.to_at) for row in office.active_rows()] == [(to.from_at, to.to_at)]
    assert office.book(FIRM_B, office.slot(1, 1))
    dues = {(due.kind, due.subject_id): due.due_at for due in office.all_of_due()}
    assert dues[DueKind.COMPLETE_BOOKING, booking_id] == to.to_at + 15 * MINUTE


def test_a_slot_may_be_moved_onto_itself_by_half(office: Office) -> None:
    booking_id = office.book(FIRM_A, office.slot(1, 1))
    answer(office, FIRM_A, propose(office, MANAGER, booking_id, office.slot(1.5, 1)))
    assert len(office.active_rows()) == 1


def test_declining_leaves_everything_as_it_was(sqlite_office: Office) -> None:
    booking_id = sqlite_office.book(FIRM_A, sqlite_office.slot(1, 1))
    proposal = propose(sqlite_office, MANAGER, booking_id, sqlite_office.slot(5, 1))
    assert answer(sqlite_office, FIRM_A, proposal, accept=False).state == P.DECLINED
    assert sqlite_office.booking(booking_id).slot_from == sqlite_office.now + HOUR
    assert refused(sqlite_office, answer, FIRM_A, proposal, version=2) == "answered_already"


def test_a_customer_asks_the_manager_where_the_manager_approves(sqlite_office: Office) -> None:
    sqlite_office.change_instrument(approval="manager")
    booking_id = sqlite_office.book(FIRM_A, sqlite_office.slot(30, 1))
    sqlite_office.do(MANAGER, booking_id, A.CONFIRM)
    proposal = propose(sqlite_office, FIRM_A, booking_id, sqlite_office.slot(50, 1))
    assert proposal.state == P.OPEN
    assert refused(sqlite_office, answer, OTHER_MANAGER, proposal) == "not_found"
    assert refused(sqlite_office, answer, FIRM_A, proposal) == "forbidden"
    answer(sqlite_office, MANAGER, proposal)
    assert sqlite_office.booking(booking_id).slot_from == sqlite_office.now + 50 * HOUR


def test_where_the_instrument_confirms_itself_the_customer_moves_at_once(sqlite_office: Office) -> None:
    booking_id = sqlite_office.book(FIRM_A, sqlite_office.slot(1, 1))
    assert propose(sqlite_office, FIRM_A, booking_id, sqlite_office.slot(7, 1)).state == P.ACCEPTED
    assert sqlite_office.booking(booking_id).slot_from == sqlite_office.now + 7 * HOUR


def test_moving_is_no_way_around_the_fee_of_a_late_cancellation(sqlite_office: Office) -> None:
    publish(sqlite_office, TERMS)
    soon = sqlite_office.book(FIRM_A, sqlite_office.slot(5, 1))
    assert propose(sqlite_office, FIRM_A, soon, sqlite_office.slot(50, 1)).state == P.OPEN
    later = sqlite_office.book(FIRM_A, sqlite_office.slot(30, 1))
    assert propose(sqlite_office, FIRM_A, later, sqlite_office.slot(60, 1)).state == P.ACCEPTED


def test_another_price_has_to_be_agreed_to_by_its_hash(office: Office) -> None:
    booking_id = office.book(FIRM_A, office.slot(1, 1))
    before = office.booking(booking_id)
    assert refused(office, propose, FIRM_A, booking_id, office.slot(5, 2)) == "price_differs"
    proposal = propose(office, MANAGER, booking_id, office.slot(5, 2))
    assert proposal.difference_fen == 40_000
    assert refused(office, answer, FIRM_A, proposal) == "price_not_agreed"
    answer(office, FIRM_A, proposal, sha256=proposal.quote_sha256)
    after = office.booking(booking_id)
    assert (before.quote_sha256, after.quote_sha256) != (after.quote_sha256, before.quote_sha256)
    assert after.quote_sha256 == proposal.quote_sha256 == sha256_hex(after.quote.encode())


def test_the_price_is_the_tariff_in_force_when_it_was_proposed(sqlite_office: Office) -> None:
    booking_id = sqlite_office.book(FIRM_A, sqlite_office.slot(1, 1))
    publish(sqlite_office, TERMS.model_copy(update={"default": DEARER}))
    proposal = propose(sqlite_office, MANAGER, booking_id, sqlite_office.slot(5, 1))
    assert (proposal.tariff_version, proposal.total_fen) == (2, 55_000)
    answer(sqlite_office, FIRM_A, proposal, sha256=proposal.quote_sha256)
    assert sqlite_office.booking(booking_id).tariff_version == 2


def test_a_slot_that_was_taken_meanwhile_is_refused_and_the_old_one_stays(office: Office) -> None:
    booking_id = office.book(FIRM_A, office.slot(1, 1))
    proposal = propose(office, MANAGER, booking_id, office.slot(5, 1))
    office.book(FIRM_B, office.slot(5.5, 1))
    assert refused(office, answer, FIRM_A, proposal) == "slot_taken"
    assert office.booking(booking_id).slot_from == office.now + HOUR
    assert len(office.active_rows()) == 2
    assert the_proposal(office).proposal_id == proposal.proposal_id


def test_what_cannot_be_proposed_is_told(sqlite_office: Office) -> None:
    booking_id = sqlite_office.book(FIRM_A, sqlite_office.slot(2, 1))
    sqlite_office.book(FIRM_B, sqlite_office.slot(5, 1))
    at = sqlite_office.slot
    assert refused(sqlite_office, propose, FIRM_A, booking_id, at(2, 1)) == "same_slot"
    assert refused(sqlite_office, propose, FIRM_A, booking_id, at(7, 1), " ") == "reason_required"
    assert refused(sqlite_office, propose, FIRM_A, booking_id, at(5, 1)) == "slot_taken"
    assert refused(sqlite_office, propose, FIRM_A, booking_id, at(-2, 1)) == "slot_in_the_past"
    assert refused(sqlite_office, propose, FIRM_B, booking_id, at(7, 1)) == "not_found"
    propose(sqlite_office, MANAGER, booking_id, at(7, 1))
    assert refused(sqlite_office, propose, MANAGER, booking_id, at(8, 1)) == "proposal_open"
    samples = sqlite_office.book(FIRM_A, mode=BookingMode.SAMPLES, quantity=1)
    assert refused(sqlite_office, propose, MANAGER, samples, at(9, 1)) == "not_possible_now"
    sqlite_office.advance(2 * HOUR)
    begun = sqlite_office.book(FIRM_A, sqlite_office.slot(0, 0.5), instrument_id=sqlite_office.instruments[1])
    assert refused(sqlite_office, propose, MANAGER, begun, sqlite_office.slot(9, 1)) == "not_possible_now"


def test_nobodys_answer_closes_a_proposal_and_keeps_the_booking(sqlite_office: Office) -> None:
    booking_id = sqlite_office.book(FIRM_A, sqlite_office.slot(100, 1))
    proposal = propose(sqlite_office, MANAGER, booking_id, sqlite_office.slot(200, 1))
    with sqlite_office.work(WORKER) as work:
        assert expire_proposal(work, proposal.proposal_id) == proposal.expires_at
    sqlite_office.advance(timedelta(hours=48))
    assert refused(sqlite_office, answer, FIRM_A, proposal) == "proposal_expired"
    with sqlite_office.work(WORKER) as work:
        assert expire_proposal(work, proposal.proposal_id) is None
    told = [row.person_id for row in sqlite_office.all_of(Notice) if row.kind == "proposal-expired"]
    assert sorted(told) == ["p-a", "p-m"]
    assert sqlite_office.booking(booking_id).state == S.CONFIRMED


def test_a_side_takes_its_own_proposal_back(sqlite_office: Office) -> None:
    booking_id = sqlite_office.book(FIRM_A, sqlite_office.slot(10, 1))
    proposal = propose(sqlite_office, MANAGER, booking_id, sqlite_office.slot(20, 1))

    def withdraw(office: Office, actor: Any) -> BookingProposal:
        with office.work(actor) as work:
            return proposals.withdraw(work, proposal.proposal_id, 1)

    assert refused(sqlite_office, withdraw, FIRM_A) == "forbidden"
    assert withdraw(sqlite_office, MANAGER).state == P.WITHDRAWN


def test_a_booking_that_ends_takes_its_proposal_with_it(sqlite_office: Office) -> None:
    booking_id = sqlite_office.book(FIRM_A, sqlite_office.slot(10, 1))
    proposal = propose(sqlite_office, MANAGER, booking_id, sqlite_office.slot(20, 1))
    sqlite_office.do(FIRM_A, booking_id, A.CANCEL)
    assert refused(sqlite_office, answer, FIRM_A, proposal, version=2) == "answered_already"


# A booking made on a firm's behalf


def test_the_firm_agrees_to_what_was_booked_for_it(sqlite_office: Office) -> None:
    booking_id = sqlite_office.book(MANAGER, payer_org="org-a")
    answer(sqlite_office, FIRM_A, the_proposal(sqlite_office))
    assert sqlite_office.booking(booking_id).state == S.CONFIRMED


def test_the_firm_declines_what_was_booked_for_it_and_owes_nothing(sqlite_office: Office) -> None:
    publish(sqlite_office, TERMS)
    booking_id = sqlite_office.book(MANAGER, payer_org="org-a")
    answer(sqlite_office, FIRM_A, the_proposal(sqlite_office), accept=False)
    assert sqlite_office.booking(booking_id).state == S.CANCELLED
    assert sqlite_office.active_rows() == []
    assert sqlite_office.all_of(Charge) == []


# An outage


def test_an_outage_offers_the_next_free_slot_and_holds_it(office: Office) -> None:
    hit, after = office.book(FIRM_A, office.slot(2, 1)), office.book(FIRM_B, office.slot(4, 1))
    done = outage(office, office.slot(1, 3))
    assert (done.moved, done.cancelled) == ([hit], [])
    booking, proposal = office.booking(hit), the_proposal(office)
    assert (booking.state, booking.slot_from) == (S.REQUESTED, office.now + 5 * HOUR)
    assert (proposal.kind, proposal.by_party) == ("displaced", "system")
    assert [row.kind for row in office.active_rows()] == ["outage", "booking", "booking"]
    assert office.booking(after).state == S.CONFIRMED
    with pytest.raises(Refused) as told:
        office.do(MANAGER, hit, A.CONFIRM)
    assert told.value.code == "waits_for_customer"
    answer(office, FIRM_A, proposal)
    assert office.booking(hit).state == S.CONFIRMED
    assert (DueKind.COMPLETE_BOOKING, hit) in {(due.kind, due.subject_id) for due in office.all_of_due()}


def test_who_does_not_want_another_slot_owes_nothing(sqlite_office: Office) -> None:
    publish(sqlite_office, TERMS)
    hit = sqlite_office.book(FIRM_A, sqlite_office.slot(2, 1))
    outage(sqlite_office, sqlite_office.slot(1, 3))
    answer(sqlite_office, FIRM_A, the_proposal(sqlite_office), accept=False)
    assert sqlite_office.booking(hit).state == S.CANCELLED
    assert sqlite_office.all_of(Charge) == []
    assert [row.kind for row in sqlite_office.active_rows()] == ["outage"]


def test_who_does_not_answer_loses_the_other_slot_free_of_charge(sqlite_office: Office) -> None:
    hit = sqlite_office.book(FIRM_A, sqlite_office.slot(2, 1))
    outage(sqlite_office, sqlite_office.slot(1, 3))
    (at,) = [due.due_at for due in sqlite_office.all_of_due() if due.kind == DueKind.EXPIRE_BOOKING]
    sqlite_office.advance(at - sqlite_office.now)
    with sqlite_office.work(WORKER) as work:
        assert expire_booking(work, hit) is None
    assert sqlite_office.booking(hit).state == S.EXPIRED
    assert consents.quoted_fen(sqlite_office.booking(hit)) == 45_000
    assert sqlite_office.all_of(Charge) == []


def test_where_nothing_is_free_for_a_fortnight_the_outage_cancels(sqlite_office: Office) -> None:
    sqlite_office.change_instrument(open_hours="1 09:00-12:00", max_slot_minutes=180)
    hit = sqlite_office.book(FIRM_A, sqlite_office.slot(1, 1))
    for week in (1, 2, 3):
        with sqlite_office.work(MANAGER) as work:
            reservations.reserve(work, sqlite_office.instrument, sqlite_office.slot(168 * week, 3), "own work")
    done = outage(sqlite_office, sqlite_office.slot(0.5, 2.5))
    assert (done.moved, done.cancelled) == ([], [hit])


def test_notices_name_whom_an_outage_concerns(sqlite_office: Office) -> None:
    sqlite_office.book(FIRM_A, sqlite_office.slot(2, 1))
    with sqlite_office.work(MANAGER) as work:
        declare_outage(work, sqlite_office.instrument, sqlite_office.slot(1, 3), "pump", move=True)
    told = [(row.kind, row.person_id) for row in sqlite_office.all_of(Notice)]
    assert {one for one in told if one[0] in ("displace", "proposed")} == {("displace", "p-a"), ("proposed", "p-a")}
