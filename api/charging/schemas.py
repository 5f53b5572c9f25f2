"""What the endpoints of price lists and charges take and give."""

from typing import Annotated

from pydantic import Field

from api.charging.explain import Explanation
from api.charging.schemas_disputes import CorrectionAnswer, DisputeAnswer, RevisionAnswer
from api.charging.tariff_body import TariffBody
from api.charging.tariffs import Proposal, TariffInForce
from api.schemas import Answer, Fen, Instant, Question
from store.tables.audit import Anomaly, AnomalyDecision, Verdict
from store.tables.charging import Charge, ChargeLine

Reason = Annotated[str, Field(min_length=1, max_length=1000)]


class TariffAnswer(Answer):
    """One published version of an instrument's prices; in force from `valid_from` until the next one's."""

    tariff_id: str
    version: int
    valid_from: Instant
    body: TariffBody
    body_sha256: str

    @staticmethod
    def of(found: TariffInForce) -> "TariffAnswer":
        return TariffAnswer.model_validate(found)


class ProposalAsked(Question):
    """A price list for somebody else to approve."""

    valid_from: Instant
    body: TariffBody


class ProposalAnswer(Answer):
    """A price list that is not in force. Approve it by its `body_sha256`."""

    proposal_id: str
    instrument_id: str
    host_id: str
    valid_from: Instant
    body: TariffBody
    body_sha256: str
    prepared_by: str
    prepared_at: Instant

    @staticmethod
    def of(found: Proposal) -> "ProposalAnswer":
        return ProposalAnswer.model_validate(found)


class ApprovalAsked(Question):
    """The hash of the text that was read and is approved."""

    body_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class ChargeAnswer(Answer):
    """The header of a charge. `revision` odd charges, even reverses the one before."""

    charge_id: str
    booking_id: str
    purpose: str
    revision: int
    host_id: str
    payer_org: str
    instrument_id: str
    category: str
    tariff_id: str
    tariff_version: int
    calc_version: str
    service_at: Instant
    service_month: int
    posting_month: int
    total_fen: Fen
    net_fen: Fen
    metered_ms: int
    bridged_ms: int = Field(description="How much of `metered_ms` nobody saw: holes bridged by rule (docs/billing.md)")
    internal: bool
    has_session: bool
    certificate_valid: bool
    coverage_bp: int
    reason: str
    recorded_at: Instant
    row_hash: str


class ChargeLineAnswer(Answer):
    """One line: quantity x unit / per_quantity, rounded once. Time is counted in seconds."""

    line_no: int
    component: str
    item_code: str
    quantity: int
    per_quantity: int
    unit_fen: Fen
    amount_fen: Fen
    rule: str


class ChargeWhole(ChargeAnswer):
    """A charge with its lines."""

    lines: list[ChargeLineAnswer]

    @staticmethod
    def whole(charge: Charge, lines: list[ChargeLine]) -> "ChargeWhole":
        given = [ChargeLineAnswer.model_validate(line) for line in lines]
        return ChargeWhole(**dict(ChargeAnswer.model_validate(charge)), lines=given)


class ExplainedLine(Answer):
    """A line in words."""

    component: str
    amount_fen: Fen
    rule: str
    zh: str
    en: str


class ExplainedUseAnswer(Answer):
    """The part of one session that was billed."""

    session_id: str
    from_at: Instant
    to_at: Instant
    running_ms: int
    unknown_ms: int
    agent_id: str
    stream: str
    open_seq: int
    close_seq: int | None
    records: int


class ExplainedHoleAnswer(Answer):
    """A hole in the use. `billed_ms`: what of it was bridged by rule, 0 where it was not; then `why_not` is a code."""

    session_id: str
    record: str
    from_at: Instant
    to_at: Instant
    billed_ms: int
    why_not: str
    zh: str
    en: str


