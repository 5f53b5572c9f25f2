"""Follow a charge back: lines -> price list and rule -> uses -> sessions -> records -> frozen evidence. Reads only.

What the county shows a firm that asks "why this amount", and what the pages draw. Everything here is stored with the
charge or is an append-only fact; nothing is computed again (that is what verification does).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.booking.sources import SECOND_SOURCE
from api.charging.access import may_see
from api.charging.anomalies import anomalies_of
from api.charging.bridged import LeftHole, bridge
from api.charging.corrections_rules import WAIVER_RULE, decided_sessions
from api.charging.disputes import corrections_of, disputes_of
from api.charging.documents import rated_lines, read_input
from api.charging.evidence import CurveSummary, read_record_lines, summary, unpack, use_spans
from api.charging.rating import RatedLine, RatingInput, rate
from api.charging.rating_types import Bridged
from api.charging.sentences import Sentence, explain_line
from api.charging.sentences_holes import explain_hole
from api.charging.tariffs import TariffInForce, pinned_tariff
from api.errors import not_found
from api.work import Work
from store.money import yuan
from store.tables.audit import Anomaly, AnomalyDecision
from store.tables.calendar import BookingUse
from store.tables.charging import Charge, ChargeEvidence, ChargeLine, ChargePurpose, EvidenceKind
from store.tables.disputes import Correction, CorrectionDecision, Dispute, DisputeEnd
from store.tables.usage import UsageRecordRow, UsageSession
from wire.clock import from_ms


@dataclass(frozen=True)
class ExplainedUse:
    """The part of one session that was billed, and how many of its records are kept."""

    session_id: str
    from_at: datetime
    to_at: datetime
    running_ms: int
    unknown_ms: int
    agent_id: str
    stream: str
    open_seq: int
    close_seq: int | None
    records: int


@dataclass(frozen=True)
class ExplainedHole:
    """A hole in the use, with its record. `billed_ms` counts as use by rule; where that is 0, `why_not` says why."""

    session_id: str
    record: str
    from_at: datetime
    to_at: datetime
    billed_ms: int
    why_not: str
    zh: str
    en: str


@dataclass(frozen=True)
class ExplainedSecondSource:
    """The part of a session in the time of the use that another source told as well. `verdict`: what an officer
    decided, "" while nobody has; it is billed where that is `cleared` and not otherwise."""

    session_id: str
    agent_id: str
    from_at: datetime
    to_at: datetime
    verdict: str
    detail: str


@dataclass(frozen=True)
class ExplainedEvidence:
    """One kind of frozen evidence. `curve` is there for samples."""

    kind: str
    item_count: int
    content_sha256: str
    size_bytes: int
    curve: CurveSummary | None


@dataclass(frozen=True)
class Explanation:
    """The whole way from an amount to the measurement."""

    charge: Charge
    lines: tuple[tuple[RatedLine, Sentence], ...]
    tariff: TariffInForce
    given: RatingInput
    list_fen: int
    saving_fen: int
    uses: tuple[ExplainedUse, ...]
    holes: tuple[ExplainedHole, ...]
    evidence: tuple[ExplainedEvidence, ...]
    anomalies: tuple[tuple[Anomaly, AnomalyDecision | None], ...]
    revisions: tuple[Charge, ...] = ()
    disputes: tuple[tuple[Dispute, DisputeEnd | None], ...] = ()
    corrections: tuple[tuple[Correction, CorrectionDecision | None], ...] = ()
    second_sources: tuple[ExplainedSecondSource, ...] = ()


def find_charge(work: Work, charge_id: str) -> Charge:
    """Return a charge that the actor may see. Refused 404 otherwise, whether or not it exists."""
    charge = work.session.get(Charge, charge_id)
    if charge is None or not may_see(work.actor, charge.host_id, charge.payer_org):
        raise not_found("收费", "charge", charge_id)
    return charge


def explain_charge(work: Work, charge_id: str) -> Explanation:
    """Return the explanation of a charge that the actor may see. Refused 404.

    Raises ValueError where stored evidence does not match its hash.
    """
    charge = find_charge(work, charge_id)
    tariff = pinned_tariff(work.session, charge.tariff_id, charge.tariff_version)
    given = read_input(charge.input, tariff.body)
    lines = rated_lines(charge_lines(work.session, charge_id))
    revisions = revisions_of(work.session, charge)
    uses = tuple(_uses(work.session, charge.booking_id))
    return Explanation(
        charge,
        tuple((line, _sentence(line, given)) for line in lines),
        tariff,
        given,
        *_list_and_saving(charge, given),
        uses,
        _holes(work.session, charge, given),
        tuple(_evidence(work.session, charge_id)),
        tuple(anomalies_of(work.session, "charge", charge_id)),
        revisions,
        tuple(pair for one in revisions for pair in disputes_of(work.session, one.charge_id)),
        tuple(pair for one in revisions for pair in corrections_of(work.session, one.charge_id)),
        _second_sources(work.session, charge, uses),
    )


def _list_and_saving(charge: Charge, given: RatingInput) -> tuple[int, int]:
    """The list price of a charge and what the payer saves against it; a reversal has both with opposite signs."""
    list_fen = rate(given, charge.calc_version).list_fen
    saving_fen = max(0, list_fen - abs(charge.total_fen)) if list_fen else 0
    sign = 1 if charge.revision % 2 else -1
    return sign * list_fen, sign * saving_fen


def revisions_of(session: Session, charge: Charge) -> tuple[Charge, ...]:
    """Return every version of a charge, its reversals among them, in the order they were posted."""
    query = select(Charge).where(Charge.booking_id == charge.booking_id, Charge.purpose == charge.purpose)
    return tuple(session.execute(query.order_by(Charge.revision)).scalars())


def charge_lines(session: Session, charge_id: str) -> Sequence[ChargeLine]:
    """Return the lines of a charge in their order."""
    return (
        session.execute(select(ChargeLine).where(ChargeLine.charge_id == charge_id).order_by(ChargeLine.line_no))
        .scalars()
        .all()
    )


def _sentence(line: RatedLine, given: RatingInput) -> Sentence:
    if line.rule != WAIVER_RULE:
        return explain_line(line, given)
    amount = yuan(line.amount_fen)
    return Sentence(f"经审批免收:{amount} 元", f"not charged, as two people decided: {amount}")


def _uses(session: Session, booking_id: str) -> list[ExplainedUse]:
    records = (
        select(func.count())
        .select_from(UsageRecordRow)
        .where(
            UsageRecordRow.agent_id == UsageSession.agent_id,
            UsageRecordRow.stream == UsageSession.stream,
            UsageRecordRow.instrument_id == UsageSession.instrument_id,
            UsageRecordRow.seq >= UsageSession.open_seq,
            UsageRecordRow.seq <= func.coalesce(UsageSession.close_seq, UsageSession.last_seq),
        )
        .scalar_subquery()
    )
    rows = session.execute(
        select(
            BookingUse.session_id,
            BookingUse.from_at,
            BookingUse.to_at,
            BookingUse.running_ms,
            BookingUse.unknown_ms,
            UsageSession.agent_id,
            UsageSession.stream,
            UsageSession.open_seq,
            UsageSession.close_seq,
            records,
        )
        .join(UsageSession, UsageSession.session_id == BookingUse.session_id)
        .where(BookingUse.booking_id == booking_id)
    )
    return sorted((ExplainedUse(*row) for row in rows), key=lambda use: (use.from_at, use.session_id))


def _second_sources(
    session: Session, charge: Charge, uses: Sequence[ExplainedUse]
) -> tuple[ExplainedSecondSource, ...]:
    """Sessions that were held back, as far as they lie in the time of the use: nobody else's use is told."""
    if not uses:
        return ()
    since, until = uses[0].from_at, max(use.to_at for use in uses)
    rows = session.execute(
        select(UsageSession, Anomaly.detail, AnomalyDecision.verdict)
        .join(Anomaly, Anomaly.subject_id == UsageSession.session_id)
        .outerjoin(AnomalyDecision, AnomalyDecision.anomaly_id == Anomaly.anomaly_id)
        .where(
            Anomaly.rule == SECOND_SOURCE,
            Anomaly.subject_kind == "session",
            UsageSession.instrument_id == charge.instrument_id,
            UsageSession.started_at < until,
            UsageSession.last_at > since,
        )
        .order_by(UsageSession.started_at, UsageSession.session_id)
    )
    return tuple(
        ExplainedSecondSource(
            row.session_id, row.agent_id, max(since, row.started_at), min(until, row.last_at), verdict or "", detail
        )
        for row, detail, verdict in rows
    )


