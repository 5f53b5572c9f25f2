"""What the lab does about a wrong charge: somebody proposes with evidence, another person decides, and the whole charge
is taken back and posted anew. Both charges stay visible for ever and are named by the decision.

A correction may answer a dispute, or stand alone where the host found the error itself. Where the metered quantity was
wrong, the usage ledger is corrected in the same transaction (store.ledger.correcting).
"""

import json
from collections.abc import Collection
from dataclasses import dataclass, field

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.charging.access import is_system, may_see, require_host_role
from api.charging.closing import close_booking, may_close
from api.charging.corrections_rules import LineKey, corrected_ms, waived_lines, write_lines
from api.charging.disputes import end_dispute, open_dispute, require_live
from api.charging.documents import read_bridged
from api.charging.repository import last_charge, take_booking
from api.charging.reversal import reverse_charge
from api.charging.service import Charged, recharge_booking
from api.charging.use import told_by_presence
from api.charging.waiting import correction_waits
from api.errors import Refused, conflict, forbidden, invalid, not_found
from api.work import Work
from store.canonical import canonical_json, sha256_hex
from store.ledger import correct_usage
from store.series import SeriesStore
from store.tables.accounts import Role
from store.tables.calendar import Booking, BookingUse
from store.tables.charging import Charge, ChargeLine, ChargePurpose
from store.tables.disputes import Correction, CorrectionDecision, CorrectionKind, Dispute, DisputeOutcome
from store.tables.registry import Instrument
from store.upsert import insert_if_absent
from wire.ids import new_ulid

DECIDERS = (Role.COUNTY_OFFICER,)


@dataclass(frozen=True)
class Proposal:
    """What somebody proposes. `metered_ms` is the running time of `session_id` within the booking, as it should be,
    with the holes in it that are to be billed: once people have said it, the rule bridges nothing of that session
    (without a session: of the whole booking, where a check-in is the meter). `lines` are (component, item) to waive."""

    kind: CorrectionKind
    reason: str
    evidence: str
    evidence_sha256: str | None = None
    session_id: str | None = None
    metered_ms: int | None = None
    lines: Collection[LineKey] = field(default=())


def propose_correction(work: Work, charge_id: str, proposal: Proposal) -> Correction:
    """Propose what should become of a live charge; answers its open dispute, where there is one. Nothing changes yet.

    Refused: 404, 403 for anybody but the host's managers and county officers, 409 `not_a_live_charge`,
    `correction_waits`, `only_use_can_be_corrected`, 422 `reason_missing`, `evidence_missing`, `bad_correction`.
    """
    charge = work.session.get(Charge, charge_id)
    if charge is None or not may_see(work.actor, charge.host_id, charge.payer_org):
        raise not_found("收费", "charge", charge_id)
    _require_person(work)
    require_host_role(work, charge.host_id, DECIDERS, "提出更正", "propose a correction")
    if not proposal.reason.strip():
        raise invalid("reason_missing", "请写明理由。", "Give a reason.", field="reason")
    if not proposal.evidence.strip():
        raise invalid("evidence_missing", "请写明依据。", "Say what it rests on.", field="evidence")
    take_booking(work.session, charge.booking_id)
    require_live(work.session, charge)
    if _waiting(work.session, charge_id) is not None:
        raise conflict(
            "correction_waits",
            "该收费已有待审的更正;请先审批该更正。",
            "A correction of this charge waits already; decide that one first.",
            charge=charge_id,
        )
    dispute = open_dispute(work.session, charge_id)
    correction = _row(work, charge, dispute, proposal)
    _check(work.session, charge, correction, proposal)
    correction.body_sha256 = sha256_hex(correction_document(correction))
    work.session.add(correction)
    work.session.flush()
    work.audit(
        "correction.proposed",
        f"correction:{correction.correction_id}",
        host_id=charge.host_id,
        after={"charge": charge_id, "kind": correction.kind, "body_sha256": correction.body_sha256},
    )
    return correction


