"""Charge a booking, once, with its evidence; take a charge back. Decides and writes, never commits.

The worker calls `charge_booking` for every booking that is due, as often as it likes. The database judges repeats:
(booking, purpose, revision) is unique, odd revisions charge and even ones reverse the one before.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from api.booking.states import CHARGEABLE
from api.charging import anomalies
from api.charging.access import require_host_role
from api.charging.closing import close_booking, may_close
from api.charging.corrections_rules import apply_waivers, waived_lines
from api.charging.documents import charge_hash, lines_of
from api.charging.evidence import gather, pack
from api.charging.flags import ChargeFacts, findings
from api.charging.header import audit_posted, new_charge
from api.charging.inputs import use_input
from api.charging.payments_credit import apply_credit
from api.charging.rating import CURRENT_CALC_VERSION, Rated, RatingInput, rate
from api.charging.rating_lines import basis_ms
from api.charging.repository import last_charge, last_charge_before, store_charge, take_booking
from api.charging.reversal import require_reason, reverse_charge
from api.charging.tariffs import pinned_tariff
from api.charging.use import Use, late_sessions, use_of, what_is_missing
from api.charging.waiting import is_undecided
from api.errors import conflict
from api.work import Work
from store.series import SeriesStore
from store.tables.accounts import Role
from store.tables.calendar import Booking, BookingState, UsePurpose
from store.tables.charging import Charge, ChargePurpose
from store.tables.registry import Instrument
from wire.clock import from_ms, to_ms

__all__ = ["ChargeOutcome", "Charged", "charge_booking", "recharge_booking", "reverse_charge"]


class Charged(StrEnum):
    """How an attempt to charge ended."""

    POSTED = "posted"
    ALREADY = "already"
    WAITS = "waits"
    NO_CHARGE = "no_charge"


@dataclass(frozen=True)
class ChargeOutcome:
    """`charge_id` is set for posted and already; `reason` says what is waited for, or why nothing is charged."""

    result: Charged
    charge_id: str | None = None
    reason: str = ""


def charge_booking(work: Work, booking_id: str, series: SeriesStore) -> ChargeOutcome:
    """Post the charge of a booking's use. Harmless to repeat.

    posted: charge, lines, evidence and anomalies are in this transaction; where use was matched after the last charge
    (it came late), that charge is reversed in it first. already: it was charged before (a reversed charge stays
    reversed; see `recharge_booking`). waits: a session is open or unmatched, the booking is not done, the charge that
    late use replaces is disputed, or the series has no samples up to the end of use yet and 24 h have not passed.
    no_charge: internal use or maintenance; the booking is closed. Raises Refused 404 for an unknown booking and
    SeriesUnavailable.
    """
    booking = take_booking(work.session, booking_id)
    if booking.purpose != UsePurpose.CUSTOMER.value:
        if booking.state == BookingState.CLOSED.value:
            return ChargeOutcome(Charged.ALREADY, reason=f"purpose_{booking.purpose}")
        if may_close(booking):
            close_booking(work, booking, f"{booking.purpose} use is not charged")
            return ChargeOutcome(Charged.NO_CHARGE, reason=f"purpose_{booking.purpose}")
        return ChargeOutcome(Charged.WAITS, reason="booking_not_done")
    last = last_charge(work.session, booking_id)
    if last is None:
        return _charge(work, booking, series, revision=1, reason="")
    if last.revision % 2 == 0:
        return ChargeOutcome(Charged.ALREADY, last.charge_id, "reversed")
    late = late_sessions(work.session, booking, last)
    return _charge_late(work, booking, series, last, late) if late else ChargeOutcome(Charged.ALREADY, last.charge_id)


def _charge_late(work: Work, booking: Booking, series: SeriesStore, last: Charge, late: Sequence[str]) -> ChargeOutcome:
    """Take back a charge that does not know all of the use, and post the whole anew: both or neither.

    Whatever its statement says by now: nothing of that changes, both are billed with the first open month, marked.
    """
    if is_undecided(work.session, last.charge_id):
        return ChargeOutcome(Charged.WAITS, last.charge_id, "disputed")
    instrument = work.session.get_one(Instrument, booking.instrument_id)
    waits = what_is_missing(work, booking, use_of(work.session, booking, instrument), series)
    if waits:
        return ChargeOutcome(Charged.WAITS, last.charge_id, waits)
    reason = f"use that came late: {', '.join(late)}"
    reverse_charge(work, last.charge_id, reason)
    outcome = recharge_booking(work, booking.booking_id, series, reason)
    if outcome.result is not Charged.POSTED:
        raise RuntimeError(f"charge {last.charge_id} was reversed and nothing replaces it: {outcome}")
    return outcome


def recharge_booking(work: Work, booking_id: str, series: SeriesStore, reason: str) -> ChargeOutcome:
    """Post a new charge after the last one was reversed.

    Refused: 404, 403, 409 `charge_is_live` while one stands, 422 `reason_missing`.
    """
    require_reason(reason)
    booking = take_booking(work.session, booking_id)
    require_host_role(work, booking.host_id, (Role.COUNTY_OFFICER,), "重新计费", "charge again")
    last = last_charge(work.session, booking_id)
    if last is None or last.revision % 2:
        raise conflict(
            "charge_is_live",
            "只有已冲销的收费才能重新计费;请先冲销。",
            "Only a charge that was reversed can be posted again; reverse it first.",
            booking_id=booking_id,
        )
    outcome = _charge(work, booking, series, revision=last.revision + 1, reason=reason.strip())
    if outcome.result is Charged.POSTED:
        # Money that had settled the reversed charge belongs to what replaces it.
        taken_back = last_charge_before(work.session, last)
        new = work.session.get_one(Charge, outcome.charge_id)
        apply_credit(work, new, f"replaces {taken_back}", freed_from=taken_back)
    return outcome


def _charge(work: Work, booking: Booking, series: SeriesStore, revision: int, reason: str) -> ChargeOutcome:
    if booking.state not in CHARGEABLE:
        return ChargeOutcome(Charged.WAITS, reason="booking_not_done")
    instrument = work.session.get_one(Instrument, booking.instrument_id)
    use = use_of(work.session, booking, instrument)
    waits = what_is_missing(work, booking, use, series)
    if waits:
        return ChargeOutcome(Charged.WAITS, reason=waits)
    tariff = pinned_tariff(work.session, booking.tariff_id, booking.tariff_version)
    given = use_input(work.session, booking, use, tariff.body)
    waived = waived_lines(work.session, booking.booking_id)
    rated = apply_waivers(rate(given, CURRENT_CALC_VERSION), waived, tariff.body.vat_rate_bp)
    evidence = gather(work.session, series, booking.instrument_id, use.spans)
    charge = new_charge(
        work,
        booking,
        ChargePurpose.USE,
        revision,
        given,
        rated,
        from_ms(use.end_ms - 1),
        reason,
        metered_ms=use.metered_ms,
        has_session=bool(use.spans),
        coverage_bp=evidence.coverage_bp,
    )
    lines = lines_of(charge.charge_id, rated.lines)
    charge.row_hash = charge_hash(charge, lines, evidence.hashes)
    if not store_charge(work.session, charge, lines):
        last = last_charge(work.session, booking.booking_id)
        assert last is not None
        return ChargeOutcome(Charged.ALREADY, last.charge_id)
    work.session.add_all([pack(charge.charge_id, evidence.samples), pack(charge.charge_id, evidence.records)])
    work.session.flush()
    audit_posted(work, charge)
    _raise_anomalies(work, charge, booking, use, given, rated)
    return ChargeOutcome(Charged.POSTED, charge.charge_id)


def _raise_anomalies(work: Work, charge: Charge, booking: Booking, use: Use, given: RatingInput, rated: Rated) -> None:
    prices = given.tariff.prices_for(given.category)
    facts = ChargeFacts(
        total_fen=charge.total_fen,
        list_fen=rated.list_fen,
        basis_ms=None if prices.time is None and prices.slots is None else basis_ms(given),
        metered_ms=use.metered_ms,
        has_session=charge.has_session,
        coverage_bp=charge.coverage_bp,
        certificate_valid=charge.certificate_valid,
        booked_at_ms=to_ms(booking.created_at),
        slot_from_ms=to_ms(booking.slot_from),
        used_from_ms=min((span.from_ms for span in use.spans), default=None),
        holes_left=use.holes.left,
    )
    for found in findings(facts):
        anomalies.raise_anomaly(
            work,
            rule=found.rule,
            subject_kind="charge",
            subject_id=charge.charge_id,
            host_id=charge.host_id,
            detail=found.detail,
            blocks_reward=found.blocks_reward,
        )
