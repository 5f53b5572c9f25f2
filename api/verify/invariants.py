"""What must hold whoever wrote: the numbered invariants of the ledger as SQL over live data.

SQL filters, joins, counts and sums; nothing is divided. Each check has the number it is known by.
"""

from collections.abc import Iterator

from sqlalchemy import Exists, and_, exists, func, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

from api.booking.matching_service import SESSION_WITHOUT_BOOKING, UNBOOKED_ALLOWED_MS
from api.booking.sources import NO_DATE, asked_about, held_back, tells_the_same
from api.charging.use import told_by_presence
from api.rewards.policy_body import Exclusion, read_policy
from api.verify.finding import Finding
from store.ledger.chain import METRIC_RUNNING
from store.tables.audit import Anomaly
from store.tables.calendar import Booking, BookingState, BookingUse, Due, DueKind, UnbookedUse, UsePurpose
from store.tables.charging import Charge, ChargePurpose
from store.tables.disputes import Correction, CorrectionDecision
from store.tables.registry import Affiliation, AffiliationEvent, Host, Instrument
from store.tables.rewards import RewardInput, RewardPolicyVersion, RewardResult, RewardRun
from store.tables.usage import EntryKind, UsageEntry, UsageSession
from wire.clock import to_ms

_ENDED = (
    BookingState.CLOSED.value,
    BookingState.REJECTED.value,
    BookingState.CANCELLED.value,
    BookingState.EXPIRED.value,
    BookingState.NO_SHOW.value,
)
_MARKED = (EntryKind.SESSION.value, EntryKind.CORRECTION.value)


def reversed_usage_nets_to_zero(session: Session) -> Iterator[Finding]:
    """3: a reversal of usage takes back exactly what it reverses."""
    original = aliased(UsageEntry)
    rows = session.execute(
        select(UsageEntry.session_id, UsageEntry.metric, UsageEntry.revision, UsageEntry.quantity_ms)
        .join(
            original,
            and_(
                original.session_id == UsageEntry.session_id,
                original.metric == UsageEntry.metric,
                original.revision == UsageEntry.prev_revision,
            ),
        )
        .where(UsageEntry.revision % 2 == 0, UsageEntry.quantity_ms != -original.quantity_ms)
        .order_by(UsageEntry.session_id, UsageEntry.revision)
    )
    for row in rows:
        key = f"{row.session_id}/{row.metric}/{row.revision}"
        yield Finding("usage_entry", key, f"{row.quantity_ms} ms is not what it reverses")


def ledger_has_the_odometers_difference(session: Session) -> Iterator[Finding]:
    """4: the net running time in the ledger of a closed session is the difference of its odometers; where it was
    corrected, the two differ by what a second person approved."""
    stated = (
        select(UsageEntry.session_id, func.sum(UsageEntry.quantity_ms).label("ms"))
        .where(UsageEntry.metric == METRIC_RUNNING, UsageEntry.kind.in_(_MARKED))
        .group_by(UsageEntry.session_id)
        .subquery()
    )
    approved = (
        select(
            Correction.session_id,
            func.sum(Correction.metered_after_ms - Correction.metered_before_ms).label("ms"),
        )
        .join(CorrectionDecision, CorrectionDecision.correction_id == Correction.correction_id)
        .where(CorrectionDecision.approved, Correction.session_id.is_not(None))
        .group_by(Correction.session_id)
        .subquery()
    )
    difference = UsageSession.odo_running_last_ms - UsageSession.odo_running_first_ms + func.coalesce(approved.c.ms, 0)
    rows = session.execute(
        select(UsageSession.session_id, difference, func.coalesce(stated.c.ms, -1))
        .outerjoin(stated, stated.c.session_id == UsageSession.session_id)
        .outerjoin(approved, approved.c.session_id == UsageSession.session_id)
        .where(UsageSession.ended_at.is_not(None), func.coalesce(stated.c.ms, -1) != difference)
        .order_by(UsageSession.session_id)
    )
    for session_id, counted, ms in rows:
        said = "nothing" if ms < 0 else f"{ms} ms"
        yield Finding("usage_session", session_id, f"odometers {counted} ms, the ledger states {said}")