def decide_correction(
    work: Work, correction_id: str, approved: bool, note: str, body_sha256: str, series: SeriesStore
) -> CorrectionDecision:
    """Decide, by a second person of the host or the county; approved, it takes effect in this transaction.

    A dispute that it answers ends by an approval; turned down, the dispute stays open for another proposal.
    Refused: 404, 403, 409 `same_person`, `already_decided`, `not_what_was_read`, `not_a_live_charge`,
    `cannot_charge_yet`, 422 `note_missing`.
    """
    correction = find_correction(work, correction_id)
    charge = work.session.get_one(Charge, correction.charge_id)
    _require_person(work)
    require_host_role(work, correction.host_id, DECIDERS, "审批更正", "decide a correction")
    if work.actor.person_id == correction.proposed_by:
        raise conflict(
            "same_person",
            "更正须由提出人以外的另一人审批;请联系另一位有权人员。",
            "Somebody else than the person who proposed it has to decide; ask a colleague.",
        )
    if not note.strip():
        raise invalid("note_missing", "请写明审批意见。", "Write down why you decide so.", field="note")
    if body_sha256 != correction.body_sha256:
        raise conflict(
            "not_what_was_read",
            "更正内容与您所读不一致;请重新读取后再审批。",
            "This is not the correction that you read; read it again, then decide.",
            field="body_sha256",
        )
    take_booking(work.session, charge.booking_id)
    row = {
        "correction_id": correction_id,
        "approved": approved,
        "note": note.strip(),
        "proposed_by": correction.proposed_by,
        "decided_by": work.actor.person_id,
        "decided_at": work.now,
    }
    if not insert_if_absent(work.session, CorrectionDecision, row):
        raise _decided(correction_id)
    posted = _carry_out(work, correction, charge, series) if approved else []
    work.audit(
        "correction.decided",
        f"correction:{correction_id}",
        host_id=correction.host_id,
        after={"approved": approved, "note": note.strip(), "posted": posted},
    )
    if approved and correction.dispute_id is not None:
        stands = correction.kind == CorrectionKind.STANDS.value
        outcome = DisputeOutcome.STANDS if stands else DisputeOutcome.CORRECTED
        dispute = work.session.get_one(Dispute, correction.dispute_id)
        end_dispute(work, dispute, outcome, correction_id, note.strip())
    return work.session.get_one(CorrectionDecision, correction_id)


def find_correction(work: Work, correction_id: str) -> Correction:
    """Return a correction that the actor may see: the payer sees those about its own charges. Refused 404 otherwise."""
    correction = work.session.get(Correction, correction_id)
    charge = None if correction is None else work.session.get_one(Charge, correction.charge_id)
    if correction is None or charge is None or not may_see(work.actor, charge.host_id, charge.payer_org):
        raise not_found("更正", "correction", correction_id)
    return correction


def decision_on(session: Session, correction_id: str) -> CorrectionDecision | None:
    """Return what was decided about a correction, None while nothing is."""
    return session.get(CorrectionDecision, correction_id)


def correction_document(correction: Correction) -> bytes:
    """Return the bytes whose hash the second person approves."""
    names = ("correction_id", "charge_id", "dispute_id", "kind", "session_id", "metered_before_ms", "metered_after_ms")
    more = ("lines", "reason", "evidence", "evidence_sha256", "proposed_by")
    return canonical_json({name: getattr(correction, name) for name in (*names, *more)})


def _row(work: Work, charge: Charge, dispute: Dispute | None, proposal: Proposal) -> Correction:
    number = work.session.execute(
        select(func.coalesce(func.max(Correction.correction_no), 0)).where(Correction.charge_id == charge.charge_id)
    ).scalar_one()
    metered = proposal.kind is CorrectionKind.METERED
    return Correction(
        correction_id=new_ulid(),
        charge_id=charge.charge_id,
        correction_no=int(number) + 1,
        dispute_id=None if dispute is None else dispute.dispute_id,
        host_id=charge.host_id,
        kind=proposal.kind.value,
        session_id=proposal.session_id if metered else None,
        metered_before_ms=None,
        metered_after_ms=proposal.metered_ms if metered else None,
        lines=write_lines(proposal.lines if proposal.kind is CorrectionKind.WAIVER else ()),
        reason=proposal.reason.strip(),
        evidence=proposal.evidence.strip(),
        evidence_sha256=proposal.evidence_sha256,
        body_sha256="",
        proposed_by=work.actor.person_id,
        proposed_at=work.now,
    )


