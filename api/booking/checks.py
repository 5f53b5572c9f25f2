"""The rules that need a look into the database: the time a slot takes, the papers of an instrument, its people.

Called by the service for a new booking, by proposals and displacement for another slot and by the steps for
scheduling: one place, so that no door is without them. Reads only; each refusal says what would do instead.
"""

from collections.abc import Iterable, Sequence
from datetime import timedelta

from api.booking import approval, calendar, qualification, repository
from api.booking.opening_rules import alternatives, binding, check_slot
from api.booking.rules import NO_CERTIFICATE, check_instrument_works, check_parties, times
from api.booking.slots import Interval
from api.errors import Refused, conflict
from api.registry.repository import validities
from api.registry.slot_terms import SlotTerms
from api.registry.traceability import Validity, Verdict, certificate_verdict, standing
from api.work import Work
from store.tables.calendar import Booking, BookingMode, UsePurpose
from store.tables.registry import Instrument

_HOPELESS = ("slot_reversed", "slot_too_short", "slot_too_long")


def bound_terms(
    work: Work,
    instrument: Instrument,
    slot: Interval,
    mode: BookingMode,
    purpose: UsePurpose,
    by_manager: bool = False,
    terms: SlotTerms | None = None,
) -> SlotTerms:
    """Return the terms that hold for a request of the actor (`by_manager`: as for the host's manager), with the special
    days around the slot. `terms`: the instrument's own, where they have been read."""
    terms = terms or repository.slot_terms(work.session, instrument, slot)
    return binding(terms, mode, purpose, by_manager or work.actor.manages(instrument.host_id))


def check_time(
    work: Work,
    instrument: Instrument,
    slot: Interval,
    mode: BookingMode,
    purpose: UsePurpose,
    by_manager: bool = False,
    terms: SlotTerms | None = None,
) -> SlotTerms:
    """Return the terms that hold (`terms`: the instrument's own, where they have been read). Raise 422 for a slot that
    breaks one, with free alternatives of its length where there can be any."""
    terms = bound_terms(work, instrument, slot, mode, purpose, by_manager, terms)
    try:
        check_slot(slot, terms, work.now)
    except Refused as refused:
        if refused.code not in _HOPELESS:
            start = work.now if refused.code == "slot_too_far_ahead" else slot.from_at
            wanted = Interval(start, start + (slot.to_at - slot.from_at))
            others = free_ahead(work, instrument, wanted, mode, purpose, by_manager)
            refused.facts["alternatives"] = [times(free) for free in others]
        raise
    return terms


def free_ahead(
    work: Work,
    instrument: Instrument,
    wanted: Interval,
    mode: BookingMode,
    purpose: UsePurpose,
    by_manager: bool = False,
) -> tuple[Interval, ...]:
    """Return up to three free slots as long as `wanted` that break no term, the nearest after it and after the lead
    time first."""
    terms = bound_terms(work, instrument, wanted, mode, purpose, by_manager)
    earliest = work.now + timedelta(minutes=terms.lead_minutes)
    if wanted.from_at < earliest:
        # What is taken, and which days are special, has to be known from where the search begins.
        wanted = Interval(earliest, earliest + (wanted.to_at - wanted.from_at))
        terms = bound_terms(work, instrument, wanted, mode, purpose, by_manager)
    return alternatives(wanted, calendar.busy_ahead(work, instrument, wanted), terms, work.now)


def check_papers(
    work: Work,
    instrument: Instrument,
    slot: Interval,
    report_types: Iterable[str],
    papers: Sequence[Validity] | None = None,
) -> tuple[str, ...]:
    """Return what to warn of; `papers` where they have been read. Raise 409 `certificate_expired` for an accredited
    test without a valid certificate."""
    if papers is None:
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


def check_slot_again(
    work: Work, instrument: Instrument, booking: Booking, slot: Interval, by_manager: bool = False
) -> SlotTerms:
    """Hold a booking's new slot against every rule that its first one had to keep; return the terms that hold.

    `by_manager`: the host's manager wants it, who needs no lead time.
    """
    check_rules_again(work, instrument, booking, slot)
    return check_time(work, instrument, slot, BookingMode(booking.mode), UsePurpose(booking.purpose), by_manager)


def check_rules_again(work: Work, instrument: Instrument, booking: Booking, slot: Interval) -> None:
    """The same without the terms of time: parties, run status, training and papers."""
    owner = repository.host_org(work.session, instrument.host_id)
    check_parties(repository.org_row(work.session, booking.payer_org), owner)
    check_instrument_works(instrument, UsePurpose(booking.purpose))
    _check_trained(work, instrument, booking, slot)
    check_papers(work, instrument, slot, repository.report_types(work.session, booking.booking_id))


def _check_trained(work: Work, instrument: Instrument, booking: Booking, slot: Interval) -> None:
    """Raise 403 where whoever will stand at the instrument is not trained until the slot ends; its manager may."""
    if booking.mode != BookingMode.SELF_OPERATED.value:
        return
    if not approval.rule_of(work.session, instrument.instrument_id, instrument.approval).needs_qualification:
        return
    if repository.manages_host(work.session, booking.person_id, instrument.host_id):
        return
    if not qualification.is_qualified(work.session, instrument.instrument_id, booking.person_id, slot.to_at):
        raise qualification.not_qualified(instrument.instrument_id)
