"""Another slot, with the other side's consent: proposed by either, answered once, swapped in one transaction.

Also answers what an outage or somebody who booked on a firm's behalf has proposed. Called by the endpoints, the pages
and the worker (expiry). A proposal carries the price of its slot; agreeing to one that costs another amount names the
hash of that price.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from api.booking import approval, calendar, consents, qualification, repository, strikes
from api.booking.checks import check_rules_again, check_slot_again
from api.booking.due import move_due
from api.booking.notices import Happening
from api.booking.offers import Price, Wish, category_of, price_differs, price_of
from api.booking.rules import HOLD_REQUESTED, occupied, times
from api.booking.slots import Interval
from api.booking.states import BookingAction, Party
from api.booking.steps import StepInput, graces_of, parties_of, take_step
from api.charging.inputs import ordered_with
from api.charging.tariffs import pinned_tariff
from api.errors import Refused, conflict, forbidden, invalid, not_found, stale
from api.schemas import rfc3339
from api.work import Work, system_actor
from store.tables.booking_rules import BookingProposal, ProposalKind, ProposalState
from store.tables.calendar import Booking, BookingMode, BookingState, DueKind
from store.tables.registry import Instrument

_MOVABLE = {
    BookingMode.SELF_OPERATED: (BookingState.REQUESTED, BookingState.CONFIRMED),
    BookingMode.SAMPLES: (BookingState.SCHEDULED,),
}
_CONSENT = StepInput(reason="both sides agreed")


def propose_slot(
    work: Work, booking_id: str, slot: Interval, reason: str, version: int, agreed_sha256: str = ""
) -> BookingProposal:
    """Propose another slot for a self-operated booking, or a scheduled sample order, that has not begun, or a sample
    order that the lab took off its schedule; the other side has 48 hours, at most until either slot begins. Where the
    instrument confirms such a slot by itself and cancelling would still be free, a self-operating customer's proposal
    is accepted at once, and a booking that waited for the manager is confirmed with it.

    Refused: 404, 403, 412 stale, 409 `not_possible_now`, `proposal_open`, `slot_taken`; 409 `price_differs` where a
    customer has not named the new price (`agreed_sha256`); 422 for the slot, without a reason, or the same slot.
    """
    _take_due(work, booking_id)
    booking = repository.booking_row(work.session, work.actor, booking_id, lock=True)
    if booking.row_version != version:
        raise stale(booking.row_version, version)
    by = _side(work, booking)
    _check_movable(work, booking)
    if not reason.strip():
        raise invalid("reason_required", "请写明改期原因。", "Say why another slot is wanted.", field="reason")
    if (slot.from_at, slot.to_at) == (booking.slot_from, booking.slot_to):
        raise invalid(
            "same_slot",
            "新时段与原时段相同;请另选时段。",
            "That is the slot it has already; choose another.",
            field="slot",
            **times(slot),
        )
    instrument = repository.instrument_row(work.session, booking.instrument_id)
    _check_free(work, booking, instrument, slot)
    price = requote(work, booking, slot)
    difference = price.rated.total_fen - consents.quoted_fen(booking)
    if by is Party.CUSTOMER and difference and agreed_sha256 != price.sha256:
        raise price_differs(price, difference_fen=difference)
    until = min(work.now + consents.ANSWER_WITHIN, slot.from_at)
    if booking.calendar_row_id is not None:
        until = min(until, booking.slot_from)
    kind = ProposalKind.RESCHEDULE
    proposal = consents.propose(work, booking, kind, by, slot, price, reason.strip(), until)
    if by is Party.CUSTOMER and _moves_at_once(work, booking, instrument, slot):
        by_rule = Work(work.session, system_actor("booking"), work.now)
        _accept(by_rule, booking, instrument, proposal, "by the instrument's rule", by_manager=False)
        if booking.state == BookingState.REQUESTED.value:
            take_step(by_rule, booking, BookingAction.CONFIRM)
    else:
        consents.leave_expiry(work.session, proposal)
    return proposal


def answer(work: Work, proposal_id: str, accept: bool, version: int, note: str, agreed_sha256: str) -> BookingProposal:
    """Accept or decline a proposal as the other side. Declining leaves a booking as it is; one that rests on the
    customer's word (after an outage, or made on its behalf) is cancelled by it, free of charge.

    Refused: 404, 403, 412 stale, 409 `answered_already`, `proposal_expired`, `price_not_agreed`, `slot_taken` and every
    rule that the slot breaks by now.
    """
    proposal = _find(work, proposal_id)
    kind = ProposalKind(proposal.kind)
    if accept:
        _take_due(work, proposal.booking_id)
    booking = repository.booking_row(work.session, work.actor, proposal.booking_id, lock=True)
    work.session.refresh(proposal)
    _check_open(work, proposal, version)
    if kind is ProposalKind.RESCHEDULE and proposal.by_party == Party.CUSTOMER.value:
        asked = Party.MANAGER
    else:
        asked = Party.CUSTOMER
    if asked not in parties_of(work.actor, booking):
        raise _not_yours(asked)
    if not accept:
        _decline(work, booking, proposal, note)
        return proposal
    if asked is Party.CUSTOMER and proposal.difference_fen and agreed_sha256 != proposal.quote_sha256:
        raise conflict(
            "price_not_agreed",
            "新时段价格不同;请在 quote_sha256 中给出所同意报价的哈希。",
            "The price differs; name the hash of the price you agree to in `quote_sha256`.",
            total_fen=proposal.total_fen,
            difference_fen=proposal.difference_fen,
            quote_sha256=proposal.quote_sha256,
        )
    instrument = repository.instrument_row(work.session, booking.instrument_id)
    by_rule = Work(work.session, system_actor(f"consent:{work.actor.person_id}"), work.now)
    # Of another slot the host's manager is one of the two sides: either proposed it or accepts it.
    _accept(by_rule, booking, instrument, proposal, note, by_manager=True)
    return proposal


def withdraw(work: Work, proposal_id: str, version: int) -> BookingProposal:
    """Take back a proposal of one's own side for another slot. Refused: 404, 403, 412, 409."""
    proposal = _find(work, proposal_id)
    booking = repository.booking_row(work.session, work.actor, proposal.booking_id, lock=True)
    work.session.refresh(proposal)
    _check_open(work, proposal, version)
    if proposal.kind != ProposalKind.RESCHEDULE.value or Party(proposal.by_party) not in parties_of(
        work.actor, booking
    ):
        raise _not_yours(Party(proposal.by_party))
    consents.close(work, proposal, ProposalState.WITHDRAWN)
    consents.tell(work, booking, Happening.PROPOSAL_WITHDRAWN, proposal, "")
    return proposal


