"""What a notice that is not about a booking says, and whose affair it is: read from the audit event and its subject.

Asked when the event is recorded, for whom to tell, and again when somebody reads the notice. Reads only. Names come in
both languages; who may read the name of a firm is decided in matters.py.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from store.money import yuan
from store.periods import SHANGHAI
from store.tables.accounts import Person, Registration
from store.tables.audit import Anomaly
from store.tables.booking_rules import QualificationEvent, UseClaim
from store.tables.charging import Charge, Statement
from store.tables.disputes import Correction, Dispute
from store.tables.registry import Certificate, Host, Instrument, Org
from store.tables.reward_steps import RewardObjection
from store.tables.rewards import RewardResult
from wire.clock import from_ms

Said = tuple[str, str]
"""The same in Chinese and in English."""


@dataclass(frozen=True)
class Event:
    """An audit event: its action, its subject (`noun:id`) and what it says of the state after it."""

    action: str
    subject: str
    after: Mapping[str, Any]


@dataclass(frozen=True)
class Facts:
    """Whose affair it is, and what there is to say. `says` by name: the names that matter_texts.py knows."""

    payer_org: str = ""
    host_ids: tuple[str, ...] = ()
    person_ids: tuple[str, ...] = ()
    says: Mapping[str, Said] = field(default_factory=dict)


def facts_of(session: Session, event: Event) -> Facts | None:
    """Return what is known of an event's subject; None where it is nobody's affair after all."""
    noun, _, subject_id = event.subject.partition(":")
    return _READERS[noun](session, subject_id, event)


def _charge(session: Session, charge_id: str, event: Event) -> Facts | None:
    charge = session.get_one(Charge, charge_id)
    if charge.internal or charge.revision > 1:  # the second one is told as the correction that it follows from
        return None
    return Facts(charge.payer_org, (charge.host_id,), says=_of_charge(session, charge))


def _of_charge(session: Session, charge: Charge) -> dict[str, Said]:
    return {
        "instrument": _instrument(session, charge.instrument_id),
        "firm": _org(session, charge.payer_org),
        "amount": _same(yuan(charge.total_fen)),
        "day": _same(_day(charge.service_at)),
        "charge": _same(charge.charge_id),
    }


def _statement(session: Session, statement_id: str, event: Event) -> Facts:
    statement = session.get_one(Statement, statement_id)
    says = {
        "firm": _org(session, statement.payer_org),
        "host": _host(session, statement.host_id),
        "month": _same(f"{statement.month // 100}-{statement.month % 100:02d}"),
        "number": _same(statement.number or ""),
        "invoice": _same(str(event.after.get("invoice_no", ""))),
        "days": _same(str(event.after.get("bucket", ""))),
    }
    if "open_fen" in event.after:
        says["open"] = _same(yuan(int(event.after["open_fen"])))
    else:
        fen = event.after.get("amount_fen", event.after.get("total_fen", statement.total_fen))
        says["amount"] = _same(yuan(int(fen)))
    if event.action in ("statement.issued", "statement.finalized") and statement.dispute_until is not None:
        says["object_until"] = _same(_minute(statement.dispute_until))
    return Facts(statement.payer_org, (statement.host_id,), says=says)


def _dispute(session: Session, dispute_id: str, event: Event) -> Facts:
    dispute = session.get_one(Dispute, dispute_id)
    says = _of_charge(session, session.get_one(Charge, dispute.charge_id))
    says["reason"] = _same(str(event.after.get("note", dispute.reason)))
    says["outcome"] = _OUTCOMES.get(str(event.after.get("outcome", "")), ("", ""))
    return Facts(dispute.payer_org, (dispute.host_id,), says=says)


def _correction(session: Session, correction_id: str, event: Event) -> Facts | None:
    correction = session.get_one(Correction, correction_id)
    approved = event.after.get("approved")
    if approved and correction.dispute_id is not None:  # the end of the dispute says it
        return None
    charge = session.get_one(Charge, correction.charge_id)
    says = _of_charge(session, charge)
    says["reason"] = _same(str(event.after.get("note", correction.reason)))
    if approved is not None:
        says["outcome"] = ("已批准", "approved") if approved else ("未批准", "not approved")
    return Facts(charge.payer_org, (correction.host_id,), says=says)


def _anomaly(session: Session, anomaly_id: str, event: Event) -> Facts:
    anomaly = session.get_one(Anomaly, anomaly_id)
    says = {
        "host": _host(session, anomaly.host_id),
        "rule": _RULES.get(anomaly.rule, _same(anomaly.rule)),
        "subject": _same(f"{anomaly.subject_kind}:{anomaly.subject_id}"),
        "detail": _same(anomaly.detail),
    }
    return Facts("", (anomaly.host_id,), says=says)


def _use_claim(session: Session, claim_id: str, event: Event) -> Facts:
    claim = session.get_one(UseClaim, claim_id)
    says = {
        "instrument": _instrument(session, claim.instrument_id),
        "firm": _org(session, claim.payer_org),
        "amount": _same(yuan(claim.total_fen)),
        "day": _same(_minute(claim.from_at)),
        "reason": _same("" if event.action == "use_claim.expired" else str(event.after["note"])),
    }
    return Facts(claim.payer_org, (claim.host_id,), says=says)


def _tariff_proposal(session: Session, proposal_id: str, event: Event) -> Facts:
    return Facts("", (str(event.after["host_id"]),), says=_of_tariff(session, str(event.after["instrument_id"]), event))


def _tariff(session: Session, instrument_id: str, event: Event) -> Facts:
    host_id = session.get_one(Instrument, instrument_id).host_id
    return Facts("", (host_id,), (str(event.after["prepared_by"]),), _of_tariff(session, instrument_id, event))


def _of_tariff(session: Session, instrument_id: str, event: Event) -> dict[str, Said]:
    starts = _minute(from_ms(int(event.after["valid_from_ms"])))
    return {"instrument": _instrument(session, instrument_id), "from": _same(starts)}


def _certificate(session: Session, certificate_id: str, event: Event) -> Facts:
    certificate = session.get_one(Certificate, certificate_id)
    instrument = session.get_one(Instrument, certificate.instrument_id)
    says = {
        "instrument": (instrument.name_zh, instrument.name_en),
        "number": _same(certificate.number),
        "until": _same(_day(certificate.valid_to)),
    }
    return Facts("", (instrument.host_id,), says=says)


def _qualification(session: Session, event_id: str, event: Event) -> Facts:
    fact = session.get_one(QualificationEvent, event_id)
    instrument = session.get_one(Instrument, fact.instrument_id)
    says = {
        "instrument": (instrument.name_zh, instrument.name_en),
        "person": _same(session.get_one(Person, fact.person_id).name),
        "until": _same("" if fact.expires_at is None else _minute(fact.expires_at)),
    }
    return Facts("", (instrument.host_id,), (fact.person_id,), says)


def _person(session: Session, person_id: str, event: Event) -> Facts:
    """Of somebody's role at a host."""
    host_id = str(event.after["host_id"])
    author = session.get_one(Person, str(event.after.get("appointed_by") or event.after["proposed_by"]))
    says = {
        "person": _same(session.get_one(Person, person_id).name),
        "host": _host(session, host_id),
        "by": _same(author.name),
    }
    return Facts("", (host_id,), says=says)


