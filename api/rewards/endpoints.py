"""HTTP of rewards. Each endpoint calls one service function; no rule lives here."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response

from api.deps import Once, reads, writes
from api.pagination import WantedPage
from api.problems import problems
from api.rewards import endpoints_hosts, endpoints_marks, endpoints_steps, policies, service
from api.rewards.access import APPROVERS, PREPARERS, READERS
from api.rewards.adjustments import line_changes
from api.rewards.periods import read_period
from api.rewards.policies import policy_refused
from api.rewards.policy_body import BadPolicy, PolicyBody, parse_policy
from api.rewards.repository import stored_results
from api.rewards.rules import Reason
from api.rewards.run_view import run_detail, run_lines, runs_page
from api.rewards.schemas import (
    ApprovalAsked,
    InputAnswer,
    PolicyAnswer,
    PolicyAsked,
    ProposalAnswer,
    RunAnswer,
    RunAsked,
    RunWhole,
)
from api.rewards.schemas_steps import LineChangeAnswer, RunDetail
from api.rewards.schemas_whatif import WhatIfAnswer, WhatIfAsked
from api.rewards.whatif import Asked, what_if
from api.schemas import Page
from api.work import Work
from store.tables.reward_steps import RunStage
from store.tables.rewards import RunState

router = APIRouter(tags=["rewards"])

RunId = Annotated[str, Path(min_length=1, max_length=40)]


@router.get("/reward-policies", summary="List the published versions of all reward policies")
def list_policies(work: Annotated[Work, reads(*READERS)], page: WantedPage) -> Page[PolicyAnswer]:
    """By policy, oldest version first."""
    found, cursor = policies.policies_page(work.session, page)
    return Page(items=[PolicyAnswer.of(one) for one in found], next_cursor=cursor)


@router.post(
    "/reward-policies/proposals",
    status_code=201,
    response_model=ProposalAnswer,
    summary="Prepare a version of a reward policy for a second person to approve",
)
def propose_policy(asked: PolicyAsked, work: Annotated[Work, writes(*PREPARERS)], once: Once) -> Response:
    """Nothing is in force by this. A faulty document answers 422 `policy_invalid` with the field."""
    body = _body(asked.body)

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
    """Prepared, locked and withdrawn ones; `stage` says how far each has come."""
    runs, cursor = runs_page(work.session, page, policy_id, state)
    return Page(items=runs, next_cursor=cursor)


@router.post(
    "/reward-runs",
    status_code=201,
    response_model=RunWhole,
    summary="Prepare a reward run out of all that is known now",
    responses=problems(404),
)
def prepare_run(asked: RunAsked, work: Annotated[Work, writes(*PREPARERS)], once: Once) -> Response:
    """It grants nothing until it is checked, announced, approved and locked; until then it can be withdrawn."""
    kind, first = read_period(asked.period)

    def prepare() -> RunWhole:
        run = service.prepare_run(work, asked.policy_id, kind, first)
        return RunWhole.whole(run, RunStage.PREPARED, stored_results(work.session, run.run_id))

    return once(prepare)


@router.post(
    "/reward-runs/what-if",
    summary="What a policy would grant for a past period; writes nothing",
    responses=problems(404),
)
def try_policy(asked: WhatIfAsked, work: Annotated[Work, reads(*READERS)]) -> WhatIfAnswer:
    """Any published version or a draft, beside what is in force or what a run granted: winners, losers, budget."""
    kind, first = read_period(asked.period)
    body = None if asked.body is None else _body(asked.body)
    rest = asked.model_dump(exclude={"period", "body"})
    return WhatIfAnswer.of(what_if(work, Asked(kind=kind, first=first, body=body, **rest)))


@router.get("/reward-runs/{run_id}", summary="Read a reward run with all that happened to it", responses=problems(404))
def read_run(run_id: RunId, work: Annotated[Work, reads(*READERS)]) -> RunDetail:
    """Results, steps, objections, payments, the runs that it stands on and what came in since."""
    return run_detail(work, service.find_run(work.session, run_id))


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
    lines, cursor = run_lines(work.session, service.find_run(work.session, run_id), page, host_id, reason)
    return Page(items=lines, next_cursor=cursor)


@router.get(
    "/reward-runs/{run_id}/changes", summary="List the lines that came in since the run before", responses=problems(404)
)
def list_changes(
    run_id: RunId,
    work: Annotated[Work, reads(*READERS)],
    page: WantedPage,
    host_id: Annotated[str | None, Query(max_length=64)] = None,
) -> Page[LineChangeAnswer]:
    """Late, reversed and otherwise changed ones, by charge, since the newest earlier locked run of the period."""
    rows, cursor = line_changes(work.session, service.find_run(work.session, run_id), page, host_id)
    return Page(items=[LineChangeAnswer.model_validate(row) for row in rows], next_cursor=cursor)


def _body(document: dict[str, Any]) -> PolicyBody:
    try:
        return parse_policy(document)
    except BadPolicy as fault:
        raise policy_refused(fault) from None


router.include_router(endpoints_steps.router)
router.include_router(endpoints_hosts.router)
router.include_router(endpoints_marks.router)