def sessions_do_not_overlap(session: Session) -> Iterator[Finding]:
    """5: one instrument has one session at a time; where two sources told the same, one of them waits to be matched or
    somebody was asked about it.

    Within a stream the records' numbers and the odometer decide, since labels step with the wall clock.
    """
    other = aliased(UsageSession)
    same = and_(other.instrument_id == UsageSession.instrument_id, other.session_id != UsageSession.session_id)
    same_stream = and_(other.agent_id == UsageSession.agent_id, other.stream == UsageSession.stream)
    inside = and_(same_stream, other.open_seq > UsageSession.open_seq, other.open_seq < UsageSession.last_seq)
    in_time = and_(
        ~same_stream,
        other.started_at >= UsageSession.started_at,
        other.started_at < UsageSession.ended_at,
        other.ended_at > UsageSession.started_at,
        *(~_due(DueKind.MATCH_SESSION, one.session_id) & ~asked_about(one.session_id) for one in (UsageSession, other)),
        *(~one.flags.contains(flag) for one in (UsageSession, other) for flag in sorted(NO_DATE)),
    )
    spans = (column for one in (UsageSession, other) for column in (one.started_at, one.last_at))
    rows = session.execute(
        select(UsageSession.session_id, other.session_id, same_stream, *spans)
        .join(other, same)
        .where(or_(inside, in_time))
        .order_by(UsageSession.session_id, other.session_id)
    )
    for first, second, is_inside, *edges in rows:
        if is_inside or tells_the_same(*map(to_ms, edges)):
            yield Finding("usage_session", second, f"it overlaps {first}")


def finished_use_is_priced(session: Session) -> Iterator[Finding]:
    """11: a finished session waits for matching, is matched, or is held back because of a second source; a customer's
    use is charged, or somebody looks at it; what was matched after the charge is due to be charged anew."""
    waits = _due(DueKind.MATCH_SESSION, UsageSession.session_id)
    booked = exists().where(BookingUse.session_id == UsageSession.session_id)
    unbooked = exists().where(UnbookedUse.session_id == UsageSession.session_id)
    somewhere = or_(waits, booked, unbooked, held_back(UsageSession.session_id))
    lost = select(UsageSession.session_id).where(UsageSession.ended_at.is_not(None), ~somewhere)
    for session_id in session.execute(lost.order_by(UsageSession.session_id)).scalars():
        yield Finding("usage_session", session_id, "it has ended, waits for nothing and belongs to nobody")
    charged = exists().where(Charge.booking_id == Booking.booking_id, Charge.purpose == ChargePurpose.USE.value)
    seen = exists().where(Anomaly.subject_kind == "session", Anomaly.subject_id == BookingUse.session_id)
    nobodys_turn = or_(
        Booking.state.in_(_ENDED),
        and_(Booking.state == BookingState.COMPLETED.value, ~_due(DueKind.CHARGE_BOOKING, Booking.booking_id)),
    )
    free = (
        select(Booking.booking_id)
        .join(BookingUse, BookingUse.booking_id == Booking.booking_id)
        .where(Booking.purpose == UsePurpose.CUSTOMER.value, BookingUse.running_ms > 0, ~charged, ~seen, nobodys_turn)
        .order_by(Booking.booking_id)
    )
    for booking_id in session.execute(free).scalars():
        yield Finding("booking", booking_id, "a customer's use was neither charged nor is it due")
    later = aliased(Charge)
    live = and_(
        Charge.booking_id == Booking.booking_id,
        Charge.purpose == ChargePurpose.USE.value,
        Charge.revision % 2 == 1,
        ~exists().where(
            later.booking_id == Charge.booking_id,
            later.purpose == Charge.purpose,
            later.revision > Charge.revision,
        ),
    )
    late = (
        select(Booking.booking_id)
        .join(BookingUse, BookingUse.booking_id == Booking.booking_id)
        .join(Charge, live)
        .where(
            BookingUse.running_ms > 0,
            BookingUse.matched_at > Charge.recorded_at,
            ~_due(DueKind.CHARGE_BOOKING, Booking.booking_id),
        )
        .distinct()
        .order_by(Booking.booking_id)
    )
    for booking_id in session.execute(late).scalars().all():
        booking = session.get_one(Booking, booking_id)
        if not told_by_presence(session, booking, session.get_one(Instrument, booking.instrument_id)):
            yield Finding("booking", booking_id, "use that came late is not on its charge, and nothing is due")
    noticed = exists().where(
        Anomaly.rule == SESSION_WITHOUT_BOOKING,
        Anomaly.subject_kind == "session",
        Anomaly.subject_id == UnbookedUse.session_id,
    )
    total = func.sum(UnbookedUse.running_ms)
    unseen = (
        select(UnbookedUse.session_id)
        .where(~noticed)
        .group_by(UnbookedUse.session_id)
        .having(total > UNBOOKED_ALLOWED_MS)
        .order_by(UnbookedUse.session_id)
    )
    for session_id in session.execute(unseen).scalars():
        yield Finding("unbooked_use", session_id, "use without a booking that no anomaly names")


