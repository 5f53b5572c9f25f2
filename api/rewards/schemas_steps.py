"""What the endpoints of a run's steps, objections, payments and grades take and give."""

from datetime import date
from typing import Annotated, Self

from pydantic import Field, model_validator

from api.rewards.assessments import ProposalSeen
from api.rewards.schemas import ResultAnswer, RunWhole
from api.rewards.steps_repository import ObjectionSeen
from api.schemas import FEN_MAX, Answer, Instant, Question
from store.periods import SHANGHAI
from store.tables.reward_steps import ObjectionOutcome, RewardPayment, RunAction, RunStage
from store.tables.rewards import Grade

Said = Annotated[str, Field(min_length=1, max_length=2000)]
Reference = Annotated[str, Field(min_length=1, max_length=100)]
HostId = Annotated[str, Field(min_length=1, max_length=64)]
PositiveFen = Annotated[int, Field(gt=0, le=FEN_MAX)]


class ObjectionAsked(Question):
    """What is wrong with an announced run; `host_id` where it is about one host's amount."""

    objection: Said
    host_id: HostId | None = None


class ObjectionReply(Question):
    """The one answer to an objection. Upheld: the run can only be withdrawn."""

    outcome: ObjectionOutcome
    answer: Said


class HostAmount(Question):
    """What of a transfer goes to one host."""

    host_id: HostId
    amount_fen: PositiveFen


class PaymentAsked(Question):
    """One transfer or batch: its day (Asia/Shanghai), the bank's reference, and what each host gets of it."""

    paid_on: date
    external_ref: Reference
    amounts: Annotated[list[HostAmount], Field(min_length=1, max_length=500)]

    @model_validator(mode="after")
    def _each_host_once(self) -> Self:
        if len({one.host_id for one in self.amounts}) != len(self.amounts):
            raise ValueError("a host is named twice")
        return self


class ReturnAsked(Question):
    """Money that came back from a host, or was recorded in error; `amount_fen` is positive."""

    paid_on: date
    external_ref: Reference
    host_id: HostId
    amount_fen: PositiveFen
    reason: Said


class StepAnswer(Answer):
    """One step of a run: who did what when."""

    step_no: int
    action: RunAction
    from_stage: RunStage
    to_stage: RunStage
    reason: str
    notice_until: Instant | None
    done_by: str
    done_at: Instant


class ObjectionAnswer(Answer):
    """An objection with its answer; `outcome` is null while it has none."""

    objection_id: str
    run_id: str
    objection_no: int
    host_id: str | None
    org_id: str
    objection: str
    raised_by: str
    raised_at: Instant
    outcome: ObjectionOutcome | None
    answer: str
    answered_by: str | None
    answered_at: Instant | None

    @staticmethod
    def of(seen: ObjectionSeen) -> "ObjectionAnswer":
        """An objection as it stands."""
        row, reply = seen.objection, seen.answer
        own = {key: getattr(row, key) for key in ObjectionAnswer.model_fields if hasattr(row, key)}
        if reply is None:
            return ObjectionAnswer(**own, outcome=None, answer="", answered_by=None, answered_at=None)
        given = {key: getattr(reply, key) for key in ("outcome", "answer", "answered_by", "answered_at")}
        return ObjectionAnswer(**own, **given)


class PaymentAnswer(Answer):
    """One transfer to one host; negative where money came back."""

    payment_no: int
    amount_fen: int
    paid_on: date
    external_ref: str
    recorded_by: str
    recorded_at: Instant

    @staticmethod
    def of(row: RewardPayment) -> "PaymentAnswer":
        """A recorded transfer."""
        own = {key: getattr(row, key) for key in PaymentAnswer.model_fields if key != "paid_on"}
        return PaymentAnswer(**own, paid_on=row.paid_at.astimezone(SHANGHAI).date())


class HostPaid(Answer):
    """What a run grants a host and what it got. `days_to_pay`: from the approval to the last transfer, once it has
    everything."""

    host_id: str
    approved_fen: int
    paid_fen: int
    unpaid_fen: int
    days_to_pay: int | None
    payments: list[PaymentAnswer]


