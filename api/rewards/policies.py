"""Reward policies and assessments: prepared by one person, approved by another, never edited, found by period.

A proposal is an event of the county's audit chain: whoever prepared it signed in to write it there. Approving it
publishes exactly those bytes with both names.
"""

import json
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.charging.access import is_system
from api.errors import Refused, conflict, invalid, not_found
from api.pagination import PageAsked, paginate
from api.rewards.access import APPROVERS, PREPARERS, require_two_people
from api.rewards.policy_body import (
    BadPolicy,
    PolicyBody,
    canonical_policy,
    parse_policy,
    policy_document,
    read_policy,
    shipped_policies,
)
from api.work import Work
from store.canonical import sha256_hex
from store.periods import PeriodKind, check_month, month_of
from store.tables.audit import AuditEvent
from store.tables.rewards import RewardPolicy, RewardPolicyVersion, RewardRun, RunState
from store.upsert import insert_if_absent
from wire.ids import new_ulid

_PROPOSED = "reward_policy.proposed"


@dataclass(frozen=True)
class PolicyInForce:
    """One published version, in force for periods that start in or after `from_month`."""

    policy_id: str
    version: int
    from_month: int
    body: PolicyBody
    body_sha256: str
    prepared_by: str
    approved_by: str


@dataclass(frozen=True)
class PolicyProposal:
    """A policy that somebody prepared and nobody has published by this act alone."""

    proposal_id: str
    policy_id: str
    name_zh: str
    name_en: str
    from_month: int
    body: PolicyBody
    body_sha256: str
    prepared_by: str


def publish_policy(
    work: Work,
    policy_id: str,
    body: PolicyBody,
    from_month: int,
    prepared_by: str,
    approved_by: str,
    *,
    name_zh: str = "",
    name_en: str = "",
) -> PolicyInForce:
    """Publish the next version of a policy; the names are those of a new one (its id, where none are given).

    Refused: 403, 409 `same_person`, `signer_not_entitled`, `not_after_latest`, `policy_backdated` (the system, which
    seeds history, may date back), `period_already_granted`, 422 `bad_month`, `bad_policy_id`.
    """
    work.require(APPROVERS, "发布奖励政策", "publish reward policies")
    require_two_people(work, prepared_by, approved_by)
    _check_month(from_month)
    if not policy_id or len(policy_id) > 40 or not policy_id.replace("-", "").isalnum() or not policy_id.isascii():
        raise invalid(
            "bad_policy_id",
            "政策代码只能含字母、数字和连字符,最多 40 个字符;请更正。",
            "A policy id is at most 40 letters, digits and hyphens; correct it.",
            field="policy_id",
        )
    if not is_system(work.actor) and from_month < month_of(work.now):
        raise conflict(
            "policy_backdated",
            "奖励政策不能从过去的月份起生效;请改为本月或之后。",
            "A policy cannot take effect in a past month; choose this one or a later one.",
            from_month=from_month,
        )
    names = {"name_zh": name_zh or policy_id, "name_en": name_en or policy_id}
    insert_if_absent(work.session, RewardPolicy, {"policy_id": policy_id} | names)
    take_policy(work.session, policy_id)
    latest = _latest(work.session, policy_id)
    if latest is not None and from_month <= latest.from_month:
        raise conflict(
            "not_after_latest",
            f"请选择晚于现有版本起始月份的月份:{latest.from_month}。",
            f"A new version starts after the latest one; choose a month later than {latest.from_month}.",
            latest_from_month=latest.from_month,
        )
    _refuse_if_granted(work.session, policy_id, from_month)
    document = canonical_policy(body)
    row = RewardPolicyVersion(
        policy_id=policy_id,
        version=1 if latest is None else latest.version + 1,
        from_month=from_month,
        body=document.decode(),
        body_sha256=sha256_hex(document),
        prepared_by=prepared_by,
        approved_by=approved_by,
        published_at=work.now,
    )
    work.session.add(row)
    work.session.flush()
    work.audit(
        "reward_policy.published",
        f"reward_policy:{policy_id}",
        host_id=None,
        after={
            "version": row.version,
            "from_month": from_month,
            "body_sha256": row.body_sha256,
            "prepared_by": prepared_by,
            "approved_by": approved_by,
        },
    )
    return in_force(row)


