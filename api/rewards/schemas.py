"""What the reward endpoints take and give."""

from typing import Annotated, Any

from pydantic import Field

from api.rewards.computing import name_in
from api.rewards.policies import PolicyInForce, PolicyProposal
from api.rewards.policy_body import policy_document
from api.schemas import Answer, Instant, Name, Question
from store.periods import PeriodKind, format_period
from store.tables.reward_steps import RunStage
from store.tables.rewards import RewardResult, RewardRun, RunState

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
PolicyId = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,40}$")]


class PolicyAsked(Question):
    """A policy to be approved by a second person. `body` is a document of `openlab.reward-policy/1`."""

    policy_id: PolicyId
    name_zh: Name
    name_en: Name
    from_month: Annotated[int, Field(ge=200001, le=299912, description="yyyymm")]
    body: dict[str, Any]


class ApprovalAsked(Question):
    """The hash of the text that was read and is approved."""

    body_sha256: Sha256


class PolicyAnswer(Answer):
    """One published version."""

    policy_id: str
    version: int
    from_month: int
    body: dict[str, Any]
    body_sha256: str
    prepared_by: str
    approved_by: str

    @staticmethod
    def of(policy: PolicyInForce) -> "PolicyAnswer":
        return PolicyAnswer(**{**vars(policy), "body": policy_document(policy.body)})


class ProposalAnswer(Answer):
    """A policy that waits for its second person."""

    proposal_id: str
    policy_id: str
    name_zh: str
    name_en: str
    from_month: int
    body: dict[str, Any]
    body_sha256: str
    prepared_by: str

    @staticmethod
    def of(proposal: PolicyProposal) -> "ProposalAnswer":
        return ProposalAnswer(**{**vars(proposal), "body": policy_document(proposal.body)})


class RunAsked(Question):
    """Prepare a run of a policy for a period: `2026` (year), `2026-Q4` (quarter) or `2026-11` (month)."""

    policy_id: PolicyId
    period: Annotated[str, Field(min_length=4, max_length=7)]


class SignatureAsked(Question):
    """The hash of the result that was read and is signed."""

    result_sha256: Sha256


class WithdrawalAsked(Question):
    """Why the run is taken back."""

    reason: Annotated[str, Field(min_length=1, max_length=1000)]


class RunAnswer(Answer):
    """A run without its rows. `state` says whether it counts, `stage` how far it has come."""

    run_id: str
    policy_id: str
    policy_version: int
    period: str
    run_no: int
    state: RunState
    stage: RunStage
    engine_version: str
    watermark: Instant
    charge_count: int
    base_fen: int
    payable_fen: int
    input_sha256: str
    result_sha256: str
    prepared_by: str
    prepared_at: Instant
    closed_by: str | None
    closed_at: Instant | None
    close_reason: str

    @staticmethod
    def of(run: RewardRun, stage: RunStage) -> "RunAnswer":
        return RunAnswer(**run_fields(run, stage))


class ResultAnswer(Answer):
    """What one host gets, and why: `explanation` says how the amount came about, in exact steps."""

    host_id: str
    name_zh: str
    name_en: str
    base_fen: int
    grade: str
    coefficient_bp: int
    reward_fen: int
    granted_before_fen: int
    carried_in_fen: int
    payable_fen: int
    carried_out_fen: int
    explanation: str

    @staticmethod
    def of(row: RewardResult) -> "ResultAnswer":
        name = name_in(row.explanation)
        fields = {key: getattr(row, key) for key in ResultAnswer.model_fields if not key.startswith("name_")}
        return ResultAnswer(name_zh=name.name_zh, name_en=name.name_en, **fields)


class RunWhole(RunAnswer):
    """A run with the result of every host."""

    results: list[ResultAnswer]

    @staticmethod
    def whole(run: RewardRun, stage: RunStage, results: list[RewardResult]) -> "RunWhole":
        return RunWhole(**run_fields(run, stage), results=[ResultAnswer.of(row) for row in results])


class InputAnswer(Answer):
    """One charge in the run and the one reason why it counts or does not."""

    charge_id: str
    host_id: str
    amount_fen: int
    eligible_fen: int
    reason: str


def run_fields(run: RewardRun, stage: RunStage) -> dict[str, Any]:
    """Return the fields of a RunAnswer."""
    fields = {key: getattr(run, key) for key in RunAnswer.model_fields if key not in ("period", "stage")}
    return fields | {"period": format_period(PeriodKind(run.period_kind), run.period_first), "stage": stage}
