"""Two sources for one instrument: find the session that must not be matched by itself, and ask whether it may be.

The ledger takes in what every agent with a metering fact says, old facts included: nothing is lost or refused. Use of
one instrument is charged once, so matching_service asks here first. Reads only; what a person then decides about the
anomaly `second_source` lets the session be matched (cleared), or leaves it unbilled for good (confirmed).
"""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Select, and_, bindparam, exists, func, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

from store.ledger import DATED_TOO_LATE, DATES_WRONG
from store.ledger.chain import METRIC_RUNNING
from store.periods import SHANGHAI
from store.tables.audit import Anomaly, AnomalyDecision, Verdict
from store.tables.calendar import Booking, BookingUse, UnbookedUse, UsePurpose
from store.tables.charging import Charge, ChargePurpose
from store.tables.registry import Metering
from store.tables.usage import UsageEntry, UsageSession, UsageStream
from store.types import UtcDateTime
from wire.clock import to_ms

SECOND_SOURCE = "second_source"
"""Rule of the anomaly, and of the alert, of a session that is held back."""
CLOCKS_DIFFER_MS = 5_000
"""Two sessions of different streams may overlap by so much: each is dated by the clock of its own box. The shorter one
of the two at most by half of itself, so that short runs that are told twice are found too."""

NO_DATE = DATES_WRONG | {DATED_TOO_LATE}
"""Flags of a session whose dates are known to be wrong: they say nothing of who else tells its time. Such a session is
not matched to bookings by itself either, or somebody has to correct it."""


