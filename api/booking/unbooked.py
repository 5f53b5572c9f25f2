"""Use that nobody booked: the lab manager says whose it was. Nothing of it is billed before the firm named confirms it.

Internal use and maintenance are the manager's own word. A firm's use is put to that firm with its price; confirmed, it
becomes a booking that is charged under the normal rules; refused, it is the manager's question again. When all use of
a session is classified, its anomaly is answered by that.
"""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Select, exists, select
from sqlalchemy.orm import Session

from api.booking import repository
from api.booking.due import ensure_due
from api.booking.history import record_event
from api.booking.matching_service import SESSION_WITHOUT_BOOKING
from api.booking.notices import Happening
from api.booking.offers import category_of, priced
from api.booking.rules import check_parties
from api.booking.states import BookingAction
from api.booking.steps import take_step
from api.charging.access import require_host_role, visible_to
from api.charging.anomalies import anomalies_of
from api.charging.public_days import public_days
from api.charging.rating import Piece, RatingInput, Times
from api.charging.tariff_body import TARIFF_1, TariffBody, UserCategory
from api.charging.tariffs import tariff_in_force
from api.errors import conflict, forbidden, invalid, not_found, stale
from api.work import Work, system_actor
from store.tables.accounts import Role
from store.tables.audit import Anomaly, AnomalyDecision, Verdict
from store.tables.booking_rules import ClaimState, UseClaim
from store.tables.calendar import Booking, BookingMode, BookingState, BookingUse, DueKind, UnbookedUse, UsePurpose
from store.tables.registry import Instrument
from store.upsert import insert_if_absent
from wire.clock import to_ms
from wire.ids import new_ulid


def open_uses(host_ids: Sequence[str] | None, everything: bool = False) -> Select[UnbookedUse]:
    """Return the selection of use that nobody has classified: of hosts (None: all).

    Without `everything` only what an anomaly names: more than a minute of a session.
    """
    statement = select(UnbookedUse).where(UnbookedUse.purpose.is_(None), UnbookedUse.running_ms > 0)
    if host_ids is not None:
        statement = statement.where(UnbookedUse.instrument_id.in_(repository.instruments_of(host_ids)))
    named = exists().where(Anomaly.rule == SESSION_WITHOUT_BOOKING, Anomaly.subject_id == UnbookedUse.session_id)
    return statement if everything else statement.where(named)


def classify(work: Work, session_id: str, from_at: datetime, purpose: UsePurpose, note: str) -> UnbookedUse:
    """Say that use was the host's own or maintenance. By its lab manager, once, with a word on it.

    Refused: 404, 403, 409 `classified_already`, 409 `claim_open`, 422 for a customer's use or no note.
    """
    if purpose is UsePurpose.CUSTOMER:
        raise invalid(
            "claim_it",
            "客户使用须先由客户确认;请提交给该客户确认。",
            "A customer's use takes the customer's word: put it to the firm instead (`use-claims`).",
            field="purpose",
        )
    use = _take(work, session_id, from_at, note)
    _settle(work, use, purpose, work.actor.person_id, note)
    return use


def claim_for(work: Work, session_id: str, from_at: datetime, payer_org: str, note: str) -> UseClaim:
    """Put use to the firm whose it was, with its price by the tariff that was in force. By the host's lab manager.

    Refused: 404, 403, 409 `classified_already`, `claim_open`, `no_tariff`, `no_running_time`, 422 `payer_is_host`.
    """
    use = _take(work, session_id, from_at, note)
    instrument = repository.instrument_row(work.session, use.instrument_id)
    owner = repository.host_org(work.session, instrument.host_id)
    payer = repository.org_row(work.session, payer_org)
    if payer.org_id == owner.org_id:
        raise invalid(
            "payer_is_host",
            "本单位的使用请归为内部使用。",
            "The host's own use is internal; choose that instead.",
            field="payer_org",
        )
    check_parties(payer, owner)
    if use.to_at <= use.from_at or use.running_ms == 0:
        raise conflict(
            "no_running_time",
            "该段使用没有运行时间,无需向客户确认;请归为内部使用或维护。",
            "It ran for no time; there is nothing to bill; choose internal use or maintenance.",
        )
    tariff = tariff_in_force(work.session, instrument.instrument_id, use.from_at)
    category = category_of(work, owner, payer, use.from_at)
    price = priced(tariff, _as_used(work, use, tariff.body, category))
    claim = UseClaim(
        claim_id=new_ulid(),
        session_id=session_id,
        from_at=use.from_at,
        instrument_id=use.instrument_id,
        host_id=instrument.host_id,
        payer_org=payer_org,
        state=ClaimState.OPEN.value,
        tariff_id=price.tariff_id,
        tariff_version=price.tariff_version,
        category=price.category.value,
        quote=price.document,
        quote_sha256=price.sha256,
        total_fen=price.rated.total_fen,
        note=note.strip(),
        proposed_by=work.actor.person_id,
        proposed_at=work.now,
        answered_by=None,
        answered_at=None,
        answer_note="",
        booking_id=None,
        row_version=1,
    )
    work.session.add(claim)
    work.session.flush()
    _audit(work, claim, "claimed", note)
    return claim