def expire_proposal(work: Work, proposal_id: str) -> datetime | None:
    """Close a proposal that nobody answered in time; its booking stands as it did. For the worker."""
    proposal = work.session.get(BookingProposal, proposal_id)
    if proposal is None or proposal.state != ProposalState.OPEN.value:
        return None
    if work.now < proposal.expires_at:
        return proposal.expires_at
    booking = repository.booking_row(work.session, work.actor, proposal.booking_id, lock=True)
    work.session.refresh(proposal)
    if proposal.state == ProposalState.OPEN.value:
        consents.close(work, proposal, ProposalState.EXPIRED)
        consents.tell(work, booking, Happening.PROPOSAL_EXPIRED, proposal, "")
    return None


def requote(work: Work, booking: Booking, slot: Interval) -> Price:
    """Return the price of a booking at another slot, by the tariff in force now."""
    owner = repository.host_org(work.session, booking.host_id)
    payer = repository.org_row(work.session, booking.payer_org)
    wish = Wish(BookingMode(booking.mode), slot, booking.quantity, replace(ordered_with(booking), discounts=()))
    return price_of(work, booking.instrument_id, category_of(work, owner, payer), wish, work.now)[0]


def _moves_at_once(work: Work, booking: Booking, instrument: Instrument, slot: Interval) -> bool:
    """Whether a customer's proposal needs nobody's answer. The slot of a sample order is always the lab's to plan."""
    if booking.mode != BookingMode.SELF_OPERATED.value:
        return False
    return _cancels_free(work, booking) and _confirms_itself(work, booking, instrument, slot)


