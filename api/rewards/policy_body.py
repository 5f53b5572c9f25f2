"""A reward policy as one document, `openlab.reward-policy/1`. Pure: text in, frozen values out.

Used by the reward service (to publish and to run) and by verification (to run again). What is stored is
`canonical_policy`, byte for byte; its hash names the version. Every rate, tier, cap, basis and exclusion is data
here. A later convention is a new optional field that is not written where it has its default, or a new schema name.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib import resources
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from store.canonical import canonical_json
from store.periods import PeriodKind
from store.tables.rewards import Grade, MarkCode

MAX_FEN = 10**13
MAX_BP = 100_000
# Older documents have none of these, and their bytes (and hashes) stay what they were.
_LATER_FIELDS = ("notice_days", "pay_within_days", "instrument_fee_cap_fen", "area_codes")


class BadPolicy(ValueError):
    """A document that is no policy. `field` is the path of the first wrong field, `why` says what is wrong with it."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(f"{field}: {why}")
        self.field = field
        self.why = why


class Basis(StrEnum):
    """When a fee is an actual fee: when it is settled in full, or when it is invoiced."""

    PAID = "paid"
    INVOICED = "invoiced"


class Amount(StrEnum):
    """Which amount of a charge counts; net is the one without VAT that was frozen with the charge."""

    GROSS = "gross"
    NET = "net"


class Attribution(StrEnum):
    """To which period a charge belongs: that of the use, or that of the booking into the accounts."""

    SERVICE = "service"
    POSTING = "posting"


class OnBudgetShort(StrEnum):
    """What happens where all rewards together are more than the budget: say so, or cut all in proportion."""

    ALERT = "alert"
    PRORATE = "prorate"


class Exclusion(StrEnum):
    """Reasons that a policy may switch on. What is internal, reversed, not paid or confirmed wrong never counts.

    Those of MARKS rest on what people recorded of a booking (api/rewards/marks.py), `out_of_area` on the payer's social
    credit code; a policy that does not list its exclusions has USUAL_EXCLUSIONS.
    """

    AFFILIATED = "affiliated"
    ALREADY_FUNDED = "already_funded"
    ANOMALY_OPEN = "anomaly_open"
    BULK = "bulk"
    CERTIFICATE = "certificate"
    CERTIFICATION_TEST = "certification_test"
    COMMERCIAL_INSPECTION = "commercial_inspection"
    COVERAGE = "coverage"
    DOUBLE_INVOICE = "double_invoice"
    ENFORCEMENT = "enforcement"
    FILMING = "filming"
    MEDICAL = "medical"
    NO_SESSION = "no_session"
    NO_SHOW_OR_CANCELLATION = "no_show_or_cancellation"
    OUT_OF_AREA = "out_of_area"
    STATUTORY = "statutory"


USUAL_EXCLUSIONS = (
    Exclusion.AFFILIATED,
    Exclusion.ANOMALY_OPEN,
    Exclusion.CERTIFICATE,
    Exclusion.COVERAGE,
    Exclusion.NO_SESSION,
    Exclusion.NO_SHOW_OR_CANCELLATION,
)
MARKS = frozenset(Exclusion(code.value) for code in MarkCode)


