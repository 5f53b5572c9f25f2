"""What any policy would grant for a past period, beside what is in force or what a run granted. Writes nothing.

Called by the endpoint and by `openlab rewards what-if`, both in a read-only transaction. The same rules judge and
compute as in a run, over the facts as of now; what was granted before and what hosts owe are left out, since the
question is what the period as a whole is worth.
"""

from collections import Counter
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.errors import conflict, invalid, not_found
from api.rewards import repository
from api.rewards.access import READERS
from api.rewards.computing import HostResult, Situation, full_fen, host_results, name_in, stored_result
from api.rewards.judging import judged
from api.rewards.policies import policy_for_period, policy_version
from api.rewards.policy_body import PolicyBody, canonical_policy
from api.rewards.rules import ENGINE_VERSION, Reason
from api.work import Work
from store.canonical import sha256_hex
from store.periods import PeriodKind, month_bounds, months_of_period
from store.tables.accounts import Role
from store.tables.rewards import RewardInput, RewardRun, RunState


@dataclass(frozen=True)
class Asked:
    """Which policy over which period: a draft's body, or a stored policy (the version for the period, unless one is
    named). Against a run, or a stored policy; where neither is given, against the newest locked run of the period, else
    the version in force of the policy asked for, else nothing."""

    kind: PeriodKind
    first: int
    body: PolicyBody | None = None
    policy_id: str | None = None
    version: int | None = None
    against_run: str | None = None
    against_policy: str | None = None


@dataclass(frozen=True)
class LeftOut:
    """Charges that count for nothing, by reason; amounts are their gross totals."""

    reason: str
    count: int
    amount_fen: int


@dataclass(frozen=True)
class Side:
    """One of the two policies over the period. `kind`: draft, policy, run, or none. `wanted_fen` is what all hosts earn
    before a short budget is shared, `shortfall_fen` what of it the budget does not hold."""

    kind: str
    policy_id: str
    version: int | None
    run_id: str | None
    body_sha256: str
    charge_count: int
    base_fen: int
    wanted_fen: int
    reward_fen: int
    budget_fen: int | None
    shortfall_fen: int
    left_out: tuple[LeftOut, ...]
    hosts_without_grade: tuple[str, ...]


@dataclass(frozen=True)
class HostDifference:
    """What one host gets on either side."""

    host_id: str
    name_zh: str
    name_en: str
    base_before_fen: int
    reward_before_fen: int
    base_fen: int
    reward_fen: int

    @property
    def difference_fen(self) -> int:
        """More (positive) or less than before."""
        return self.reward_fen - self.reward_before_fen


@dataclass(frozen=True)
class WhatIf:
    """The answer: both sides, and every host that either of them knows, by the size of what it wins (losers last)."""

    asked: Side
    against: Side
    hosts: tuple[HostDifference, ...]

    @property
    def winners(self) -> int:
        """Hosts that get more than before."""
        return sum(host.difference_fen > 0 for host in self.hosts)

    @property
    def losers(self) -> int:
        """Hosts that get less than before."""
        return sum(host.difference_fen < 0 for host in self.hosts)


_Results = dict[str, HostResult]
_NOTHING = Side("none", "", None, None, "", 0, 0, 0, 0, None, 0, (), ())


def what_if(work: Work, asked: Asked) -> WhatIf:
    """Return what a policy would grant for a period, host by host, beside what is in force or was granted.

    Hosts without a grade get nothing under a policy with coefficients and are listed. Refused: 403, 404, 409
    `no_policy_in_force`, `period_not_begun`, 422 `bad_period`, `other_period_kind`, `one_policy`, `one_comparison`.
    """
    work.require((*READERS, Role.AUDITOR), "试算奖励", "try out reward policies")
    _check(work, asked)
    side, results = _of_policy(work, asked) if asked.body is None else _of_body(work, asked, asked.body, "draft")
    against, before = _against(work, asked)
    hosts = []
    for host_id in {*results, *before}:
        now, then = results.get(host_id), before.get(host_id)
        name = name_in((now or before[host_id]).explanation)
        hosts.append(
            HostDifference(
                host_id,
                name.name_zh,
                name.name_en,
                0 if then is None else then.base_fen,
                0 if then is None else then.reward_fen,
                0 if now is None else now.base_fen,
                0 if now is None else now.reward_fen,
            )
        )
    return WhatIf(side, against, tuple(sorted(hosts, key=lambda host: (-host.difference_fen, host.host_id))))


def _check(work: Work, asked: Asked) -> None:
    if (asked.body is None) == (asked.policy_id is None):
        raise invalid(
            "one_policy",
            "请给出一份政策草案,或一个已发布的政策(二选一)。",
            "Give either a draft's body or the id of a published policy.",
            field="policy_id",
        )
    if asked.against_run is not None and asked.against_policy is not None:
        raise invalid(
            "one_comparison",
            "请与一次核算或一个政策比较,二者择一。",
            "Compare with a run or with a policy, not with both.",
            field="against_run",
        )
    if work.now < month_bounds(asked.first)[0]:
        raise conflict(
            "period_not_begun",
            "该期间尚未开始;请选择已开始的期间。",
            "This period has not begun; choose one that has.",
            first=asked.first,
        )