def _cancels_free(work: Work, booking: Booking) -> bool:
    """Whether the customer could cancel free of charge now: then moving away from the slot costs the lab no more."""
    agreed = pinned_tariff(work.session, booking.tariff_id, booking.tariff_version).body.cancellation
    return agreed is None or work.now <= booking.slot_from - timedelta(seconds=agreed.free_until_s)


def _take_due(work: Work, booking_id: str) -> None:
    """Take the due row that a move will change: it comes first in the order of locks, since the worker holds it while
    it waits for the booking. Too early, it only looks again."""
    seen = repository.booking_row(work.session, work.actor, booking_id)
    if seen.state == BookingState.CONFIRMED.value:
        move_due(work.session, DueKind.COMPLETE_BOOKING, booking_id, seen.slot_to)
    elif seen.state == BookingState.REQUESTED.value:
        move_due(work.session, DueKind.EXPIRE_BOOKING, booking_id, seen.held_until or seen.slot_from)


def _accept(
    work: Work, booking: Booking, instrument: Instrument, proposal: BookingProposal, note: str, *, by_manager: bool
) -> None:
    kind = ProposalKind(proposal.kind)
    slot = Interval(proposal.slot_from, proposal.slot_to)
    consents.close(work, proposal, ProposalState.ACCEPTED, note)
    if kind is ProposalKind.RESCHEDULE:
        _check_movable(work, booking)
        terms = check_slot_again(work, instrument, booking, slot, by_manager)
        before = times(Interval(booking.slot_from, booking.slot_to))
        calendar.release(work, booking.calendar_row_id)
        booking.calendar_row_id = calendar.occupy(work, instrument, slot, terms)
        booking.slot_from, booking.slot_to = slot.from_at, slot.to_at
        _freeze(booking, proposal)
        _tend_dues(work, booking)
        facts = {"slot_from": rfc3339(slot.from_at), "slot_to": rfc3339(slot.to_at), "before_from": before["from"]}
        take_step(work, booking, BookingAction.MOVE, _CONSENT, facts | {"before_to": before["to"]})
        return
    if kind is ProposalKind.DISPLACED:
        # Held since the outage, so neither its time nor the lead time is in question any more.
        check_rules_again(work, instrument, booking, slot)
        _freeze(booking, proposal)
    consents.tell(work, booking, Happening.PROPOSAL_ACCEPTED, proposal, note)
    if _is_approved(work, booking) or _confirms_itself(work, booking, instrument, slot):
        take_step(work, booking, BookingAction.CONFIRM)
    else:
        _tend_dues(work, booking)  # the manager has as long as for any request


def _is_approved(work: Work, booking: Booking) -> bool:
    """Whether the host's side has said yes: confirmed before an outage, or its manager made the booking."""
    made = (ProposalKind.ON_BEHALF.value, Party.MANAGER.value)
    asked = consents.proposals_of(work.session, booking.booking_id)
    return any((each.kind, each.by_party) == made for each in asked) or repository.was_confirmed(
        work.session, booking.booking_id
    )


def _decline(work: Work, booking: Booking, proposal: BookingProposal, note: str) -> None:
    consents.close(work, proposal, ProposalState.DECLINED, note)
    consents.tell(work, booking, Happening.PROPOSAL_DECLINED, proposal, note.strip())
    if proposal.kind != ProposalKind.RESCHEDULE.value:
        by_rule = Work(work.session, system_actor(f"consent:{work.actor.person_id}"), work.now)
        take_step(by_rule, booking, BookingAction.CANCEL, StepInput(reason="the customer declined"))