Fen = Annotated[int, Field(ge=0, le=MAX_FEN)]
BasisPoints = Annotated[int, Field(ge=0, le=MAX_BP)]
AreaCode = Annotated[str, Field(pattern=r"^[0-9]{2}([0-9]{2}){0,2}$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=True)


class Tier(_Part):
    """The part of the base in [from_fen, to_fen) earns `rate_bp` (hundredths of a per cent); None is without end."""

    from_fen: Fen
    to_fen: Fen | None
    rate_bp: BasisPoints


class Coefficients(_Part):
    """By what a reward is multiplied for the host's grade, in hundredths of a per cent (10000 leaves it as it is)."""

    excellent: BasisPoints
    good: BasisPoints
    pass_: Annotated[BasisPoints, Field(alias="pass")]
    fail: BasisPoints

    def of(self, grade: Grade) -> int:
        """Return the coefficient of a grade."""
        value: int = getattr(self, "pass_" if grade is Grade.PASS else grade.value)
        return value


class PolicyBody(_Part):
    """A whole policy. Amounts are fen; `budget_fen` is for all hosts of one period, `host_cap_fen` for one host.

    `min_payout_fen`: a reward of a whole period below it is none. Vouchers are tenders: `voucher_counts` says whether
    what they paid was an actual fee. A waived fee never is. A run is announced for `notice_days` whole days before it
    can be approved, and its money is late `pay_within_days` after that. `instrument_fee_cap_fen`: of the eligible fees
    of one instrument of a host at most so much counts in a period, before the tiers. `area_codes`: administrative codes
    of two, four or six digits, in whose area (or one below it) a payer is registered who is not `out_of_area`. None of
    these is written where it has its default.
    """

    schema_name: Literal["openlab.reward-policy/1"] = Field("openlab.reward-policy/1", alias="schema")
    period_kind: Annotated[PeriodKind, Field(strict=False)] = PeriodKind.YEAR
    basis: Annotated[Basis, Field(strict=False)] = Basis.PAID
    amount: Annotated[Amount, Field(strict=False)] = Amount.GROSS
    attribution: Annotated[Attribution, Field(strict=False)] = Attribution.SERVICE
    tiers: Annotated[tuple[Tier, ...], Field(min_length=1, max_length=50, strict=False)]
    coefficients: Coefficients | None = None
    host_cap_fen: Fen | None = None
    budget_fen: Fen | None = None
    on_budget_short: Annotated[OnBudgetShort, Field(strict=False)] = OnBudgetShort.ALERT
    min_payout_fen: Fen = 0
    rounding: Literal["half_up_fen"] = "half_up_fen"
    exclusions: Annotated[
        tuple[Annotated[Exclusion, Field(strict=False)], ...], Field(default=USUAL_EXCLUSIONS, strict=False)
    ]
    coverage_min_bp: Annotated[int, Field(ge=0, le=10_000)] = 9_500
    voucher_counts: bool = False
    notice_days: Annotated[int, Field(ge=0, le=60)] = 7
    pay_within_days: Annotated[int, Field(ge=1, le=365)] = 30
    instrument_fee_cap_fen: Fen | None = None
    area_codes: Annotated[tuple[AreaCode, ...], Field(max_length=500, strict=False)] = ()

    @model_validator(mode="after")
    def _tiers_touch(self) -> Self:
        if self.tiers[0].from_fen != 0:
            raise ValueError("tiers begin at 0")
        if self.tiers[-1].to_fen is not None:
            raise ValueError("the last tier has no end (to_fen null)")
        for lower, upper in pairwise(self.tiers):
            if lower.to_fen is None or lower.to_fen != upper.from_fen:
                raise ValueError("each tier begins where the one before ends")
            if lower.to_fen <= lower.from_fen:
                raise ValueError("a tier ends above where it begins")
        return self

    @model_validator(mode="after")
    def _exclusions_are_a_set(self) -> Self:
        if list(self.exclusions) != sorted(set(self.exclusions)):
            raise ValueError("exclusions are listed once each, in alphabetical order")
        return self

    @model_validator(mode="after")
    def _area_to_be_in(self) -> Self:
        if list(self.area_codes) != sorted(set(self.area_codes)):
            raise ValueError("area_codes are listed once each, in order")
        if bool(self.area_codes) != self.excludes(Exclusion.OUT_OF_AREA):
            raise ValueError("the exclusion out_of_area and area_codes go together")
        return self

    @model_validator(mode="after")
    def _budget_to_share(self) -> Self:
        if self.on_budget_short is OnBudgetShort.PRORATE and self.budget_fen is None:
            raise ValueError("rewards are cut in proportion to a budget; give budget_fen")
        return self

    def excludes(self, exclusion: Exclusion) -> bool:
        """Whether this reason is switched on."""
        return exclusion in self.exclusions

    @property
    def looks_at_marks(self) -> bool:
        """Whether what people recorded of bookings can keep a charge out."""
        return not MARKS.isdisjoint(self.exclusions)

    @property
    def looks_at_area(self) -> bool:
        """Whether it matters where a payer is registered."""
        return bool(self.area_codes)


@dataclass(frozen=True)
class ShippedPolicy:
    """A policy that comes with the program. Nothing is in force until two people have published it."""

    policy_id: str
    name_zh: str
    name_en: str
    from_month: int
    body: PolicyBody


def parse_policy(document: Any) -> PolicyBody:
    """Read a policy document (parsed JSON). Raises BadPolicy that names the first wrong field."""
    try:
        return PolicyBody.model_validate(document)
    except ValidationError as error:
        raise _first_fault(error) from None


def read_policy(text: str) -> PolicyBody:
    """Read the stored text of a policy. Raises BadPolicy."""
    try:
        return PolicyBody.model_validate_json(text)
    except ValidationError as error:
        raise _first_fault(error) from None


def policy_document(body: PolicyBody) -> dict[str, Any]:
    """Return the document as plain JSON values: every field of it, the later ones only where they are not as usual."""
    usual = {name for name in _LATER_FIELDS if getattr(body, name) == PolicyBody.model_fields[name].default}
    return body.model_dump(mode="json", by_alias=True, exclude=usual)


def canonical_policy(body: PolicyBody) -> bytes:
    """Return the one byte form of a policy: what is stored and hashed."""
    return canonical_json(policy_document(body))


def shipped_policies() -> Iterator[ShippedPolicy]:
    """Yield the policies in the package, by id."""
    folder = resources.files("api.rewards") / "policies"
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        if file.name.endswith(".json"):
            fields = json.loads(file.read_text(encoding="utf-8"))
            body = parse_policy(fields["body"])
            name = file.name.removesuffix(".json")
            yield ShippedPolicy(name, fields["name_zh"], fields["name_en"], fields["from_month"], body)


def _first_fault(error: ValidationError) -> BadPolicy:
    first = error.errors(include_url=False, include_input=False)[0]
    why = first["msg"].removeprefix("Value error, ")
    return BadPolicy(".".join(str(part) for part in first["loc"]) or "body", why)
