"""Whether a booking is confirmed by itself: the rule of its instrument as data, who is trained, who did not come.

`decide` is pure; the rest reads and sets the rules. Called by the service for every new booking and by proposals.
"""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy.orm import Session

from api.booking import repository
from api.charging.access import require_host_role
from api.errors import stale
from api.work import Work
from store.tables.booking_rules import BookingPolicy
from store.tables.registry import Approval
from store.upsert import insert_or_update


@dataclass(frozen=True)
class ApprovalRule:
    """How one instrument approves. `row_version` 0: nobody has set a rule, these are the defaults.

    Where `approval` is automatic everything is confirmed by itself; where it is the manager's, what fits the rule is:
    by a qualified person, or at most `auto_up_to_minutes` long (0: not by length), or, with `auto_needs_both`, both.
    """

    approval: Approval
    auto_qualified: bool = False
    auto_up_to_minutes: int = 0
    auto_needs_both: bool = False
    needs_qualification: bool = False
    needs_code: bool = False
    row_version: int = 0


@dataclass(frozen=True)
class Decision:
    """Whether a booking confirms itself, and by which rule it does or does not."""

    automatic: bool
    why: str


def decide(rule: ApprovalRule, qualified: bool, length: timedelta | None, on_probation: bool) -> Decision:
    """Return whether a booking of this length (None: a sample order) is confirmed without the manager."""
    if on_probation:
        return Decision(False, "strikes")
    if rule.approval is Approval.AUTOMATIC:
        return Decision(True, "automatic")
    short = length is not None and timedelta(0) < length <= timedelta(minutes=rule.auto_up_to_minutes)
    if rule.auto_needs_both:
        return Decision(qualified and short, "qualified_and_short" if qualified and short else "manager")
    if rule.auto_qualified and qualified:
        return Decision(True, "qualified")
    return Decision(short, "short" if short else "manager")


def rule_of(session: Session, instrument_id: str, approval: str) -> ApprovalRule:
    """Return the rule of an instrument; where none was set, its approval column alone."""
    return rule_from(session.get(BookingPolicy, instrument_id), approval)


def rule_from(row: BookingPolicy | None, approval: str) -> ApprovalRule:
    """Return the rule that a row states, or the default."""
    if row is None:
        return ApprovalRule(Approval(approval))
    return ApprovalRule(
        Approval(approval),
        row.auto_qualified,
        row.auto_up_to_minutes,
        row.auto_needs_both,
        row.needs_qualification,
        row.needs_code,
        row.row_version,
    )


def set_rule(work: Work, instrument_id: str, wanted: ApprovalRule, version: int) -> ApprovalRule:
    """Set an instrument's rule, its `approval` column included. By a lab manager of its host.

    `version` is the one that was read (0 where no rule was set). Refused: 404, 403, 412 stale.
    """
    instrument = repository.instrument_row(work.session, instrument_id, lock=True)
    require_host_role(work, instrument.host_id, (), "设置预约审批规则", "set how bookings are approved")
    before = rule_of(work.session, instrument_id, instrument.approval)
    if before.row_version != version:
        raise stale(before.row_version, version)
    values = {
        "auto_qualified": wanted.auto_qualified,
        "auto_up_to_minutes": wanted.auto_up_to_minutes,
        "auto_needs_both": wanted.auto_needs_both,
        "needs_qualification": wanted.needs_qualification,
        "needs_code": wanted.needs_code,
        "set_by": work.actor.person_id,
        "set_at": work.now,
        "row_version": version + 1,
    }
    whole = {"instrument_id": instrument_id} | values
    insert_or_update(work.session, BookingPolicy, whole, ("instrument_id",), tuple(values))
    if instrument.approval != wanted.approval.value:
        instrument.approval = wanted.approval.value
        instrument.row_version += 1
    work.session.flush()
    work.session.expire_all()
    after = rule_of(work.session, instrument_id, wanted.approval.value)
    work.audit(
        "booking_rule.set",
        f"instrument:{instrument_id}",
        host_id=instrument.host_id,
        before=_facts(before),
        after=_facts(after),
    )
    return after


def _facts(rule: ApprovalRule) -> dict[str, str | int]:
    return {name: value.value if isinstance(value, Approval) else int(value) for name, value in vars(rule).items()}