def propose_policy(
    work: Work, policy_id: str, name_zh: str, name_en: str, body: PolicyBody, from_month: int
) -> PolicyProposal:
    """Record a policy under the actor's name for somebody else to approve. Nothing is in force by it."""
    work.require(PREPARERS, "编制奖励政策", "prepare reward policies")
    _check_month(from_month)
    proposal_id = new_ulid()
    work.audit(
        _PROPOSED,
        f"reward_policy_proposal:{proposal_id}",
        host_id=None,
        after={
            "policy_id": policy_id,
            "name_zh": name_zh,
            "name_en": name_en,
            "from_month": from_month,
            "body": policy_document(body),
        },
    )
    return find_proposal(work.session, proposal_id)


def find_proposal(session: Session, proposal_id: str) -> PolicyProposal:
    """Return a proposal as it stands in the audit chain. Refused 404."""
    event = session.execute(
        select(AuditEvent).where(
            AuditEvent.subject == f"reward_policy_proposal:{proposal_id}", AuditEvent.action == _PROPOSED
        )
    ).scalar_one_or_none()
    if event is None:
        raise not_found("奖励政策草案", "policy proposal", proposal_id)
    fields = json.loads(event.body)["after"]
    body = parse_policy(fields.pop("body"))
    return PolicyProposal(
        proposal_id=proposal_id,
        body=body,
        body_sha256=sha256_hex(canonical_policy(body)),
        prepared_by=event.actor,
        **fields,
    )


def approve_proposal(work: Work, proposal_id: str, body_sha256: str) -> PolicyInForce:
    """Publish a proposal with the actor as the second person. `body_sha256` says which text was read and approved.

    Refused: as `publish_policy`, and 409 `other_body` where the hash is not the proposal's.
    """
    proposal = find_proposal(work.session, proposal_id)
    if body_sha256 != proposal.body_sha256:
        raise conflict(
            "other_body",
            "所批准的内容与草案不一致;请重新阅读草案。",
            "What you approve is not what was proposed; read the proposal again.",
            body_sha256=proposal.body_sha256,
        )
    return publish_policy(
        work,
        proposal.policy_id,
        proposal.body,
        proposal.from_month,
        proposal.prepared_by,
        work.actor.person_id,
        name_zh=proposal.name_zh,
        name_en=proposal.name_en,
    )


def policy_for_period(session: Session, policy_id: str, kind: PeriodKind, first: int) -> PolicyInForce:
    """Return the version for a period: the last one that starts at or before the period's first month.

    Refused 404 for an unknown policy, 409 `no_policy_in_force`, 422 `other_period_kind`.
    """
    if session.get(RewardPolicy, policy_id) is None:
        raise not_found("奖励政策", "reward policy", policy_id)
    row = version_from(session, policy_id, first)
    if row is None:
        raise conflict(
            "no_policy_in_force",
            f"政策 {policy_id} 在 {first} 尚未生效;请先发布覆盖该期间的版本。",
            f"No version of {policy_id} is in force for a period that starts in {first}; publish one first.",
            policy_id=policy_id,
            first=first,
        )
    found = in_force(row)
    if found.body.period_kind is not kind:
        raise invalid(
            "other_period_kind",
            f"政策 {policy_id} 按 {found.body.period_kind.value} 核算,不能按 {kind.value} 核算;请更改期间。",
            f"Policy {policy_id} rewards by {found.body.period_kind.value}, not by {kind.value}; choose such a period.",
            field="period",
            period_kind=found.body.period_kind.value,
        )
    return found