def _check(session: Session, charge: Charge, correction: Correction, proposal: Proposal) -> None:
    """Refuse what could not be carried out, and fill in what the correction changes."""
    kind = proposal.kind
    if kind in (CorrectionKind.METERED, CorrectionKind.WAIVER) and charge.purpose != ChargePurpose.USE.value:
        raise conflict(
            "only_use_can_be_corrected",
            "该收费只能整笔撤销;请改为撤销。",
            "Only a charge for use can be posted anew; withdraw this one as a whole.",
            purpose=charge.purpose,
        )
    if kind is CorrectionKind.METERED:
        correction.metered_before_ms = _metered_now(session, charge, proposal)
        # Where the charge bridged holes of that session, the time the meter saw is news: nothing is bridged after it.
        bridged = any(hole.session_id == proposal.session_id for hole in read_bridged(json.loads(charge.input)))
        if proposal.metered_ms == correction.metered_before_ms and not bridged:
            raise _bad(
                "metered_ms",
                "计量时长没有变化;请填写更正后的时长。",
                "That is the time it was metered with already; give the right one.",
            )
    elif kind is CorrectionKind.WAIVER:
        there = session.execute(
            select(ChargeLine.component, ChargeLine.item_code).where(
                ChargeLine.charge_id == charge.charge_id, ChargeLine.amount_fen > 0
            )
        )
        owed = {(row[0], row[1]) for row in there} - waived_lines(session, charge.booking_id)
        if not proposal.lines or not set(proposal.lines) <= owed:
            raise _bad("lines", "请选择该收费中应收的明细行。", "Name lines of this charge that are owed.")
    elif kind is CorrectionKind.STANDS and correction.dispute_id is None:
        raise _bad(
            "kind",
            "没有需要答复的异议;请选择其他更正方式。",
            "There is no dispute that this could answer; choose another kind.",
        )


def _metered_now(session: Session, charge: Charge, proposal: Proposal) -> int:
    """The running time, in ms, that the correction replaces."""
    if proposal.metered_ms is None or proposal.metered_ms < 0:
        raise _bad("metered_ms", "请填写更正后的计量时长(毫秒)。", "Give the right running time in milliseconds.")
    if proposal.session_id is None:
        booking, instrument = (
            session.get_one(Booking, charge.booking_id),
            session.get_one(Instrument, charge.instrument_id),
        )
        if not told_by_presence(session, booking, instrument):
            raise _bad("session_id", "请指明更正的是哪次使用。", "Say which session was metered wrongly.")
        return charge.metered_ms
    part = session.get(BookingUse, (proposal.session_id, charge.booking_id))
    if part is None:
        raise _bad(
            "session_id",
            "该使用不属于此预约;请核对 session_id。",
            "That session is not part of this booking; check session_id.",
        )
    return part.running_ms + corrected_ms(session, charge.booking_id, session_id=proposal.session_id)


def _carry_out(work: Work, correction: Correction, charge: Charge, series: SeriesStore) -> list[str]:
    """Take the charge back and post it anew; return the ids of what was posted."""
    kind = CorrectionKind(correction.kind)
    if kind is CorrectionKind.STANDS:
        return []
    require_live(work.session, charge)
    reason = f"correction {correction.correction_id}: {correction.reason}"
    if correction.session_id is not None:
        before, after = correction.metered_before_ms or 0, correction.metered_after_ms or 0
        correct_usage(work.session, correction.session_id, after - before, reason, work.actor.person_id, work.now)
    reversal = reverse_charge(work, charge.charge_id, reason, by_correction=True)
    if kind is CorrectionKind.WITHDRAWAL:
        booking = take_booking(work.session, charge.booking_id)
        if may_close(booking):
            close_booking(work, booking, reason)
        return [reversal.charge_id]
    outcome = recharge_booking(work, charge.booking_id, series, reason)
    if outcome.result is not Charged.POSTED or outcome.charge_id is None:
        raise conflict(
            "cannot_charge_yet",
            f"现在不能重新计费({outcome.reason});请稍后再审批。",
            f"It cannot be charged anew now ({outcome.reason}); decide later.",
            reason=outcome.reason,
        )
    posted = last_charge(work.session, charge.booking_id)
    assert posted is not None
    return [reversal.charge_id, posted.charge_id]


def _waiting(session: Session, charge_id: str) -> Correction | None:
    query = select(Correction).where(Correction.charge_id == charge_id, correction_waits())
    return session.execute(query).scalar_one_or_none()


def _require_person(work: Work) -> None:
    if is_system(work.actor):
        raise forbidden(
            "更正须由人提出和审批;请由有权人员登录办理。",
            "A correction is proposed and decided by people; sign in as one of them.",
        )


def _decided(correction_id: str) -> Refused:
    return conflict(
        "already_decided",
        "该更正已有审批结论;请刷新查看,如仍有误请另提更正。",
        "This correction has been decided; propose another if the charge is still wrong.",
        correction_id=correction_id,
    )


def _bad(field_name: str, zh: str, en: str) -> Refused:
    return invalid("bad_correction", zh, en, field=field_name)
