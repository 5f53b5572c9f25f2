"""HTTP of what happens to a reward run once it is prepared. Each endpoint calls one service function."""

from typing import Annotated

from fastapi import APIRouter, Path, Response

from api.deps import Once, reads, writes
from api.problems import problems
from api.rewards import payments, steps
from api.rewards.access import READERS
from api.rewards.objections import (
    ANSWERERS,
    OBJECTORS,
    answer_objection,
    find_objection,
    object_to_run,
    objections_seen,
)
from api.rewards.run_view import run_money
from api.rewards.schemas import RunAnswer, SignatureAsked, WithdrawalAsked
from api.rewards.schemas_steps import (
    MoneyAnswer,
    ObjectionAnswer,
    ObjectionAsked,
    ObjectionReply,
    PaymentAsked,
    ReturnAsked,
)
from api.rewards.service import find_run
from api.rewards.states import who_may
from api.rewards.steps_repository import stage_of
from api.schemas import Page
from api.work import Work
from store.tables.accounts import Role
from store.tables.reward_steps import RunAction
from store.tables.rewards import RewardRun

router = APIRouter(tags=["rewards"])

RunId = Annotated[str, Path(min_length=1, max_length=40)]


def _answer(work: Work, run: RewardRun) -> RunAnswer:
    return RunAnswer.of(run, stage_of(work.session, run))


@router.post(
    "/reward-runs/{run_id}/check",
    status_code=201,
    response_model=RunAnswer,
    summary="Say as a second person that a prepared run was gone through",
    responses=problems(404),
)
def check_run(
    run_id: RunId, asked: SignatureAsked, work: Annotated[Work, writes(*who_may(RunAction.CHECK))], once: Once
) -> Response:
    """The hash says which result was read. Whoever prepared the run cannot check it."""
    return once(lambda: _answer(work, steps.check_run(work, run_id, asked.result_sha256)))


@router.post(
    "/reward-runs/{run_id}/notice",
    status_code=201,
    response_model=RunAnswer,
    summary="Announce a checked run publicly",
    responses=problems(404),
)
def publish_notice(run_id: RunId, work: Annotated[Work, writes(*who_may(RunAction.PUBLISH))], once: Once) -> Response:
    """For the whole days that its policy says (seven by default) everybody may read it and object."""
    return once(lambda: _answer(work, steps.publish_notice(work, run_id)))


@router.post(
    "/reward-runs/{run_id}/approval",
    status_code=201,
    response_model=RunAnswer,
    summary="Approve an announced run as its second person",
    responses=problems(404),
)
def approve_run(
    run_id: RunId, asked: SignatureAsked, work: Annotated[Work, writes(*who_may(RunAction.APPROVE))], once: Once
) -> Response:
    """After the notice, when every objection has its answer. One that was upheld leaves only the withdrawal."""
    return once(lambda: _answer(work, steps.approve_run(work, run_id, asked.result_sha256)))


@router.post(
    "/reward-runs/{run_id}/lock",
    status_code=201,
    response_model=RunAnswer,
    summary="Lock an approved run as its second person",
    responses=problems(404),
)
def lock_run(
    run_id: RunId, asked: SignatureAsked, work: Annotated[Work, writes(*who_may(RunAction.LOCK))], once: Once
) -> Response:
    """From now on it counts as granted and never changes. The hash says which result was read."""
    return once(lambda: _answer(work, steps.lock_run(work, run_id, asked.result_sha256)))


@router.post(
    "/reward-runs/{run_id}/withdrawal",
    status_code=201,
    response_model=RunAnswer,
    summary="Take a run back, with a reason",
    responses=problems(404),
)
def withdraw_run(
    run_id: RunId, asked: WithdrawalAsked, work: Annotated[Work, writes(*who_may(RunAction.WITHDRAW))], once: Once
) -> Response:
    """Only before its lock."""
    return once(lambda: _answer(work, steps.withdraw_run(work, run_id, asked.reason)))


@router.post(
    "/reward-runs/{run_id}/payments",
    status_code=201,
    response_model=MoneyAnswer,
    summary="Record a transfer to some hosts of a locked run",
    responses=problems(404),
)
def record_payments(
    run_id: RunId, asked: PaymentAsked, work: Annotated[Work, writes(*who_may(RunAction.PAY))], once: Once
) -> Response:
    """Never more than a host was granted. The run is paid when all of them have everything."""

    def record() -> MoneyAnswer:
        amounts = {one.host_id: one.amount_fen for one in asked.amounts}
        payments.record_reward_payments(work, run_id, amounts, asked.paid_on, asked.external_ref)
        return run_money(work.session, find_run(work.session, run_id))

    return once(record)


@router.post(
    "/reward-runs/{run_id}/payment-returns",
    status_code=201,
    response_model=MoneyAnswer,
    summary="Record that money came back from a host, or was recorded in error",
    responses=problems(404),
)
def return_payment(
    run_id: RunId, asked: ReturnAsked, work: Annotated[Work, writes(*who_may(RunAction.RETURN))], once: Once
) -> Response:
    """The run is to be paid again as far as that goes."""

    def record() -> MoneyAnswer:
        payments.return_payment(
            work, run_id, asked.host_id, asked.amount_fen, asked.paid_on, asked.external_ref, asked.reason
        )
        return run_money(work.session, find_run(work.session, run_id))

    return once(record)


@router.get(
    "/reward-runs/{run_id}/payments", summary="What a run grants, and what was paid of it", responses=problems(404)
)
def read_payments(run_id: RunId, work: Annotated[Work, reads(*READERS)]) -> MoneyAnswer:
    """By host, with the days from the approval to the last transfer."""
    return run_money(work.session, find_run(work.session, run_id))


@router.post(
    "/reward-notices/{run_id}/objections",
    status_code=201,
    response_model=ObjectionAnswer,
    summary="Object to an announced run",
    responses=problems(404),
)
def object_to_notice(
    run_id: RunId, asked: ObjectionAsked, work: Annotated[Work, writes(*OBJECTORS)], once: Once
) -> Response:
    """By any host, firm or officer while the notice goes on; each is answered before the run can be approved."""

    def raise_it() -> ObjectionAnswer:
        row = object_to_run(work, run_id, asked.objection, asked.host_id)
        return ObjectionAnswer.of(find_objection(work.session, row.objection_id))

    return once(raise_it)


@router.get("/reward-notices/{run_id}/objections", summary="The objections you may see", responses=problems(404))
def list_objections(
    run_id: RunId, work: Annotated[Work, reads(Role.SME, Role.LAB_MANAGER, *READERS)]
) -> Page[ObjectionAnswer]:
    """The county sees all to a run, anybody else those of their own organisation, with the answers."""
    find_run(work.session, run_id)
    return Page(items=[ObjectionAnswer.of(seen) for seen in objections_seen(work, run_id)])


@router.post(
    "/reward-objections/{objection_id}/answer",
    status_code=201,
    response_model=ObjectionAnswer,
    summary="Answer an objection",
    responses=problems(404),
)
def answer(
    objection_id: RunId, asked: ObjectionReply, work: Annotated[Work, writes(*ANSWERERS)], once: Once
) -> Response:
    """Once, by an officer who did not raise it."""

    def reply() -> ObjectionAnswer:
        answer_objection(work, objection_id, asked.outcome, asked.answer)
        return ObjectionAnswer.of(find_objection(work.session, objection_id))

    return once(reply)