def _freeze(booking: Booking, proposal: BookingProposal) -> None:
    booking.tariff_id, booking.tariff_version = proposal.tariff_id, proposal.tariff_version
    booking.category = proposal.category
    booking.quote, booking.quote_sha256 = proposal.quote, proposal.quote_sha256


def _tend_dues(work: Work, booking: Booking) -> None:
    if booking.state == BookingState.REQUESTED.value:
        booking.held_until = min(work.now + HOLD_REQUESTED, booking.slot_from)
        move_due(work.session, DueKind.EXPIRE_BOOKING, booking.booking_id, booking.held_until)
    elif booking.mode == BookingMode.SELF_OPERATED.value:
        at = booking.slot_to + graces_of(work, booking).late
        move_due(work.session, DueKind.COMPLETE_BOOKING, booking.booking_id, at)


def _check_movable(work: Work, booking: Booking) -> None:
    if repository.taken_back_by_lab(work.session, booking):
        return
    if BookingState(booking.state) not in _MOVABLE[BookingMode(booking.mode)] or work.now >= booking.slot_from:
        raise conflict(
            "not_possible_now",
            "只有尚未开始的自主上机预约、或已排期而尚未开始的送样预约可以改期;送样预约请先由实验室排期。",
            "Only a self-operated booking or a scheduled sample order that has not begun can be moved; ask the lab"
            " to schedule a sample order first.",
            state=booking.state,
            mode=booking.mode,
        )


def _check_free(work: Work, booking: Booking, instrument: Instrument, slot: Interval) -> None:
    terms = check_slot_again(work, instrument, booking, slot)
    rows = repository.calendar_between(work.session, instrument.instrument_id, occupied(slot, instrument))
    if any(row.row_id != booking.calendar_row_id for row in rows):
        raise calendar.slot_taken(work, instrument, slot, terms, but=booking.calendar_row_id)


def _confirms_itself(work: Work, booking: Booking, instrument: Instrument, slot: Interval) -> bool:
    found = approval.rule_of(work.session, instrument.instrument_id, instrument.approval)
    person, end = booking.person_id, slot.to_at
    qualified = qualification.is_qualified(work.session, instrument.instrument_id, person, end)
    if found.needs_qualification and not qualified:
        return False
    probation = strikes.probation_of(work.session, booking.host_id, booking.payer_org, work.now)
    length = slot.to_at - slot.from_at if booking.mode == BookingMode.SELF_OPERATED.value else None
    return approval.decide(found, qualified, length, probation is not None).automatic


def _side(work: Work, booking: Booking) -> Party:
    parties = parties_of(work.actor, booking)
    for side in (Party.CUSTOMER, Party.MANAGER):
        if side in parties:
            return side
    raise _not_yours(Party.CUSTOMER)


def _find(work: Work, proposal_id: str) -> BookingProposal:
    found = work.session.get(BookingProposal, proposal_id)
    if found is None:
        raise not_found("变更提议", "proposal", proposal_id)
    return found


def _check_open(work: Work, proposal: BookingProposal, version: int) -> None:
    if proposal.row_version != version:
        raise stale(proposal.row_version, version)
    if proposal.state != ProposalState.OPEN.value:
        raise conflict(
            "answered_already",
            "该提议已有结果,不能再答复;如仍需改期请重新提议。",
            "This proposal has been answered or closed; make a new one if it is still wanted.",
            state=proposal.state,
        )
    if work.now >= proposal.expires_at:
        raise conflict(
            "proposal_expired",
            "该提议已过期;请重新提议。",
            "The time for an answer is over; propose it again.",
            expires_at=rfc3339(proposal.expires_at),
        )


def _not_yours(asked: Party) -> Refused:
    return forbidden(
        f"该提议应由“{asked}”一方处理;请等待对方答复。",
        f"This is for the other side ({asked}) to do; wait for its answer.",
        party=asked.value,
    )