def _of_org(session: Session, org_id: str, event: Event) -> Facts:
    if event.action == "invitation_accepted":
        person = session.get_one(Person, event.after["person_id"])
        says = {"person": _same(person.name), "org": _org(session, org_id)}
        return Facts(person_ids=(str(event.after["invited_by"]),), says=says)
    newest = select(Registration).where(Registration.org_id == org_id).order_by(Registration.registration_id.desc())
    asked = session.scalars(newest.limit(1)).one()
    says = {
        "org": (str(event.after.get("name_zh", asked.name_zh)), asked.name_en or asked.name_zh),
        "uscc": _same(str(event.after["uscc"])),
        "outcome": _REGISTERED.get(str(event.after.get("state", "")), ("", "")),
        "reason": _same(str(event.after.get("reason", ""))),
    }
    return Facts(person_ids=(asked.person_id,), says=says)


def _reward_run(session: Session, run_id: str, event: Event) -> Facts:
    hosts = session.scalars(select(RewardResult.host_id).where(RewardResult.run_id == run_id).order_by("host_id"))
    says = {name: _same(str(event.after[name])) for name in ("policy", "period", "run_no")}
    if "notice_until" in event.after:
        says["object_until"] = _same(_minute(datetime.fromisoformat(event.after["notice_until"])))
    return Facts("", tuple(hosts), says=says)