def _holes(session: Session, charge: Charge, given: RatingInput) -> tuple[ExplainedHole, ...]:
    """The holes as the charge has them, and those that it left out, by the records that were frozen with it."""
    found = [_hole(hole, hole.ms, "") for hole in given.bridged]
    frozen = session.get(ChargeEvidence, (charge.charge_id, EvidenceKind.RECORDS.value))
    if frozen is not None and charge.purpose == ChargePurpose.USE.value:
        spans = use_spans(session, charge.booking_id, charge.recorded_at)
        decided = decided_sessions(session, charge.booking_id, charge.revision)
        left = bridge(spans, read_record_lines(unpack(frozen)), charge.calc_version, decided).left
        found += [_hole(hole, 0, hole.why_not) for hole in left]
    return tuple(sorted(found, key=lambda hole: (hole.from_at, hole.record)))


def _hole(hole: Bridged | LeftHole, billed_ms: int, why_not: str) -> ExplainedHole:
    said = explain_hole((billed_ms or hole.to_ms - hole.from_ms) // 1000, why_not)
    where = (hole.session_id, hole.record, from_ms(hole.from_ms), from_ms(hole.to_ms))
    return ExplainedHole(*where, billed_ms, why_not, said.zh, said.en)


def _evidence(session: Session, charge_id: str) -> list[ExplainedEvidence]:
    rows = session.execute(
        select(ChargeEvidence).where(ChargeEvidence.charge_id == charge_id).order_by(ChargeEvidence.kind)
    ).scalars()
    found = []
    for row in rows:
        content = unpack(row)
        curve = summary(content) if row.kind == EvidenceKind.SAMPLES.value else None
        found.append(ExplainedEvidence(row.kind, row.item_count, row.content_sha256, len(content), curve))
    return found