class ExplainedSecondSourceAnswer(Answer):
    """The part of a session in the time of the use that another source told as well. Not billed unless `verdict` is
    `cleared`; empty while nobody has decided."""

    session_id: str
    agent_id: str
    from_at: Instant
    to_at: Instant
    verdict: str
    detail: str


class CurveAnswer(Answer):
    """The frozen power curve in few numbers; powers in milliwatt, times in UTC milliseconds."""

    samples: int
    first_ms: int | None
    last_ms: int | None
    power_min_mw: int | None
    power_max_mw: int | None
    power_mean_mw: int | None


class EvidenceAnswer(Answer):
    """One kind of frozen evidence: the hash is over its uncompressed bytes."""

    kind: str
    item_count: int
    content_sha256: str
    size_bytes: int
    curve: CurveAnswer | None


class AnomalyAnswer(Answer):
    """Something that did not fit, and what was decided about it."""

    anomaly_id: str
    rule: str
    subject_kind: str
    subject_id: str
    host_id: str
    detail: str
    blocks_reward: bool
    found_at: Instant
    verdict: str | None
    note: str | None

    @staticmethod
    def of(found: Anomaly, decision: AnomalyDecision | None) -> "AnomalyAnswer":
        return AnomalyAnswer(
            anomaly_id=found.anomaly_id,
            rule=found.rule,
            subject_kind=found.subject_kind,
            subject_id=found.subject_id,
            host_id=found.host_id,
            detail=found.detail,
            blocks_reward=found.blocks_reward,
            found_at=found.found_at,
            verdict=decision.verdict if decision else None,
            note=decision.note if decision else None,
        )


class DecisionAsked(Question):
    """What a person concluded, and why."""

    verdict: Verdict
    note: Reason


class ExplanationAnswer(Answer):
    """From the amount to the measurement."""

    charge: ChargeAnswer
    lines: list[ExplainedLine]
    tariff: TariffAnswer
    list_fen: Fen
    saving_fen: Fen
    slot_ms: int
    running_ms: int
    quantity: int
    days: dict[str, str]
    """Days of the public calendar that the price looked at: `holiday`, or the day of the week it was like."""
    uses: list[ExplainedUseAnswer]
    holes: list[ExplainedHoleAnswer]
    evidence: list[EvidenceAnswer]
    anomalies: list[AnomalyAnswer]
    revisions: list[RevisionAnswer]
    disputes: list[DisputeAnswer]
    corrections: list[CorrectionAnswer]
    second_sources: list[ExplainedSecondSourceAnswer]

    @staticmethod
    def of(found: Explanation) -> "ExplanationAnswer":
        return ExplanationAnswer(
            charge=ChargeAnswer.model_validate(found.charge),
            lines=[
                ExplainedLine(
                    component=line.component.value,
                    amount_fen=line.amount_fen,
                    rule=line.rule,
                    zh=said.zh,
                    en=said.en,
                )
                for line, said in found.lines
            ],
            tariff=TariffAnswer.of(found.tariff),
            list_fen=found.list_fen,
            saving_fen=found.saving_fen,
            slot_ms=found.given.slot_ms,
            running_ms=found.given.running_ms,
            quantity=found.given.quantity,
            days={} if found.given.times is None else {day: kind.value for day, kind in found.given.times.days},
            uses=[ExplainedUseAnswer.model_validate(use) for use in found.uses],
            holes=[ExplainedHoleAnswer.model_validate(each) for each in found.holes],
            evidence=[EvidenceAnswer.model_validate(each) for each in found.evidence],
            anomalies=[AnomalyAnswer.of(*each) for each in found.anomalies],
            revisions=[RevisionAnswer.model_validate(each) for each in found.revisions],
            disputes=[DisputeAnswer.of(*each) for each in found.disputes],
            corrections=[CorrectionAnswer.of(*each) for each in found.corrections],
            second_sources=[ExplainedSecondSourceAnswer.model_validate(each) for each in found.second_sources],
        )