def version_from(session: Session, policy_id: str, first: int) -> RewardPolicyVersion | None:
    """Return the version for a period by its first month, of whatever kind; None where none is in force then."""
    return session.execute(
        select(RewardPolicyVersion)
        .where(RewardPolicyVersion.policy_id == policy_id, RewardPolicyVersion.from_month <= first)
        .order_by(RewardPolicyVersion.from_month.desc())
        .limit(1)
    ).scalar_one_or_none()


def policy_version(session: Session, policy_id: str, version: int) -> PolicyInForce:
    """Return exactly this version. Refused 404."""
    row = session.get(RewardPolicyVersion, (policy_id, version))
    if row is None:
        raise not_found("奖励政策版本", "version of a reward policy", f"{policy_id}/{version}")
    return in_force(row)


def policies_page(session: Session, page: PageAsked) -> tuple[list[PolicyInForce], str | None]:
    """Return a page of the published versions by policy, oldest first, and the cursor of the next one."""
    keys = (RewardPolicyVersion.policy_id, RewardPolicyVersion.version)
    rows, cursor = paginate(session, select(RewardPolicyVersion), keys, page)
    return [in_force(row) for row in rows], cursor


def take_policy(session: Session, policy_id: str) -> None:
    """Lock a policy: what is published, prepared or locked under it queues up. Refused 404."""
    found = session.execute(
        select(RewardPolicy.policy_id).where(RewardPolicy.policy_id == policy_id).with_for_update()
    ).first()
    if found is None:
        raise not_found("奖励政策", "reward policy", policy_id)


def seed_policies(work: Work, preparer: str, approver: str) -> int:
    """Publish the shipped policies that are not there yet; return how many were. `work` acts as the system."""
    published = 0
    for shipped in shipped_policies():
        if _latest(work.session, shipped.policy_id) is None:
            names = {"name_zh": shipped.name_zh, "name_en": shipped.name_en}
            publish_policy(work, shipped.policy_id, shipped.body, shipped.from_month, preparer, approver, **names)
            published += 1
    return published


def policy_refused(fault: BadPolicy) -> Refused:
    """Return the 422 that names the field of a faulty document."""
    return invalid(
        "policy_invalid",
        f"奖励政策有误,请更正:{fault.field}:{fault.why}",
        f"The policy is not valid; correct it: {fault.field}: {fault.why}",
        field=fault.field,
    )


def in_force(row: RewardPolicyVersion) -> PolicyInForce:
    """Return a stored version with its document read."""
    return PolicyInForce(
        row.policy_id,
        row.version,
        row.from_month,
        read_policy(row.body),
        row.body_sha256,
        row.prepared_by,
        row.approved_by,
    )


def _latest(session: Session, policy_id: str) -> RewardPolicyVersion | None:
    return session.execute(
        select(RewardPolicyVersion)
        .where(RewardPolicyVersion.policy_id == policy_id)
        .order_by(RewardPolicyVersion.version.desc())
        .limit(1)
    ).scalar_one_or_none()


def _refuse_if_granted(session: Session, policy_id: str, from_month: int) -> None:
    granted = session.execute(
        select(RewardRun.run_id)
        .where(
            RewardRun.policy_id == policy_id,
            RewardRun.period_first >= from_month,
            RewardRun.state == RunState.LOCKED.value,
        )
        .limit(1)
    ).scalar_one_or_none()
    if granted is not None:
        raise conflict(
            "period_already_granted",
            f"自 {from_month} 起的期间已有锁定的奖励核算 {granted};请从更晚的月份起生效。",
            f"Run {granted} has been locked for a period from {from_month} on; start the version later.",
            run_id=granted,
        )


def _check_month(month: int) -> None:
    try:
        check_month(month)
    except ValueError as error:
        raise invalid("bad_month", f"{month} 不是月份;请写成 202611。", f"{error}.", field="from_month") from None
