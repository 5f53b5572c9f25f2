"""What the what-if endpoint and command take and give."""

from typing import Annotated, Any

from pydantic import Field

from api.rewards.schemas import PolicyId
from api.rewards.whatif import WhatIf
from api.schemas import Answer, Question

RunRef = Annotated[str, Field(min_length=1, max_length=40)]


class WhatIfAsked(Question):
    """Which policy over which period (`2026`, `2026-Q4`, `2026-11`): `body`, a draft of `openlab.reward-policy/1`, or
    `policy_id` (with `version`, where it is not the one for the period). Compared with `against_run` or the version of
    `against_policy` for the period; by default with the newest locked run, else with what is in force."""

    period: Annotated[str, Field(min_length=4, max_length=7)]
    policy_id: PolicyId | None = None
    version: Annotated[int, Field(ge=1, le=10_000)] | None = None
    body: dict[str, Any] | None = None
    against_run: RunRef | None = None
    against_policy: PolicyId | None = None


class LeftOutAnswer(Answer):
    """Charges that count for nothing, by reason."""

    reason: str
    count: int
    amount_fen: int


class SideAnswer(Answer):
    """One side of the comparison. `kind`: draft, policy, run or none. `wanted_fen`: before a short budget is shared."""

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
    left_out: list[LeftOutAnswer]
    hosts_without_grade: list[str]


class HostDifferenceAnswer(Answer):
    """What one host gets on either side; `difference_fen` is positive for a winner."""

    host_id: str
    name_zh: str
    name_en: str
    base_before_fen: int
    reward_before_fen: int
    base_fen: int
    reward_fen: int
    difference_fen: int


class WhatIfAnswer(Answer):
    """Both sides and every host, winners first."""

    asked: SideAnswer
    against: SideAnswer
    difference_fen: int
    winners: int
    losers: int
    hosts: list[HostDifferenceAnswer]

    @staticmethod
    def of(found: WhatIf) -> "WhatIfAnswer":
        """The answer as it is shown."""
        return WhatIfAnswer(
            asked=SideAnswer.model_validate(found.asked),
            against=SideAnswer.model_validate(found.against),
            difference_fen=found.asked.reward_fen - found.against.reward_fen,
            winners=found.winners,
            losers=found.losers,
            hosts=[HostDifferenceAnswer.model_validate(host) for host in found.hosts],
        )