def confirm(work: Work, claim_id: str, version: int, quote_sha256: str) -> tuple[UseClaim, Booking]:
    """Confirm as the firm that the use was its own: it becomes a booking, completed, whose charge is due.

    Refused: 404, 403, 412 stale, 409 `answered_already`, `classified_already`, 409 `price_not_agreed` for another hash.
    """
    claim = _answerable(work, claim_id, version, by_firm=True)
    if quote_sha256 != claim.quote_sha256:
        raise conflict(
            "price_not_agreed",
            "请在 quote_sha256 中给出所同意报价的哈希。",
            "Name the hash of the price you agree to in `quote_sha256`.",
            total_fen=claim.total_fen,
            quote_sha256=claim.quote_sha256,
        )
    use = _unclassified(work.session, claim.session_id, claim.from_at)
    booking = _booking_of(work, claim, use)
    _close(work, claim, ClaimState.CONFIRMED, "", booking.booking_id)
    _settle(work, use, UsePurpose.CUSTOMER, claim.proposed_by, f"claim {claim_id}: {claim.note}")
    return claim, booking


def refuse(work: Work, claim_id: str, version: int, reason: str) -> UseClaim:
    """Say as the firm that the use was not its own; it is the manager's question again. Refused: as `confirm`, 422."""
    claim = _answerable(work, claim_id, version, by_firm=True)
    if not reason.strip():
        raise invalid("reason_required", "请写明不认可的原因。", "Say why it was not your firm's use.", field="reason")
    _close(work, claim, ClaimState.REFUSED, reason, None)
    return claim


def withdraw(work: Work, claim_id: str, version: int) -> UseClaim:
    """Take a claim back as the host's manager, to classify the use in another way. Refused: as `confirm`."""
    claim = _answerable(work, claim_id, version, by_firm=False)
    _close(work, claim, ClaimState.WITHDRAWN, "", None)
    return claim


def claims_seen(work: Work, state: str | None) -> Select[UseClaim]:
    """Return the selection of claims the actor may see: its firm's, its hosts', or all."""
    seen = visible_to(work.actor, UseClaim.__table__.c.host_id, UseClaim.__table__.c.payer_org)
    statement = select(UseClaim).where(seen)
    return statement if state is None else statement.where(UseClaim.state == state)


def _as_used(work: Work, use: UnbookedUse, body: TariffBody, category: UserCategory) -> RatingInput:
    """What the charge will be computed from, as far as it is known now."""
    start, end = to_ms(use.from_at), to_ms(use.to_at)
    times = None
    if body.schema_name != TARIFF_1:
        times = Times(start, (Piece(start, end, use.running_ms),), public_days(work.session, body, start, end))
    mode = BookingMode.SELF_OPERATED
    return RatingInput(body, category, mode, end - start, use.running_ms, 0, times)


def _take(work: Work, session_id: str, from_at: datetime, note: str) -> UnbookedUse:
    use = _find(work.session, session_id, from_at)
    instrument = repository.instrument_row(work.session, use.instrument_id, lock=True)
    require_host_role(work, instrument.host_id, (), "归类未预约的使用", "classify use without a booking")
    if not note.strip():
        raise invalid("reason_required", "请写明归类依据。", "Say what you know about this use.", field="note")
    use = _unclassified(work.session, session_id, from_at)
    waiting = work.session.scalars(
        select(UseClaim.claim_id).where(
            UseClaim.session_id == session_id, UseClaim.from_at == from_at, UseClaim.state == ClaimState.OPEN.value
        )
    ).first()
    if waiting is not None:
        raise conflict(
            "claim_open",
            "该段使用已提交客户确认;请等待答复或先撤回。",
            "A firm has been asked about this use; wait for its answer, or withdraw the claim first.",
            claim_id=waiting,
        )
    return use


def _find(session: Session, session_id: str, from_at: datetime) -> UnbookedUse:
    use = session.get(UnbookedUse, (session_id, from_at), populate_existing=True)
    if use is None:
        raise not_found("未预约的使用", "use without a booking", session_id)
    return use


def _unclassified(session: Session, session_id: str, from_at: datetime) -> UnbookedUse:
    use = _find(session, session_id, from_at)
    if use.purpose is not None:
        raise conflict(
            "classified_already",
            "该段使用已归类,不能再改;如有错误请对账单提出更正。",
            "This use has been classified and that stands; propose a correction of its charge where it is wrong.",
            purpose=use.purpose,
        )
    return use


