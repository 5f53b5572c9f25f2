"""Who is trained on which instrument, until when. Granted and revoked by the host's manager as facts; never edited.

Called by the service (may this person book, does it confirm itself) and by the endpoints.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session, aliased

from api.booking import repository
from api.charging.access import require_host_role
from api.errors import Refused, conflict, invalid, not_found
from api.work import Work
from store.tables.accounts import Person
from store.tables.booking_rules import QualificationEvent, QualificationState
from wire.ids import new_ulid


@dataclass(frozen=True)
class Standing:
    """What holds for a person on an instrument now. `expires_at` None: without end."""

    qualified: bool
    expires_at: datetime | None = None


def standing_by(newest: QualificationEvent | None, at: datetime) -> Standing:
    """Return what the newest fact says at an instant: the last moment of a grant is the one before it expires."""
    if newest is None or newest.state == QualificationState.REVOKED.value:
        return Standing(False)
    return Standing(newest.expires_at is None or at < newest.expires_at, newest.expires_at)


def newest_fact(session: Session, instrument_id: str, person_id: str) -> QualificationEvent | None:
    """Return the newest fact about a person on an instrument."""
    return session.scalars(
        select(QualificationEvent)
        .where(QualificationEvent.instrument_id == instrument_id, QualificationEvent.person_id == person_id)
        .order_by(QualificationEvent.event_id.desc())
        .limit(1)
    ).first()


def is_qualified(session: Session, instrument_id: str, person_id: str, at: datetime) -> bool:
    """Whether a person is trained on an instrument at an instant: for a booking the end of its slot."""
    return standing_by(newest_fact(session, instrument_id, person_id), at).qualified


def not_qualified(instrument_id: str) -> Refused:
    """403: the instrument takes trained people only."""
    return Refused(
        403,
        "not_qualified",
        "该仪器须经培训取得资格后方可自主上机(资格须在时段内有效);请联系实验室管理员安排培训,或改为送样检测。",
        "This instrument is for people trained on it, valid until the slot ends;"
        " ask the lab manager for training, or send samples.",
        instrument_id=instrument_id,
    )


def grant(
    work: Work, instrument_id: str, person_id: str, training: str, expires_at: datetime | None
) -> QualificationEvent:
    """Record that a person was trained, until `expires_at` (None: without end). Granting again renews.

    Refused: 404, 403 unless the actor manages the host, 422 `training_missing`, 422 `expired_already`.
    """
    if expires_at is not None and expires_at <= work.now:
        raise invalid(
            "expired_already",
            "有效期须晚于现在;请更正有效期。",
            "A qualification has to be valid beyond now; give a later end.",
            field="expires_at",
        )
    if not training.strip():
        raise invalid("training_missing", "请写明培训内容。", "Say which training it rests on.", field="training")
    if work.session.get(Person, person_id) is None:
        raise not_found("用户", "person", person_id)
    return _record(work, instrument_id, person_id, QualificationState.GRANTED, training, expires_at)


def revoke(work: Work, instrument_id: str, person_id: str, reason: str) -> QualificationEvent:
    """Take a qualification back from now on; bookings that stand already are not touched.

    Refused: 404, 403, 409 `not_possible_now` where nobody is qualified, 422 `reason_required`.
    """
    if not reason.strip():
        raise invalid("reason_required", "请写明撤销原因。", "Say why it is taken back.", field="reason")
    if not is_qualified(work.session, instrument_id, person_id, work.now):
        raise conflict(
            "not_qualified_now",
            "该用户目前没有有效资格,无须撤销;请刷新后核对。",
            "This person holds no valid qualification there; there is nothing to take back; read the list again.",
            person_id=person_id,
        )
    return _record(work, instrument_id, person_id, QualificationState.REVOKED, reason, None)


def current(
    instrument_id: str | None, person_id: str | None, host_ids: Sequence[str] | None
) -> Select[QualificationEvent]:
    """Return the selection of the newest facts: of an instrument, a person, or instruments of hosts (None: all)."""
    later = aliased(QualificationEvent)
    newest = (
        select(func.max(later.event_id))
        .where(later.instrument_id == QualificationEvent.instrument_id, later.person_id == QualificationEvent.person_id)
        .scalar_subquery()
    )
    statement = select(QualificationEvent).where(QualificationEvent.event_id == newest)
    if instrument_id is not None:
        statement = statement.where(QualificationEvent.instrument_id == instrument_id)
    if person_id is not None:
        statement = statement.where(QualificationEvent.person_id == person_id)
    if host_ids is not None:
        statement = statement.where(QualificationEvent.instrument_id.in_(repository.instruments_of(host_ids)))
    return statement


def _record(
    work: Work, instrument_id: str, person_id: str, state: QualificationState, said: str, expires_at: datetime | None
) -> QualificationEvent:
    instrument = repository.instrument_row(work.session, instrument_id, lock=True)
    require_host_role(work, instrument.host_id, (), "登记仪器操作资格", "record who is trained")
    event = QualificationEvent(
        event_id=new_ulid(),
        instrument_id=instrument_id,
        person_id=person_id,
        state=state.value,
        training=said.strip(),
        expires_at=expires_at,
        recorded_by=work.actor.person_id,
        recorded_at=work.now,
    )
    work.session.add(event)
    work.session.flush()
    work.audit(
        f"qualification.{state.value}",
        f"person:{person_id}",
        host_id=instrument.host_id,
        after={
            "instrument": instrument_id,
            "training": event.training,
            "expires_at": "" if expires_at is None else expires_at.isoformat(),
        },
    )
    return event
