"""What looked wrong when a charge was posted or a session was matched, and what a person decided about it.

Written by charging in the transaction that posts the charge; an open or confirmed one keeps the charge out of a
reward, whatever else holds. Never edited: a decision is a row of its own, made once.
"""

from sqlalchemy import ColumnElement, Select, literal, select
from sqlalchemy.orm import Session

from api.booking.due import move_due
from api.booking.repository import instrument_row
from api.booking.sources import SECOND_SOURCE, still_counted
from api.charging.access import visible_to
from api.charging.flags import CERTIFICATE_EXPIRED, COVERAGE_BELOW_95, FEE_WITHOUT_SESSION
from api.errors import conflict, invalid, not_found
from api.work import Actor, Work
from store.canonical import sha256_hex
from store.tables.accounts import Role
from store.tables.audit import Anomaly, AnomalyDecision, Verdict
from store.tables.calendar import DueKind
from store.tables.usage import UsageSession
from store.upsert import insert_if_absent

__all__ = [
    "CERTIFICATE_EXPIRED",
    "COVERAGE_BELOW_95",
    "DISPUTED",
    "FEE_WITHOUT_SESSION",
    "anomalies_of",
    "anomalies_seen",
    "decide_anomaly",
    "decision_on",
    "find_anomaly",
    "find_visible",
    "is_of_a_dispute",
    "raise_anomaly",
]

RULE_VERSION = "1"
DISPUTED = "disputed"
"""A payer objects; further objections to the same charge are `disputed_2` and so on."""


def raise_anomaly(
    work: Work,
    *,
    rule: str,
    subject_kind: str,
    subject_id: str,
    host_id: str,
    detail: str,
    blocks_reward: bool = True,
) -> str:
    """Record that something does not fit; found again, it stays one. Returns its id, the same for the same finding."""
    anomaly_id = sha256_hex("\n".join((rule, RULE_VERSION, subject_kind, subject_id)).encode())[:26]
    fresh = insert_if_absent(
        work.session,
        Anomaly,
        {
            "anomaly_id": anomaly_id,
            "rule": rule,
            "rule_version": RULE_VERSION,
            "subject_kind": subject_kind,
            "subject_id": subject_id,
            "host_id": host_id,
            "detail": detail,
            "blocks_reward": blocks_reward,
            "found_at": work.now,
        },
    )
    if fresh:
        work.audit(
            "anomaly.found",
            f"anomaly:{anomaly_id}",
            host_id=host_id,
            after={"rule": rule, "subject": f"{subject_kind}:{subject_id}", "detail": detail},
        )
    return anomaly_id


def decide_anomaly(work: Work, anomaly_id: str, verdict: Verdict, note: str) -> AnomalyDecision:
    """Record a county officer's decision, once, with a reason.

    A session that is held back because of a second source is matched where its anomaly is cleared, and stays unbilled
    where it is confirmed. Refused: 403, 404, 409 `already_decided`, `disputed` (that of an objection is decided by what
    answers it), `told_twice` (clearing would count the same time again), 422 `note_missing`.
    """
    work.require((Role.COUNTY_OFFICER,), "处理异常", "decide an anomaly")
    anomaly = find_anomaly(work.session, anomaly_id)
    if is_of_a_dispute(anomaly) and decision_on(work.session, anomaly_id) is None:
        raise conflict(
            "disputed",
            "该收费有未办结的异议;请以更正答复该异议,异常随之办结。",
            "The payer disputes this charge; answer with a correction, which decides this as well.",
            charge_id=anomaly.subject_id,
        )
    if not note.strip():
        raise invalid("note_missing", "请写明处理理由。", "Write down why you decide so.", field="note")
    if anomaly.rule == SECOND_SOURCE and verdict is Verdict.CLEARED:
        _let_be_matched(work, anomaly)
    decision = {
        "anomaly_id": anomaly_id,
        "verdict": verdict.value,
        "note": note.strip(),
        "decided_by": work.actor.person_id,
        "decided_at": work.now,
    }
    if not insert_if_absent(work.session, AnomalyDecision, decision):
        raise conflict(
            "already_decided",
            "该异常已有处理结论,不能再改;请刷新列表。",
            "This anomaly has been decided and a decision stands; read the list again.",
            anomaly_id=anomaly_id,
        )
    work.audit(
        "anomaly.decided",
        f"anomaly:{anomaly_id}",
        host_id=anomaly.host_id,
        after={"verdict": verdict.value, "note": note.strip()},
    )
    return work.session.get_one(AnomalyDecision, anomaly_id)


