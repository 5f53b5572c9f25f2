"""Firms that do not come: strikes, what follows from them for how long, and a manager who lifts one with a reason.

`effect_at` is pure. Steps record a strike inside the no-show itself and lift it when use is found late; the service
asks `probation_of` before it takes a booking.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Select, exists, select
from sqlalchemy.orm import Session

from api.booking.history import record_event
from api.booking.notices import Happening
from api.charging.access import require_host_role
from api.errors import Refused, conflict, invalid, not_found, stale
from api.schemas import rfc3339
from api.work import Work
from store.tables.booking_rules import Strike, StrikeEffect, StrikeLift, StrikePolicy
from store.tables.calendar import Booking, UsePurpose
from store.tables.registry import Host
from store.upsert import insert_if_absent, insert_or_update


@dataclass(frozen=True)
class StrikeRule:
    """So many strikes within so many days have this effect for so many days. `row_version` 0: the default."""

    strikes: int = 3
    window_days: int = 365
    effect: StrikeEffect = StrikeEffect.APPROVAL
    effect_days: int = 180
    row_version: int = 0


@dataclass(frozen=True)
class Probation:
    """What a firm's strikes mean at a host until an instant."""

    effect: StrikeEffect
    until: datetime
    strikes: int


def effect_at(strikes: Sequence[datetime], rule: StrikeRule, now: datetime) -> Probation | None:
    """Return what strikes (their instants) mean now; None where nothing.

    The effect runs from the strike that completes the number within the window, and starts anew with each such one.
    """
    order, until = sorted(strikes), None
    window, length = timedelta(days=rule.window_days), timedelta(days=rule.effect_days)
    for first, last in zip(order, order[rule.strikes - 1 :], strict=False):
        if last - first < window:
            until = last + length
    return None if until is None or until <= now else Probation(rule.effect, until, len(order))


def rule_of(session: Session, host_id: str) -> StrikeRule:
    """Return a host's rule, or the default."""
    row = session.get(StrikePolicy, host_id)
    if row is None:
        return StrikeRule()
    return StrikeRule(row.strikes, row.window_days, StrikeEffect(row.effect), row.effect_days, row.row_version)


def probation_of(session: Session, host_id: str, org_id: str, now: datetime) -> Probation | None:
    """Return what a firm's strikes mean at a host now."""
    lifted = exists().where(StrikeLift.booking_id == Strike.booking_id)
    instants = session.scalars(
        select(Strike.at).where(Strike.host_id == host_id, Strike.org_id == org_id, ~lifted)
    ).all()
    return effect_at(instants, rule_of(session, host_id), now) if instants else None


def blocked(found: Probation) -> Refused:
    """403: the firm may not book at this host for now."""
    until = rfc3339(found.until)
    return Refused(
        403,
        "blocked_by_strikes",
        f"贵单位因多次爽约,在 {until} 前不能预约该单位的仪器;如有异议请联系实验室管理员。",
        f"After missed bookings your firm cannot book at this host until {until}; ask its lab manager to lift"
        " a strike.",
        until=until,
        strikes=found.strikes,
    )


def strike(work: Work, booking: Booking) -> None:
    """Record that nobody came to a customer's booking; once a booking."""
    if booking.purpose == UsePurpose.CUSTOMER.value:
        values = {
            "booking_id": booking.booking_id,
            "host_id": booking.host_id,
            "org_id": booking.payer_org,
            "at": work.now,
        }
        insert_if_absent(work.session, Strike, values)


def unstrike(work: Work, booking: Booking, reason: str) -> bool:
    """Lift the strike of a booking, where it has one that stands; return whether it had."""
    if work.session.get(Strike, booking.booking_id) is None:
        return False
    values = {
        "booking_id": booking.booking_id,
        "reason": reason,
        "lifted_by": work.actor.person_id,
        "lifted_at": work.now,
    }
    return insert_if_absent(work.session, StrikeLift, values)


def lift(work: Work, booking_id: str, reason: str) -> Booking:
    """Lift a strike with a reason; its fee, if any, is charging's own matter. By a lab manager of the host.

    Refused: 404, 403, 409 `lifted_already`, 422 `reason_required`.
    """
    found = work.session.get(Strike, booking_id)
    if found is None:
        raise not_found("爽约记录", "strike", booking_id)
    require_host_role(work, found.host_id, (), "撤销爽约记录", "lift a strike")
    if not reason.strip():
        raise invalid("reason_required", "请写明撤销原因。", "Say why the strike is lifted.", field="reason")
    booking = work.session.get_one(Booking, booking_id, with_for_update=True)
    if not unstrike(work, booking, reason.strip()):
        raise conflict(
            "lifted_already",
            "该爽约记录已撤销;请刷新列表。",
            "This strike has been lifted already; read the list again.",
        )
    record_event(work, booking, Happening.STRIKE_LIFTED.value, booking.state, reason.strip())
    return booking


def set_rule(work: Work, host_id: str, wanted: StrikeRule, version: int) -> StrikeRule:
    """Set what a host does about no-shows. By its lab manager. Refused: 404, 403, 412 stale."""
    host = work.session.get(Host, host_id, with_for_update=True)
    if host is None:
        raise not_found("依托单位", "host", host_id)
    require_host_role(work, host_id, (), "设置爽约规则", "set what follows from no-shows")
    before = rule_of(work.session, host_id)
    if before.row_version != version:
        raise stale(before.row_version, version)
    values = {
        "strikes": wanted.strikes,
        "window_days": wanted.window_days,
        "effect": wanted.effect.value,
        "effect_days": wanted.effect_days,
        "set_by": work.actor.person_id,
        "set_at": work.now,
        "row_version": version + 1,
    }
    insert_or_update(work.session, StrikePolicy, {"host_id": host_id} | values, ("host_id",), tuple(values))
    work.session.expire_all()
    after = rule_of(work.session, host_id)
    work.audit("strike_rule.set", f"host:{host_id}", host_id=host_id, before=_facts(before), after=_facts(after))
    return after


def strikes_seen(host_ids: Sequence[str] | None, org_id: str | None) -> Select[Strike]:
    """Return the selection of strikes: of hosts (None: all), of a firm (None: all)."""
    statement = select(Strike)
    if host_ids is not None:
        statement = statement.where(Strike.host_id.in_(sorted(host_ids)))
    return statement if org_id is None else statement.where(Strike.org_id == org_id)


def lifts_of(session: Session, booking_ids: Sequence[str]) -> dict[str, StrikeLift]:
    """Return the lifts of strikes, by booking."""
    rows = session.scalars(select(StrikeLift).where(StrikeLift.booking_id.in_(list(booking_ids))))
    return {row.booking_id: row for row in rows}


def _facts(rule: StrikeRule) -> dict[str, str | int]:
    return {name: value.value if isinstance(value, StrikeEffect) else int(value) for name, value in vars(rule).items()}