def internal_use_never_counts(session: Session) -> Iterator[Finding]:
    """16."""
    rows = session.execute(
        select(RewardInput.run_id, RewardInput.charge_id)
        .join(Charge, Charge.charge_id == RewardInput.charge_id)
        .join(Host, Host.host_id == Charge.host_id)
        .where(RewardInput.eligible_fen != 0, or_(Charge.internal, Charge.payer_org == Host.org_id))
        .order_by(RewardInput.run_id, RewardInput.charge_id)
    )
    for run_id, charge_id in rows:
        yield Finding("reward_input", f"{run_id}/{charge_id}", "the host's own use counts")


def affiliates_never_count(session: Session) -> Iterator[Finding]:
    """17: where the policy leaves affiliates out, no party affiliated when the service was done counts."""
    later = aliased(AffiliationEvent)
    superseded = exists().where(
        later.host_org == AffiliationEvent.host_org,
        later.other_org == AffiliationEvent.other_org,
        later.effective_at > AffiliationEvent.effective_at,
        later.effective_at <= Charge.service_at,
        later.recorded_at <= RewardRun.watermark,
    )
    rows = session.execute(
        select(RewardInput.run_id, RewardInput.charge_id, RewardPolicyVersion.body)
        .join(RewardRun, RewardRun.run_id == RewardInput.run_id)
        .join(
            RewardPolicyVersion,
            and_(
                RewardPolicyVersion.policy_id == RewardRun.policy_id,
                RewardPolicyVersion.version == RewardRun.policy_version,
            ),
        )
        .join(Charge, Charge.charge_id == RewardInput.charge_id)
        .join(Host, Host.host_id == Charge.host_id)
        .join(
            AffiliationEvent,
            and_(AffiliationEvent.host_org == Host.org_id, AffiliationEvent.other_org == Charge.payer_org),
        )
        .where(
            RewardInput.eligible_fen != 0,
            AffiliationEvent.state == Affiliation.AFFILIATED.value,
            AffiliationEvent.effective_at <= Charge.service_at,
            # Strictly: what was recorded in the run's own millisecond may have come after it.
            AffiliationEvent.recorded_at < RewardRun.watermark,
            ~superseded,
        )
        .order_by(RewardInput.run_id, RewardInput.charge_id)
    )
    for run_id, charge_id, body in rows:
        if read_policy(body).excludes(Exclusion.AFFILIATED):
            yield Finding("reward_input", f"{run_id}/{charge_id}", "the payer was affiliated at the time of service")


def bases_are_the_sums_of_inputs(session: Session) -> Iterator[Finding]:
    """18: a host's base is the sum of its eligible inputs, and every input's amount is its charge's."""
    sums = (
        select(RewardInput.run_id, RewardInput.host_id, func.sum(RewardInput.eligible_fen).label("fen"))
        .group_by(RewardInput.run_id, RewardInput.host_id)
        .subquery()
    )
    rows = session.execute(
        select(RewardResult.run_id, RewardResult.host_id, RewardResult.base_fen, func.coalesce(sums.c.fen, 0))
        .outerjoin(sums, and_(sums.c.run_id == RewardResult.run_id, sums.c.host_id == RewardResult.host_id))
        .where(RewardResult.base_fen != func.coalesce(sums.c.fen, 0))
        .order_by(RewardResult.run_id, RewardResult.host_id)
    )
    for run_id, host_id, base, fen in rows:
        yield Finding("reward_result", f"{run_id}/{host_id}", f"base {base} fen, its inputs come to {fen}")
    strays = session.execute(
        select(RewardInput.run_id, RewardInput.charge_id)
        .join(Charge, Charge.charge_id == RewardInput.charge_id)
        .where(or_(RewardInput.amount_fen != Charge.total_fen, RewardInput.host_id != Charge.host_id))
        .order_by(RewardInput.run_id, RewardInput.charge_id)
    )
    for run_id, charge_id in strays:
        yield Finding("reward_input", f"{run_id}/{charge_id}", "host or amount is not that of the charge")


def inputs_name_what_is_there(session: Session) -> Iterator[Finding]:
    """Every line of a run names a run and a charge that are there. Not every engine has a key for it: a trigger does it
    there, which the owner of the tables can switch off."""
    rows = session.execute(
        select(RewardInput.run_id, RewardInput.charge_id, RewardRun.run_id.is_(None))
        .outerjoin(RewardRun, RewardRun.run_id == RewardInput.run_id)
        .outerjoin(Charge, Charge.charge_id == RewardInput.charge_id)
        .where(or_(RewardRun.run_id.is_(None), Charge.charge_id.is_(None)))
        .order_by(RewardInput.run_id, RewardInput.charge_id)
    )
    for run_id, charge_id, lacks_run in rows:
        yield Finding("reward_input", f"{run_id}/{charge_id}", f"its {'run' if lacks_run else 'charge'} is not there")


def _due(kind: DueKind, subject: InstrumentedAttribute[str]) -> Exists:
    return exists().where(Due.kind == kind.value, Due.subject_id == subject)
