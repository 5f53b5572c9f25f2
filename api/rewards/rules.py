"""What counts for a reward, and how much it is. Pure and integers only; nothing depends on the order of rows.

Called by the reward service (to prepare a run) and by verification (to prepare it again by its `engine_version`; an
old engine is never edited, a changed rule is a new entry of ENGINES).

Engine 1. Each charge has exactly one reason, the first that holds of: reversed, internal, no_show_or_cancellation,
affiliated, out_of_area, what people marked its booking with (in the order of MarkCode), no_session, coverage,
certificate, anomaly_confirmed, anomaly_open, unpaid or uninvoiced (by the basis); otherwise it is eligible, unless the
cap of its instrument is full (instrument_cap.py). From what can never count to what may still come, so that the reason
tells the host what to do. A person who cleared the anomaly that charging raised for a missing session, thin samples or
an old certificate has reviewed just that: the fact no longer excludes the charge.

The reward of a host for a period is a function of its eligible sum, nothing else: marginal tiers, times the grade's
coefficient, at most the cap, rounded to the fen once (half up), nothing at all if below the minimum payout.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

from api.rewards.policy_body import Amount, Basis, Exclusion, PolicyBody
from store.money import round_half_up
from store.tables.charging import ChargePurpose
from store.tables.rewards import Grade

ENGINE_VERSION = "1"
BP = 10_000
_NOT_A_TEST = (ChargePurpose.CANCELLATION.value, ChargePurpose.NO_SHOW.value)


class Reason(StrEnum):
    """Why a charge counts or does not; stored with every charge of every run."""

    ELIGIBLE = "eligible"
    REVERSED = "reversed"
    INTERNAL = "internal"
    NO_SHOW_OR_CANCELLATION = "no_show_or_cancellation"
    AFFILIATED = "affiliated"
    OUT_OF_AREA = "out_of_area"
    STATUTORY = "statutory"
    ENFORCEMENT = "enforcement"
    CERTIFICATION_TEST = "certification_test"
    COMMERCIAL_INSPECTION = "commercial_inspection"
    BULK = "bulk"
    MEDICAL = "medical"
    FILMING = "filming"
    ALREADY_FUNDED = "already_funded"
    DOUBLE_INVOICE = "double_invoice"
    NO_SESSION = "no_session"
    COVERAGE = "coverage"
    CERTIFICATE = "certificate"
    ANOMALY_CONFIRMED = "anomaly_confirmed"
    ANOMALY_OPEN = "anomaly_open"
    UNPAID = "unpaid"
    UNINVOICED = "uninvoiced"
    INSTRUMENT_CAP = "instrument_cap"


class ChargeFacts(NamedTuple):
    """Everything about one charge that a reason or an amount depends on, as known at the run's watermark.

    `reversed`: an odd revision that an even one took back. `*_cleared`: a person cleared the anomaly of that rule.
    `anomaly_*`: other blocking ones. `cash_fen`, `voucher_fen`, `waived_fen`: what settled the charge, by tender.
    `payer_region` (six digits of the payer's social credit code) and `marks` (codes that stand on the booking, in the
    order of MarkCode) are read for policies alone that look at them.
    """

    charge_id: str
    host_id: str
    purpose: str
    revision: int
    reversed: bool
    internal: bool
    has_session: bool
    coverage_bp: int
    certificate_valid: bool
    affiliated: bool
    session_cleared: bool
    coverage_cleared: bool
    certificate_cleared: bool
    anomaly_confirmed: bool
    anomaly_open: bool
    invoiced: bool
    total_fen: int
    net_fen: int
    cash_fen: int
    voucher_fen: int
    waived_fen: int
    payer_region: str = ""
    marks: tuple[str, ...] = ()


class Classified(NamedTuple):
    """One charge in one run. `amount_fen` is the charge's gross total, `eligible_fen` what of it counts."""

    charge_id: str
    host_id: str
    amount_fen: int
    eligible_fen: int
    reason: Reason