def _reward_objection(session: Session, objection_id: str, event: Event) -> Facts:
    raised = session.get_one(RewardObjection, objection_id)
    says = {
        "org": _org(session, raised.org_id),
        "outcome": _ANSWERS.get(str(event.after.get("outcome", "")), ("", "")),
        "reason": _same(str(event.after.get("answer", raised.objection))),
    }
    return Facts(person_ids=(raised.raised_by,), says=says)


def _instrument(session: Session, instrument_id: str) -> Said:
    row = session.get_one(Instrument, instrument_id)
    return row.name_zh, row.name_en


def _org(session: Session, org_id: str) -> Said:
    row = session.get_one(Org, org_id)
    return row.name_zh, row.name_en


def _host(session: Session, host_id: str) -> Said:
    return _org(session, session.get_one(Host, host_id).org_id)


def _same(text: str) -> Said:
    return text, text


def _day(moment: datetime) -> str:
    return f"{moment.astimezone(SHANGHAI):%Y-%m-%d}"


def _minute(moment: datetime) -> str:
    return f"{moment.astimezone(SHANGHAI):%Y-%m-%d %H:%M}"


_READERS: dict[str, Callable[[Session, str, Event], Facts | None]] = {
    "charge": _charge,
    "statement": _statement,
    "dispute": _dispute,
    "correction": _correction,
    "anomaly": _anomaly,
    "use_claim": _use_claim,
    "tariff_proposal": _tariff_proposal,
    "tariff": _tariff,
    "certificate": _certificate,
    "qualification": _qualification,
    "person": _person,
    "org": _of_org,
    "reward_run": _reward_run,
    "reward_objection": _reward_objection,
}

_OUTCOMES: dict[str, Said] = {
    "corrected": ("已更正", "corrected"),
    "stands": ("维持原收费", "the charge stands"),
    "withdrawn": ("已撤回", "withdrawn"),
}
_ANSWERS: dict[str, Said] = {"upheld": ("成立", "upheld"), "rejected": ("不成立", "rejected")}
_REGISTERED: dict[str, Said] = {
    "approved": ("已通过", "approved"),
    "joined": ("已通过,并入已有单位", "approved; the firm was known"),
    "rejected": ("被退回", "rejected"),
}
_RULES: dict[str, Said] = {
    "coverage_below_95": ("采样覆盖率低于 95%", "the samples cover less than 95 %"),
    "certificate_expired": ("计量证书已过期", "the certificate has expired"),
    "fee_without_session": ("收费没有对应的使用记录", "a fee without recorded use"),
    "billed_above_metered": ("计费时长超过计量时长", "more was billed than metered"),
    "price_above_list": ("价格高于公示标准", "the price is above the list"),
    "back_dated_booking": ("预约晚于使用", "booked after the use"),
    "hole_not_bridged": (
        "有一段记录空档未计费,请核对;如应计费,请提出计量更正,由另一人批准",
        "a hole in the records is not billed: look at it; to bill it, propose a metered correction, and another person"
        " approves",
    ),
    "use_after_completion": ("预约完成后仍有使用", "use after the booking was completed"),
    "second_source": (
        "同一仪器的使用由两个来源上报,该次暂不计费;由县科技局决定是否计入",
        "two sources told the use of one instrument; this session is not billed unless an officer clears it",
    ),
    "session_in_doubt": ("使用记录存疑", "not all of a session's time is proved"),
    "dated_too_late": ("匹配后才对时,使用日期有误", "its clock was set after it was matched: its dates are wrong"),
    "session_without_booking": ("使用没有对应的预约", "use without a booking"),
    "forgotten_check_out": ("未签退", "nobody checked out"),
    "telemetry_coverage": ("遥测数据不完整", "the telemetry is incomplete"),
    "ran_past_slot": ("使用超出预约时段", "it ran past its slot"),
}