def _settle(work: Work, use: UnbookedUse, purpose: UsePurpose, by: str, note: str) -> None:
    use.purpose, use.classified_by, use.classified_at = purpose.value, by, work.now
    work.session.flush()
    host_id = work.session.get_one(Instrument, use.instrument_id).host_id
    work.audit(
        "unbooked_use.classified",
        f"session:{use.session_id}",
        host_id=host_id,
        before={"purpose": ""},
        after={"from_ms": to_ms(use.from_at), "purpose": purpose.value, "by": by, "note": note.strip()},
    )
    rest = select(UnbookedUse.from_at).where(
        UnbookedUse.session_id == use.session_id,
        UnbookedUse.purpose.is_(None),
        UnbookedUse.running_ms > 0,
    )
    if work.session.execute(rest.limit(1)).first() is None:
        _answer_anomaly(work, use.session_id, note)


def _answer_anomaly(work: Work, session_id: str, note: str) -> None:
    for anomaly, decision in anomalies_of(work.session, "session", session_id):
        if anomaly.rule == SESSION_WITHOUT_BOOKING and decision is None:
            values = {
                "anomaly_id": anomaly.anomaly_id,
                "verdict": Verdict.CLEARED.value,
                "note": f"classified: {note.strip()}",
                "decided_by": work.actor.person_id,
                "decided_at": work.now,
            }
            insert_if_absent(work.session, AnomalyDecision, values)
            facts = {"verdict": Verdict.CLEARED.value, "note": values["note"]}
            work.audit("anomaly.decided", f"anomaly:{anomaly.anomaly_id}", host_id=anomaly.host_id, after=facts)


def _answerable(work: Work, claim_id: str, version: int, *, by_firm: bool) -> UseClaim:
    claim = work.session.scalars(claims_seen(work, None).where(UseClaim.claim_id == claim_id)).one_or_none()
    if claim is None:
        raise not_found("待确认的使用", "claim of use", claim_id)
    repository.instrument_row(work.session, claim.instrument_id, lock=True)
    work.session.refresh(claim)
    if claim.row_version != version:
        raise stale(claim.row_version, version)
    of_firm = work.actor.has(Role.SME) and work.actor.org_id == claim.payer_org
    if not (of_firm if by_firm else work.actor.manages(claim.host_id)):
        raise forbidden(
            "请等待该企业确认或拒绝;如需撤回,由提交的实验室管理员办理。",
            "Wait for the firm named, which confirms or refuses it; the host's lab manager may withdraw it.",
        )
    if claim.state != ClaimState.OPEN.value:
        raise conflict(
            "answered_already",
            "该确认请求已有结果;请刷新查看,被拒绝的可重新提交。",
            "This claim has been answered; make another one if it was refused.",
            state=claim.state,
        )
    return claim


def _close(work: Work, claim: UseClaim, state: ClaimState, note: str, booking_id: str | None) -> None:
    claim.state, claim.booking_id, claim.answer_note = state.value, booking_id, note.strip()
    claim.answered_by, claim.answered_at = work.actor.person_id, work.now
    claim.row_version += 1
    work.session.flush()
    _audit(work, claim, state.value, note)


def _booking_of(work: Work, claim: UseClaim, use: UnbookedUse) -> Booking:
    booking = Booking(
        booking_id=new_ulid(),
        instrument_id=claim.instrument_id,
        host_id=claim.host_id,
        mode=BookingMode.SELF_OPERATED.value,
        purpose=UsePurpose.CUSTOMER.value,
        payer_org=claim.payer_org,
        person_id=work.actor.person_id,
        state=BookingState.IN_USE.value,
        slot_from=use.from_at,
        slot_to=use.to_at,
        calendar_row_id=None,
        tariff_id=claim.tariff_id,
        tariff_version=claim.tariff_version,
        category=claim.category,
        quantity=0,
        confirmed_quantity=None,
        quote=claim.quote,
        quote_sha256=claim.quote_sha256,
        checked_in_at=None,
        checked_out_at=None,
        held_until=None,
        note=claim.note,
        created_at=work.now,
        row_version=1,
        needed_by=None,
    )
    work.session.add(booking)
    work.session.flush()
    facts = {"claim": claim.claim_id, "session": use.session_id, "quote_sha256": claim.quote_sha256}
    record_event(work, booking, Happening.USE_CLAIMED.value, "", claim.note, facts)
    work.session.add(
        BookingUse(
            session_id=use.session_id,
            booking_id=booking.booking_id,
            from_at=use.from_at,
            to_at=use.to_at,
            running_ms=use.running_ms,
            unknown_ms=use.unknown_ms,
            matched_at=work.now,
        )
    )
    work.session.flush()
    take_step(Work(work.session, system_actor("booking"), work.now), booking, BookingAction.COMPLETE)
    ensure_due(work.session, DueKind.CHARGE_BOOKING, booking.booking_id, work.now)
    return booking


def _audit(work: Work, claim: UseClaim, what: str, note: str) -> None:
    work.audit(
        f"use_claim.{what}",
        f"use_claim:{claim.claim_id}",
        host_id=claim.host_id,
        after={
            "session": claim.session_id,
            "from_ms": to_ms(claim.from_at),
            "payer": claim.payer_org,
            "total_fen": claim.total_fen,
            "quote_sha256": claim.quote_sha256,
            "booking": claim.booking_id or "",
            "note": note.strip(),
        },
    )