def _let_be_matched(work: Work, anomaly: Anomaly) -> None:
    """Leave a session that was held back to be matched; refused while the same time counts by another source."""
    metered = work.session.get_one(UsageSession, anomaly.subject_id)
    instrument_row(work.session, metered.instrument_id, lock=True)
    if decision_on(work.session, anomaly.anomaly_id) is not None:
        return  # what is decided already is refused by the caller
    counted = still_counted(work.session, metered.session_id)
    if counted:
        raise conflict(
            "told_twice",
            "同一时段已有另一来源的使用计入。请先更正为零或撤销其收费,或将其归为内部使用或维护;否则请确认该异常,本次使用不计费。",
            "The same time counts by another source. First correct that one to nothing, withdraw its charge or classify"
            " it as internal or maintenance; or confirm the anomaly, and this session stays unbilled.",
            sessions=counted,
        )
    move_due(work.session, DueKind.MATCH_SESSION, metered.session_id, work.now)


def is_of_a_dispute(anomaly: Anomaly) -> bool:
    """Whether an anomaly says no more than that a payer objects to a charge."""
    is_so = anomaly.rule == DISPUTED or anomaly.rule.startswith(f"{DISPUTED}_")
    return is_so and anomaly.subject_kind == "charge"


def find_anomaly(session: Session, anomaly_id: str) -> Anomaly:
    """Return an anomaly. Refused 404."""
    anomaly = session.get(Anomaly, anomaly_id)
    if anomaly is None:
        raise not_found("异常", "anomaly", anomaly_id)
    return anomaly


def find_visible(work: Work, anomaly_id: str) -> Anomaly:
    """Return an anomaly that the actor may see. Refused 404, for another host's too."""
    found = work.session.scalars(
        select(Anomaly).where(Anomaly.anomaly_id == anomaly_id, _visible(work.actor))
    ).one_or_none()
    if found is None:
        raise not_found("异常", "anomaly", anomaly_id)
    return found


def decision_on(session: Session, anomaly_id: str) -> AnomalyDecision | None:
    """Return what was decided about an anomaly, None while nothing is."""
    return session.get(AnomalyDecision, anomaly_id)


def anomalies_seen(actor: Actor, host_id: str | None, rule: str | None, open_only: bool) -> Select[Anomaly]:
    """Return the selection of anomalies the actor may see; `open_only`: those that nobody decided."""
    seen = select(Anomaly).where(_visible(actor))
    if host_id is not None:
        seen = seen.where(Anomaly.host_id == host_id)
    if rule is not None:
        seen = seen.where(Anomaly.rule == rule)
    if open_only:
        decided = select(AnomalyDecision.anomaly_id).where(AnomalyDecision.anomaly_id == Anomaly.anomaly_id)
        seen = seen.where(~decided.exists())
    return seen


def _visible(actor: Actor) -> ColumnElement[bool]:
    """The managers of its host and the county; no payer."""
    return visible_to(actor, Anomaly.host_id.expression, literal(None))


def anomalies_of(session: Session, subject_kind: str, subject_id: str) -> list[tuple[Anomaly, AnomalyDecision | None]]:
    """Return a subject's anomalies with their decisions, by rule."""
    rows = session.execute(
        select(Anomaly, AnomalyDecision)
        .outerjoin(AnomalyDecision, AnomalyDecision.anomaly_id == Anomaly.anomaly_id)
        .where(Anomaly.subject_kind == subject_kind, Anomaly.subject_id == subject_id)
        .order_by(Anomaly.rule)
    )
    return [(row[0], row[1]) for row in rows]