def tells_the_same(a_from_ms: int, a_to_ms: int, b_from_ms: int, b_to_ms: int) -> bool:
    """Whether two sessions of one instrument in different streams share more time than two clocks may differ by. Pure;
    UTC milliseconds."""
    shared_ms = min(a_to_ms, b_to_ms) - max(a_from_ms, b_from_ms)
    shorter_ms = min(a_to_ms - a_from_ms, b_to_ms - b_from_ms)
    return shared_ms > min(CLOCKS_DIFFER_MS, shorter_ms // 2)


@dataclass(frozen=True)
class Source:
    """A session as a source of its time. `is_in_force`: its agent spoke for the instrument when it began.

    `is_accounted`: matched to bookings, kept as use that nobody booked, or a person decided that it is to be.
    """

    session_id: str
    stream_began_ms: int
    stream: str
    is_in_force: bool
    is_accounted: bool

    def stands_before(self, other: "Source") -> bool:
        """Whether this one is believed where both tell the same time: what was matched stands; then the agent that is
        in force; then the stream that began first."""
        return self._rank < other._rank

    @property
    def _rank(self) -> tuple[bool, bool, int, str, str]:
        return not self.is_accounted, not self.is_in_force, self.stream_began_ms, self.stream, self.session_id


def all_held_back() -> Select[str]:
    """The sessions that are held back: somebody has to decide, or decided that they stay unbilled."""
    let_go = exists().where(
        AnomalyDecision.anomaly_id == Anomaly.anomaly_id, AnomalyDecision.verdict == Verdict.CLEARED.value
    )
    is_of_it = (Anomaly.rule == SECOND_SOURCE, Anomaly.subject_kind == "session")
    return select(Anomaly.subject_id).where(*is_of_it, ~let_go)


def held_back(session_id: InstrumentedAttribute[str]) -> ColumnElement[bool]:
    """The condition that one session is among them."""
    return all_held_back().where(Anomaly.subject_id == session_id).exists()


def undecided(session_id: InstrumentedAttribute[str]) -> ColumnElement[bool]:
    """The condition that a session is held back and nobody has decided about it."""
    decided = exists().where(AnomalyDecision.anomaly_id == Anomaly.anomaly_id)
    return exists().where(_names(session_id), ~decided)


def asked_about(session_id: InstrumentedAttribute[str]) -> ColumnElement[bool]:
    """The condition that a session was held back once, whatever was decided."""
    return exists().where(_names(session_id))


def _names(session_id: InstrumentedAttribute[str]) -> ColumnElement[bool]:
    return and_(Anomaly.rule == SECOND_SOURCE, Anomaly.subject_kind == "session", Anomaly.subject_id == session_id)


_Other = aliased(UsageSession)
_IN_FORCE = (
    select(Metering.agent_id)
    .where(
        Metering.instrument_id == bindparam("instrument"),
        Metering.effective_at <= bindparam("since", type_=UtcDateTime),
    )
    .order_by(Metering.effective_at.desc())
    .limit(1)
)
_OTHERS = (
    select(_Other)
    .where(
        _Other.instrument_id == bindparam("instrument"),
        _Other.started_at < bindparam("until", type_=UtcDateTime),
        _Other.last_at > bindparam("since", type_=UtcDateTime),
        or_(_Other.agent_id != bindparam("agent"), _Other.stream != bindparam("stream")),
        ~held_back(_Other.session_id),
    )
    .order_by(_Other.started_at, _Other.session_id)
)
_ASKED = select(Anomaly.anomaly_id).where(
    Anomaly.rule == SECOND_SOURCE, Anomaly.subject_kind == "session", Anomaly.subject_id == bindparam("session")
)
# Nearly always a session is the only source of its time: one look at all there is to ask says so.
_LOOK = select(
    _ASKED.limit(1).scalar_subquery().label("asked"),
    _IN_FORCE.scalar_subquery().label("in_force"),
    _OTHERS.with_only_columns(_Other.session_id).limit(1).scalar_subquery().label("other"),
)


def find_second_source(session: Session, metered: UsageSession) -> str | None:
    """Return why a closed session must not be matched, None where it may be. Under the instrument's lock.

    "" where that was said before: somebody has to decide, or decided that it stays unbilled.
    """
    asked, in_force, other = session.execute(_LOOK, _about(metered)).one()
    if asked is not None:
        decision = session.get(AnomalyDecision, asked)
        return None if decision is not None and decision.verdict == Verdict.CLEARED.value else ""
    if not _is_dated(metered):
        return None
    if in_force not in (None, metered.agent_id):
        return f"agent {metered.agent_id} told it while agent {in_force} spoke for the instrument"
    if other is None:
        return None
    mine = _source(session, metered)
    for first in _others(session, metered):
        source = _source(session, first)
        if source.stands_before(mine):
            told = "is matched" if source.is_accounted else "is told"
            since, until = (
                at.astimezone(SHANGHAI).strftime("%Y-%m-%d %H:%M:%S") for at in (first.started_at, first.last_at)
            )
            return f"session {first.session_id} of agent {first.agent_id} {told} for the same time, {since} to {until}"
    return None


def still_counted(session: Session, session_id: str) -> list[str]:
    """Return the sessions for the same time whose use counts: charged to a customer, about to be, or nobody's yet.

    Not those that were corrected to nothing, whose charge was withdrawn, or that were the host's own use.
    """
    metered = session.get_one(UsageSession, session_id)
    return [one.session_id for one in _others(session, metered) if _counts(session, one.session_id)]


def _counts(session: Session, session_id: str) -> bool:
    stated = session.scalars(
        select(UsageEntry.quantity_ms)
        .where(UsageEntry.session_id == session_id, UsageEntry.metric == METRIC_RUNNING)
        .order_by(UsageEntry.revision.desc())
        .limit(1)
    ).first()
    if stated == 0:
        return False
    newest = (
        select(func.max(Charge.revision))
        .where(Charge.booking_id == Booking.booking_id, Charge.purpose == ChargePurpose.USE.value)
        .scalar_subquery()
    )
    booked = (
        select(BookingUse.session_id)
        .join(Booking, Booking.booking_id == BookingUse.booking_id)
        .where(
            BookingUse.session_id == session_id,
            BookingUse.running_ms > 0,
            Booking.purpose == UsePurpose.CUSTOMER.value,
            func.coalesce(newest, 1) % 2 == 1,
        )
    )
    nobodys = select(UnbookedUse.session_id).where(
        UnbookedUse.session_id == session_id, UnbookedUse.running_ms > 0, UnbookedUse.purpose.is_(None)
    )
    if any(session.execute(query.limit(1)).first() is not None for query in (booked, nobodys)):
        return True
    return _was_let_go(session, session_id) and not is_matched(session, session_id)


def is_matched(session: Session, session_id: str) -> bool:
    """Whether a session was matched to bookings, or kept as use that nobody booked."""
    return any(session.execute(query, {"of": session_id}).first() is not None for query in _MATCHED)


# Put together once: building a statement costs more than the database's answer to it.
_MATCHED = (
    select(BookingUse.session_id).where(BookingUse.session_id == bindparam("of")).limit(1),
    select(UnbookedUse.session_id).where(UnbookedUse.session_id == bindparam("of")).limit(1),
)


def _was_let_go(session: Session, session_id: str) -> bool:
    asked = session.scalars(_ASKED, {"session": session_id}).first()
    decision = None if asked is None else session.get(AnomalyDecision, asked)
    return decision is not None and decision.verdict == Verdict.CLEARED.value


def _about(metered: UsageSession) -> dict[str, object]:
    return {
        "session": metered.session_id,
        "instrument": metered.instrument_id,
        "since": metered.started_at,
        "until": metered.last_at,
        "agent": metered.agent_id,
        "stream": metered.stream,
    }


def _others(session: Session, metered: UsageSession) -> list[UsageSession]:
    """Sessions of other streams that tell the same time and are not held back themselves, by their start."""
    mine = to_ms(metered.started_at), to_ms(metered.last_at)
    rows = (row for row in session.scalars(_OTHERS, _about(metered)) if _is_dated(row))
    return [row for row in rows if tells_the_same(*mine, to_ms(row.started_at), to_ms(row.last_at))]


def _is_dated(row: UsageSession) -> bool:
    return NO_DATE.isdisjoint(row.flags.split())


def _source(session: Session, row: UsageSession) -> Source:
    in_force = session.scalars(_IN_FORCE, {"instrument": row.instrument_id, "since": row.started_at}).first()
    return Source(
        row.session_id,
        to_ms(session.get_one(UsageStream, (row.agent_id, row.stream)).first_seen_at),
        row.stream,
        is_in_force=in_force in (None, row.agent_id),
        is_accounted=is_matched(session, row.session_id) or _was_let_go(session, row.session_id),
    )
