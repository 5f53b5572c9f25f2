"""HTTP of rewards. Each endpoint calls one service function; no rule lives here."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response
from sqlalchemy import select

from api.deps import Once, reads, writes
from api.pagination import WantedPage, paginate
from api.problems import problems
from api.rewards import policies, service
from api.rewards.access import APPROVERS, PREPARERS, READERS
from api.rewards.periods import read_period
from api.rewards.policies import in_force, policy_refused
from api.rewards.policy_body import BadPolicy, PolicyBody, parse_policy
from api.rewards.repository import stored_results
from api.rewards.rules import Reason
from api.rewards.schemas import (
    ApprovalAsked,
    InputAnswer,
    LockAsked,
    PolicyAnswer,
    PolicyAsked,
    ProposalAnswer,
    RunAnswer,
    RunAsked,
    RunWhole,
    WithdrawalAsked,
)
from api.schemas import Page
from api.work import Work
from store.tables.rewards import RewardInput, RewardPolicyVersion, RewardRun, RunState

router = APIRouter(tags=["rewards"])

RunId = Annotated[str, Path(min_length=1, max_length=40)]


@router.get("/reward-policies", summary="List the published versions of all reward policies")
def list_policies(work: Annotated[Work, reads(*READERS)], page: WantedPage) -> Page[PolicyAnswer]:
    """By policy, oldest version first."""
    keys = (RewardPolicyVersion.policy_id, RewardPolicyVersion.version)
    rows, cursor = paginate(work.session, select(RewardPolicyVersion), keys, page)
    return Page(items=[PolicyAnswer.of(in_force(row)) for row in rows], next_cursor=cursor)


@router.post(
    "/reward-policies/proposals",
    status_code=201,
    response_model=ProposalAnswer,
    summary="Prepare a version of a reward policy for a second person to approve",
)
def propose_policy(asked: PolicyAsked, work: Annotated[Work, writes(*PREPARERS)], once: Once) -> Response:
    """Nothing is in force by this. A faulty document answers 422 `policy_invalid` with the field."""
    body = _body(asked)

    def propose() -> ProposalAnswer:
        proposal = policies.propose_policy(work, asked.policy_id, asked.name_zh, asked.name_en, body, asked.from_month)
        return ProposalAnswer.of(proposal)

    return once(propose)


@router.get("/reward-policies/proposals/{proposal_id}", summary="Read a proposal", responses=problems(404))
def read_proposal(proposal_id: RunId, work: Annotated[Work, reads(*READERS)]) -> ProposalAnswer:
    """As it stands in the county's audit chain."""
    return ProposalAnswer.of(policies.find_proposal(work.session, proposal_id))


@router.post(
    "/reward-policies/proposals/{proposal_id}/approval",
    status_code=201,
    response_model=PolicyAnswer,
    summary="Publish a proposal as its second person",
    responses=problems(404),
)
def approve_policy(
    proposal_id: RunId, asked: ApprovalAsked, work: Annotated[Work, writes(*APPROVERS)], once: Once
) -> Response:
    """The hash says which text was read. Whoever prepared it cannot approve it: 409 `same_person`."""
    return once(lambda: PolicyAnswer.of(policies.approve_proposal(work, proposal_id, asked.body_sha256)))


@router.get("/reward-runs", summary="List reward runs, newest first")
def list_runs(
    work: Annotated[Work, reads(*READERS)],
    page: WantedPage,
    policy_id: Annotated[str | None, Query(max_length=40)] = None,
    state: RunState | None = None,
) -> Page[RunAnswer]:
    """Prepared, locked and withdrawn ones."""
    query = select(RewardRun)
    if policy_id is not None:
        query = query.where(RewardRun.policy_id == policy_id)
    if state is not None:
        query = query.where(RewardRun.state == state.value)
    keys = (RewardRun.prepared_at, RewardRun.run_id)
    rows, cursor = paginate(work.session, query, keys, page, descending=True)
    return Page(items=[RunAnswer.of(row) for row in rows], next_cursor=cursor)


@router.post(
    "/reward-runs",
    status_code=201,
    response_model=RunWhole,
    summary="Prepare a reward run out of all that is known now",
    responses=problems(404),
)
def prepare_run(asked: RunAsked, work: Annotated[Work, writes(*PREPARERS)], once: Once) -> Response:
    """It grants nothing until a second person locks it; until then it can be withdrawn."""
    kind, first = read_period(asked.period)

    def prepare() -> RunWhole:
        run = service.prepare_run(work, asked.policy_id, kind, first)
        return RunWhole.whole(run, stored_results(work.session, run.run_id))

    return once(prepare)


@router.get("/reward-runs/{run_id}", summary="Read a reward run with its results", responses=problems(404))
def read_run(run_id: RunId, work: Annotated[Work, reads(*READERS)]) -> RunWhole:
    """Each host's amount with the steps it came about by."""
    return RunWhole.whole(service.find_run(work.session, run_id), stored_results(work.session, run_id))


@router.get(
    "/reward-runs/{run_id}/inputs", summary="List the charges of a run with their reasons", responses=problems(404)
)
def list_inputs(
    run_id: RunId,
    work: Annotated[Work, reads(*READERS)],
    page: WantedPage,
    host_id: Annotated[str | None, Query(max_length=64)] = None,
    reason: Reason | None = None,
) -> Page[InputAnswer]:
    """By charge. `reason` is `eligible`, or says what keeps the charge out."""
    service.find_run(work.session, run_id)
    query = select(RewardInput).where(RewardInput.run_id == run_id)
    if host_id is not None:
        query = query.where(RewardInput.host_id == host_id)
    if reason is not None:
        query = query.where(RewardInput.reason == reason.value)
    rows, cursor = paginate(work.session, query, (RewardInput.charge_id,), page)
    return Page(items=[InputAnswer.model_validate(row) for row in rows], next_cursor=cursor)


@router.post(
    "/reward-runs/{run_id}/lock",
    status_code=201,
    response_model=RunAnswer,
    summary="Approve a prepared run as its second person",
    responses=problems(404),
)
def lock_run(run_id: RunId, asked: LockAsked, work: Annotated[Work, writes(*APPROVERS)], once: Once) -> Response:
    """From now on it counts as granted. The hash says which result was read."""
    return once(lambda: RunAnswer.of(service.lock_run(work, run_id, asked.result_sha256)))


@router.post(
    "/reward-runs/{run_id}/withdrawal",
    status_code=201,
    response_model=RunAnswer,
    summary="Take a prepared run back, with a reason",
    responses=problems(404),
)
def withdraw_run(
    run_id: RunId, asked: WithdrawalAsked, work: Annotated[Work, writes(*PREPARERS)], once: Once
) -> Response:
    """Only before its lock."""
    return once(lambda: RunAnswer.of(service.withdraw_run(work, run_id, asked.reason)))


def _body(asked: PolicyAsked) -> PolicyBody:
    try:
        return parse_policy(asked.body)
    except BadPolicy as fault:
        raise policy_refused(fault) from None