@dataclass(frozen=True)
class TierPart:
    """What of the base lies in one tier."""

    from_fen: int
    to_fen: int | None
    rate_bp: int
    part_fen: int


@dataclass(frozen=True)
class Reward:
    """What a base earns, step by step. `tiers_e4` is in 1/10,000 fen, `graded_e8` in 1/100,000,000 fen: exact."""

    base_fen: int
    tiers: tuple[TierPart, ...]
    tiers_e4: int
    coefficient_bp: int
    graded_e8: int
    capped: bool
    below_minimum: bool
    amount_fen: int


@dataclass(frozen=True)
class Settled:
    """What is paid out now and what the host still owes (zero or negative)."""

    payable_fen: int
    carried_out_fen: int


@dataclass(frozen=True)
class FrozenShares:
    """How a budget was shared when the period was granted for the first time after its end.

    `numerator`/`denominator` is the share of each fen; `first` holds (full reward, share) by host as it was then.
    """

    numerator: int
    denominator: int
    first: Mapping[str, tuple[int, int]]


class UnknownEngine(ValueError):
    """A run names an engine that this program does not have."""


def classify(facts: ChargeFacts, policy: PolicyBody) -> Reason:
    """Return the one reason of a charge, by the order at the head of this file."""
    off = policy.exclusions
    if facts.reversed or facts.revision % 2 == 0:
        return Reason.REVERSED
    if facts.internal:
        return Reason.INTERNAL
    if facts.purpose in _NOT_A_TEST and Exclusion.NO_SHOW_OR_CANCELLATION in off:
        return Reason.NO_SHOW_OR_CANCELLATION
    if facts.affiliated and Exclusion.AFFILIATED in off:
        return Reason.AFFILIATED
    if policy.looks_at_area and not facts.payer_region.startswith(policy.area_codes):
        return Reason.OUT_OF_AREA
    for code in facts.marks:
        if Exclusion(code) in off:
            return Reason(code)
    if not facts.has_session and not facts.session_cleared and Exclusion.NO_SESSION in off:
        return Reason.NO_SESSION
    # Samples bear witness to a session; without one there is nothing to cover.
    thin = facts.has_session and facts.coverage_bp < policy.coverage_min_bp
    if thin and not facts.coverage_cleared and Exclusion.COVERAGE in off:
        return Reason.COVERAGE
    if not facts.certificate_valid and not facts.certificate_cleared and Exclusion.CERTIFICATE in off:
        return Reason.CERTIFICATE
    if facts.anomaly_confirmed:
        return Reason.ANOMALY_CONFIRMED
    if facts.anomaly_open and Exclusion.ANOMALY_OPEN in off:
        return Reason.ANOMALY_OPEN
    if policy.basis is Basis.PAID:
        settled = facts.cash_fen + facts.voucher_fen + facts.waived_fen
        return Reason.ELIGIBLE if settled >= facts.total_fen else Reason.UNPAID
    return Reason.ELIGIBLE if facts.invoiced else Reason.UNINVOICED


def counted_fen(facts: ChargeFacts, policy: PolicyBody) -> int:
    """Return what of an eligible charge counts: its gross or net amount, less what was waived or (unless the policy
    counts them) paid with vouchers. Where only part counts, the net part is rounded half up."""
    without = facts.waived_fen if policy.voucher_counts else facts.waived_fen + facts.voucher_fen
    gross = facts.total_fen - without
    if policy.amount is Amount.GROSS:
        return gross
    return facts.net_fen if not without else round_half_up(facts.net_fen * gross, facts.total_fen)


def judge(facts: ChargeFacts, policy: PolicyBody) -> Classified:
    """Return the row of a run for one charge: its reason and what counts of it."""
    reason = classify(facts, policy)
    eligible = counted_fen(facts, policy) if reason is Reason.ELIGIBLE else 0
    return Classified(facts.charge_id, facts.host_id, facts.total_fen, eligible, reason)