class MoneyAnswer(Answer):
    """Approved against paid: the county promises all of it. `days_to_pay` is the slowest host's, once all are paid;
    `pay_until` the day from which unpaid money is late."""

    approved_at: Instant | None
    pay_until: Instant | None
    approved_fen: int
    paid_fen: int
    unpaid_fen: int
    days_to_pay: int | None
    hosts: list[HostPaid]


class EarlierRun(Answer):
    """A locked run of the same policy and period that this one builds on."""

    run_id: str
    run_no: int
    policy_version: int
    watermark: Instant
    closed_at: Instant | None
    payable_fen: int
    result_sha256: str


class ChangeSumAnswer(Answer):
    """Lines that came in since the newest of those runs, by host and kind: late, reversed, or changed otherwise."""

    host_id: str
    kind: str
    count: int
    difference_fen: int


class LineChangeAnswer(Answer):
    """A charge that this run judges otherwise than the newest earlier locked run; nulls: that run did not know it."""

    charge_id: str
    host_id: str
    kind: str
    reason_before: str | None
    eligible_before_fen: int | None
    reason: str
    eligible_fen: int
    difference_fen: int


class RunDetail(RunWhole):
    """A run with everything that happened to it. `possible`: what the caller can do next.

    `stands_on` is empty for a first run; an adjustment run goes on under the policy version that granted the period.
    """

    policy_sha256: str
    notice_until: Instant | None
    possible: list[RunAction]
    steps: list[StepAnswer]
    objections: list[ObjectionAnswer]
    money: MoneyAnswer
    stands_on: list[EarlierRun]
    changes: list[ChangeSumAnswer]


class NoticeHost(Answer):
    """What an announced run would give one host: in this run, and for the period in all."""

    host_id: str
    name_zh: str
    name_en: str
    payable_fen: int
    reward_fen: int


class NoticeAnswer(Answer):
    """A run that is publicly announced. Objections: POST /reward-notices/{run_id}/objections."""

    run_id: str
    policy_id: str
    policy_version: int
    period: str
    run_no: int
    payable_fen: int
    announced_at: Instant
    notice_until: Instant
    hosts: list[NoticeHost]


class HostRewardAnswer(Answer):
    """One host's own result of one run, with what was paid of it."""

    run_id: str
    policy_id: str
    policy_version: int
    period: str
    run_no: int
    stage: RunStage
    notice_until: Instant | None
    result: ResultAnswer
    paid: HostPaid | None


class AssessmentAsked(Question):
    """The grade of a host for a calendar year, and what it rests on."""

    host_id: HostId
    year: Annotated[int, Field(ge=2000, le=2999)]
    grade: Grade
    evidence: Said


class DecisionAsked(Question):
    """What the second person says to a proposed grade; a refusal needs a note."""

    approved: bool
    note: Annotated[str, Field(max_length=2000)] = ""


class AssessmentAnswer(Answer):
    """A recorded grade. The newest version of a year counts."""

    host_id: str
    year: int
    version: int
    grade: Grade
    evidence: str
    prepared_by: str
    approved_by: str
    recorded_at: Instant


class AssessmentProposalAnswer(Answer):
    """A proposed grade; `approved` is null while nobody has decided, `version` what it became."""

    proposal_id: str
    host_id: str
    year: int
    grade: Grade
    evidence: str
    prepared_by: str
    prepared_at: Instant
    approved: bool | None
    version: int | None
    note: str
    decided_by: str | None
    decided_at: Instant | None

    @staticmethod
    def of(seen: ProposalSeen) -> "AssessmentProposalAnswer":
        """A proposal as it stands."""
        row, decided = seen.proposal, seen.decision
        own = {key: getattr(row, key) for key in AssessmentProposalAnswer.model_fields if hasattr(row, key)}
        if decided is None:
            return AssessmentProposalAnswer(
                **own, approved=None, version=None, note="", decided_by=None, decided_at=None
            )
        given = {key: getattr(decided, key) for key in ("version", "note", "decided_by", "decided_at")}
        return AssessmentProposalAnswer(**own, **given, approved=decided.version is not None)
