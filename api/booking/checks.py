"""The rules that need a look into the database: the time a slot takes, the papers of an instrument, its people.

Called by the service for a new booking, by proposals for another slot and by the steps for scheduling: one place, so
that no door is without them. Reads only; each refusal says what would do instead.
"""

from collections.abc import Iterable

from api.booking import calendar, repository
from api.booking.opening_rules import alternatives, binding, check_slot
from api.booking.rules import NO_CERTIFICATE, check_instrument_works, check_parties, times
from api.booking.slots import Interval
from api.errors import Refused, conflict
from api.registry.repository import validities
from api.registry.slot_terms import SlotTerms
from api.registry.traceability import Verdict, certificate_verdict, standing
from api.work import Work
from store.tables.calendar import Booking, BookingMode, UsePurpose
from store.tables.registry import Instrument

_HOPELESS = ("slot_reversed", "slot_too_short", "slot_too_long")


def bound_terms(
    work: Work, instrument: Instrument, slot: Interval, mode: BookingMode, purpose: UsePurpose
) -> SlotTerms:
    """Return the terms that hold for the actor's request, with the special days around the slot."""
    terms = repository.slot_terms(work.session, instrument, slot)
    return binding(terms, mode, purpose, work.actor.manages(instrument.host_id))


def check_time(work: Work, instrument: Instrument, slot: Interval, terms: SlotTerms) -> None:
    """Raise 422 for a slot that breaks a term, with free alternatives of its length where there can be any."""
    try:
        check_slot(slot, terms, work.now)
    except Refused as refused:
        if refused.code not in _HOPELESS:
            wanted = Interval(max(slot.from_at, work.now), max(slot.from_at, work.now) + (slot.to_at - slot.from_at))
            if refused.code == "slot_too_far_ahead":
                wanted = Interval(work.now, work.now + (slot.to_at - slot.from_at))
            busy = calendar.busy_ahead(work, instrument, wanted)
            refused.facts["alternatives"] = [times(free) for free in alternatives(wanted, busy, terms, work.now)]
        raise


def check_papers(work: Work, instrument: Instrument, slot: Interval, report_types: Iterable[str]) -> tuple[str, ...]:
    """Return what to warn of. Raise 409 `certificate_expired` for an accredited test without a valid certificate."""
    papers = validities(work.session, instrument.instrument_id)
    found = standing(papers, slot.from_at, slot.to_at)
    verdict = certificate_verdict(found, report_types)
    if verdict is Verdict.REFUSE:
        last = max((paper.valid_to for paper in papers), default=None)
        raise conflict(
            "certificate_expired",
            "该仪器的检定/校准证书未覆盖此时段,不能出具 CMA/CNAS 报告;请改选证书有效期内的时段、"
            "改约内部报告项目(数据仅供研发参考),或联系实验室管理员更新证书。",
            "No traceability certificate of this instrument covers the slot, so no CMA or CNAS report can come of it;"
            " choose a slot within its validity or an internal report, or ask the lab manager to renew it.",
            instrument_id=instrument.instrument_id,
            standing=found.value,
            valid_to="" if last is None else last.isoformat(),
        )
    return () if verdict is Verdict.OK else (NO_CERTIFICATE,)


def check_slot_again(work: Work, instrument: Instrument, booking: Booking, slot: Interval) -> SlotTerms:
    """Hold a booking's new slot against every rule that its first one had to keep; return the terms that hold."""
    purpose, mode = UsePurpose(booking.purpose), BookingMode(booking.mode)
    owner = repository.host_org(work.session, instrument.host_id)
    check_parties(repository.org_row(work.session, booking.payer_org), owner)
    check_instrument_works(instrument, purpose)
    terms = bound_terms(work, instrument, slot, mode, purpose)
    check_time(work, instrument, slot, terms)
    check_papers(work, instrument, slot, repository.report_types(work.session, booking.booking_id))
    return terms