def reward(base_fen: int, policy: PolicyBody, grade: Grade | None) -> Reward:
    """Return what a host's eligible sum earns. `grade` is None where the policy has no coefficients, or where the host
    was not assessed (then its coefficient is 0). Raises ValueError for a negative base."""
    if base_fen < 0:
        raise ValueError(f"the eligible sum is {base_fen}; it cannot be negative")
    parts = tuple(
        TierPart(tier.from_fen, tier.to_fen, tier.rate_bp, max(0, _least(base_fen, tier.to_fen) - tier.from_fen))
        for tier in policy.tiers
    )
    tiers_e4 = sum(part.part_fen * part.rate_bp for part in parts)
    coefficient = coefficient_bp(policy, grade)
    graded_e8 = tiers_e4 * coefficient
    cap_e8 = None if policy.host_cap_fen is None else policy.host_cap_fen * BP * BP
    amount = round_half_up(_least(graded_e8, cap_e8), BP * BP)
    below = 0 < amount < policy.min_payout_fen
    is_capped = cap_e8 is not None and graded_e8 > cap_e8
    return Reward(base_fen, parts, tiers_e4, coefficient, graded_e8, is_capped, below, 0 if below else amount)


def coefficient_bp(policy: PolicyBody, grade: Grade | None) -> int:
    """Return by what the tiers' sum is multiplied: 1 without grades in the policy, 0 for a host without a grade."""
    if policy.coefficients is None:
        return BP
    return 0 if grade is None else policy.coefficients.of(grade)


def settle(reward_fen: int, granted_before_fen: int, carried_in_fen: int) -> Settled:
    """Return what a run pays a host: its reward less what was granted for the period, less what the host owes.

    A negative rest is not claimed back but carried to the host's next run. Raises ValueError for a positive carry.
    """
    if carried_in_fen > 0:
        raise ValueError(f"{carried_in_fen} fen are carried in; only what a host owes is carried")
    rest = reward_fen - granted_before_fen + carried_in_fen
    return Settled(max(rest, 0), min(rest, 0))


def prorate(rewards: Mapping[str, int], budget_fen: int) -> dict[str, int]:
    """Return shares that add up to min(sum, budget) exactly: proportional, cut down to the fen, what is left over
    given out by largest remainder (ties by host id in code point order)."""
    total = sum(rewards.values())
    if total <= budget_fen:
        return dict(rewards)
    shares = {host: full * budget_fen // total for host, full in rewards.items()}
    left = budget_fen - sum(shares.values())
    by_remainder = sorted(rewards, key=lambda host: (-(rewards[host] * budget_fen % total), host))
    for host in by_remainder[:left]:
        shares[host] += 1
    return shares


def share_again(rewards: Mapping[str, int], frozen: FrozenShares) -> dict[str, int]:
    """Return shares by the scale of the first grant: a late line of one host takes nothing from the others.

    A host whose reward is what it was gets what it got; any other gets its reward times the scale, cut down.
    """
    return {
        host: frozen.first[host][1]
        if host in frozen.first and frozen.first[host][0] == full
        else full * frozen.numerator // frozen.denominator
        for host, full in rewards.items()
    }


class Engine(NamedTuple):
    """The rules of one engine version."""

    judge: Callable[[ChargeFacts, PolicyBody], Classified]
    reward: Callable[[int, PolicyBody, Grade | None], Reward]
    settle: Callable[[int, int, int], Settled]


def engine(version: str) -> Engine:
    """Return the rules by which a run was made. Raises UnknownEngine."""
    if version not in ENGINES:
        raise UnknownEngine(f"no reward engine is called {version!r}; this program has {', '.join(ENGINES)}")
    return ENGINES[version]


def _least(value: int, limit: int | None) -> int:
    return value if limit is None else min(value, limit)


ENGINES: MappingProxyType[str, Engine] = MappingProxyType({"1": Engine(judge, reward, settle)})