def _against(work: Work, asked: Asked) -> tuple[Side, _Results]:
    if asked.against_run is not None:
        run = work.session.get(RewardRun, asked.against_run)
        if run is None:
            raise not_found("奖励核算", "reward run", asked.against_run)
        if (run.period_kind, run.period_first) != (asked.kind.value, asked.first):
            raise invalid(
                "other_period",
                "所比较的核算属于另一期间;请选择同一期间的核算。",
                "The run to compare with is of another period; choose one of this period.",
                field="against_run",
            )
        return _of_run(work.session, run)
    if asked.against_policy is not None:
        return _of_policy(work, Asked(asked.kind, asked.first, policy_id=asked.against_policy))
    newest = work.session.execute(
        select(RewardRun)
        .where(
            RewardRun.period_kind == asked.kind.value,
            RewardRun.period_first == asked.first,
            RewardRun.state == RunState.LOCKED.value,
        )
        .order_by(RewardRun.closed_at.desc(), RewardRun.run_id.desc())
        .limit(1)
    ).scalar_one_or_none()
    if newest is not None:
        return _of_run(work.session, newest)
    if asked.policy_id is not None:
        return _of_policy(work, Asked(asked.kind, asked.first, policy_id=asked.policy_id))
    return _NOTHING, {}


def _of_policy(work: Work, asked: Asked) -> tuple[Side, _Results]:
    assert asked.policy_id is not None  # see _check
    if asked.version is None:
        found = policy_for_period(work.session, asked.policy_id, asked.kind, asked.first)
    else:
        found = policy_version(work.session, asked.policy_id, asked.version)
    return _of_body(work, asked, found.body, "policy", found.policy_id, found.version)


def _of_body(
    work: Work, asked: Asked, body: PolicyBody, kind: str, policy_id: str = "", version: int | None = None
) -> tuple[Side, _Results]:
    if body.period_kind is not asked.kind:
        raise invalid(
            "other_period_kind",
            f"该政策按 {body.period_kind.value} 核算,不能按 {asked.kind.value} 试算;请更改期间。",
            f"This policy rewards by {body.period_kind.value}, not by {asked.kind.value}; choose such a period.",
            field="period",
            period_kind=body.period_kind.value,
        )
    session = work.session
    bases: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    amounts: Counter[str] = Counter()
    for row in judged(session, months_of_period(asked.kind, asked.first), body, ENGINE_VERSION, work.now):
        bases[row.host_id] += row.eligible_fen
        counts[row.reason] += 1
        amounts[row.reason] += row.amount_fen
    grades = repository.grades(session, asked.first // 100, work.now)
    names = repository.host_names(session, list(bases))
    results = host_results(Situation(bases, grades, {}, {}, names, None), body, ENGINE_VERSION)
    ungraded = (
        () if body.coefficients is None else tuple(sorted(h for h, fen in bases.items() if fen and h not in grades))
    )
    left_out = tuple(
        LeftOut(reason.value, counts[reason], amounts[reason])
        for reason in Reason
        if reason is not Reason.ELIGIBLE and counts[reason]
    )
    sha256 = sha256_hex(canonical_policy(body))
    side = _side(kind, policy_id, version, None, sha256, body, results, counts.total(), left_out, ungraded)
    return side, {one.host_id: one for one in results}


def _of_run(session: Session, run: RewardRun) -> tuple[Side, _Results]:
    policy = policy_version(session, run.policy_id, run.policy_version)
    results = [stored_result(row) for row in repository.stored_results(session, run.run_id)]
    reasons = session.execute(
        select(RewardInput.reason, func.count(), func.sum(RewardInput.amount_fen))
        .where(RewardInput.run_id == run.run_id, RewardInput.reason != Reason.ELIGIBLE.value)
        .group_by(RewardInput.reason)
    ).all()
    by_reason = {reason: LeftOut(reason, count, int(fen)) for reason, count, fen in reasons}
    left_out = tuple(by_reason[reason.value] for reason in Reason if reason.value in by_reason)
    side = _side(
        "run",
        run.policy_id,
        run.policy_version,
        run.run_id,
        policy.body_sha256,
        policy.body,
        results,
        run.charge_count,
        left_out,
        (),
    )
    return side, {one.host_id: one for one in results}


def _side(
    kind: str,
    policy_id: str,
    version: int | None,
    run_id: str | None,
    body_sha256: str,
    body: PolicyBody,
    results: list[HostResult],
    charge_count: int,
    left_out: tuple[LeftOut, ...],
    ungraded: tuple[str, ...],
) -> Side:
    wanted = sum(full_fen(one) for one in results)
    return Side(
        kind=kind,
        policy_id=policy_id,
        version=version,
        run_id=run_id,
        body_sha256=body_sha256,
        charge_count=charge_count,
        base_fen=sum(one.base_fen for one in results),
        wanted_fen=wanted,
        reward_fen=sum(one.reward_fen for one in results),
        budget_fen=body.budget_fen,
        shortfall_fen=0 if body.budget_fen is None else max(0, wanted - body.budget_fen),
        left_out=left_out,
        hosts_without_grade=ungraded,
    )
