"""What stands in a bundle, member by member, streamed from the ledger. Reads only.

Everything is as it was known at the run's watermark, and sorted by code point, so that a run gives the same bytes for
ever. Tables are tab-separated lines under a header; what is hashed (policy, inputs, result) is there byte for byte.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, NamedTuple

from sqlalchemy import and_, func, select
from sqlalchemy.orm import Session

from api.rewards.computing import input_lines, result_document, run_head, stored_result
from api.rewards.facts import Asked, charge_facts
from api.rewards.instrument_cap import is_cut_of
from api.rewards.policies import PolicyInForce
from api.rewards.policy_body import PolicyBody
from api.rewards.repository import RunLine, stored_results
from api.rewards.rules import ChargeFacts, Classified, engine
from api.verify.run_inputs import COMMITTED_LATE
from store.database import by_code_point
from store.periods import PeriodKind, format_period, months_of_period
from store.tables.audit import AuditEvent
from store.tables.charging import Charge
from store.tables.registry import AffiliationEvent, Host
from store.tables.rewards import (
    Assessment,
    RewardInput,
    RewardMark,
    RewardMarkDecision,
    RewardPolicyVersion,
    RewardResult,
    RewardRun,
    RunState,
)
from store.tables.usage import UsageEntry
from wire.clock import to_ms

SCHEMA = "openlab.reward-bundle/1"
PREPARED = "reward_run.prepared"
_AT_ONCE = 5_000
FACTS = (
    "charge_id", "host_id", "payer_org", "service_at_ms", "purpose", "revision", "reversed", "internal", "has_session",
    "coverage_bp", "certificate_valid", "session_cleared", "coverage_cleared", "certificate_cleared",
    "anomaly_confirmed", "anomaly_open", "invoiced", "total_fen", "net_fen", "cash_fen", "voucher_fen", "waived_fen",
)  # fmt: skip
MARKS = "marks.json"
AFFILIATIONS = ("host_id", "other_org", "effective_at_ms", "state", "evidence", "recorded_by", "recorded_at_ms")


def run_member(run: RewardRun) -> dict[str, Any]:
    """Return what names the run."""
    return {
        "schema": SCHEMA,
        "run_id": run.run_id,
        "period": format_period(PeriodKind(run.period_kind), run.period_first),
        "prepared_by": run.prepared_by,
        "result_sha256": run.result_sha256,
    }


def inputs_member(session: Session, run: RewardRun) -> Iterator[bytes]:
    """Yield the lines that were hashed."""
    for rows in _batched_inputs(session, run):
        yield input_lines([Classified._make(row[:5]) for row in rows])


def facts_member(session: Session, run: RewardRun, policy: PolicyInForce) -> Iterator[bytes]:
    """Yield the facts of every charge of the run under a header, in the order of its inputs.

    Of a charge whose facts were committed only just after the run had looked, the facts of a little earlier.
    """
    columns = facts_columns(policy.body)
    yield table_line(columns)
    known, earlier = _facts(session, run, policy, timedelta()), _facts(session, run, policy, COMMITTED_LATE)
    judge = engine(run.engine_version).judge
    for rows in _batched_inputs(session, run):
        for *given, payer_org, service_at, booking_id, instrument_id in rows:
            wanted = Classified._make(given)
            facts = known.get(wanted.charge_id)
            if facts is None or not is_cut_of(wanted, judge(facts, policy.body), policy.body):
                facts = earlier.get(wanted.charge_id) or facts
            if facts is not None:  # a charge that nobody knows has no facts; the checker names it
                charge = ChargeNames(payer_org, to_ms(service_at), booking_id, instrument_id)
                yield facts_line(facts, charge, columns)


class ChargeNames(NamedTuple):
    """What of a charge is no fact that is judged, but leads to one, or to a cap."""

    payer_org: str
    service_at_ms: int
    booking_id: str
    instrument_id: str


def facts_columns(policy: PolicyBody) -> tuple[str, ...]:
    """Return what is said of each charge: more only where the policy looks at more."""
    return (
        *FACTS,
        *(("payer_region",) if policy.looks_at_area else ()),
        *(("booking_id",) if policy.looks_at_marks else ()),
        *(("instrument_id",) if policy.instrument_fee_cap_fen is not None else ()),
    )


def facts_line(facts: ChargeFacts, charge: ChargeNames, columns: Sequence[str] = FACTS) -> bytes:
    """Return what is said of one charge. Neither whether its payer was affiliated nor how its booking is marked: that
    follows from the dated facts."""
    said = facts._asdict() | charge._asdict()
    return table_line([str(int(said[name])) if isinstance(said[name], bool) else str(said[name]) for name in columns])


def marks_member(session: Session, run: RewardRun) -> list[dict[str, Any]]:
    """Return what was recorded and approved of the bookings in a run by its watermark, withdrawals too."""
    mark, decision = RewardMark, RewardMarkDecision
    of_run = (
        select(Charge.booking_id)
        .join(RewardInput, RewardInput.charge_id == Charge.charge_id)
        .where(RewardInput.run_id == run.run_id)
    )
    rows = session.execute(
        select(mark, decision)
        .join(decision, decision.mark_id == mark.mark_id)
        .where(decision.approved, decision.decided_at <= run.watermark, mark.booking_id.in_(of_run))
        .order_by(by_code_point(session, mark.mark_id.expression))
    )
    names = ("mark_id", "booking_id", "code", "withdraws", "evidence", "evidence_sha256", "prepared_by")
    return [
        {name: getattr(row, name) for name in names}
        | {"decided_by": by.decided_by, "decided_at_ms": to_ms(by.decided_at)}
        for row, by in rows
    ]


def affiliations_member(session: Session, run: RewardRun) -> Iterator[bytes]:
    """Yield the dated facts about parties, as known at the watermark."""
    yield table_line(AFFILIATIONS)
    event = AffiliationEvent
    rows = session.execute(
        select(Host.host_id, event.other_org, event.effective_at, event.state, event.evidence, event.recorded_by,
               event.recorded_at)
        .join(Host, Host.org_id == event.host_org)
        .where(event.recorded_at <= run.watermark)
        .order_by(
            by_code_point(session, Host.host_id.expression),
            by_code_point(session, event.other_org.expression),
            event.effective_at,
        )
    )  # fmt: skip
    for host_id, other, effective_at, state, evidence, who, recorded_at in rows:
        # Free text: in the form of a JSON text it has neither tabs nor line breaks.
        said = json.dumps(evidence, ensure_ascii=False)
        yield table_line([host_id, other, str(to_ms(effective_at)), state, said, who, str(to_ms(recorded_at))])


def assessments_member(session: Session, run: RewardRun) -> list[dict[str, Any]]:
    """Return the grades of the year, every version of them."""
    rows = session.scalars(
        select(Assessment)
        .where(Assessment.year == run.period_first // 100, Assessment.recorded_at <= run.watermark)
        .order_by(by_code_point(session, Assessment.host_id.expression), Assessment.version)
    )
    names = ("host_id", "year", "version", "grade", "evidence", "prepared_by", "approved_by")
    return [{name: getattr(row, name) for name in names} | {"recorded_at_ms": to_ms(row.recorded_at)} for row in rows]


def history_member(session: Session, run: RewardRun) -> list[dict[str, Any]]:
    """Return the results of every run that was locked before this one was prepared: what was granted, what is owed.

    Of one locked in this run's own millisecond only the earlier numbers of the same period count as before.
    """
    line = RunLine.of(run)
    before = (RewardRun.closed_at < run.watermark) | and_(line.matches(), RewardRun.run_no < run.run_no)
    rows = session.execute(
        select(RewardRun, RewardResult)
        .join(RewardResult, RewardResult.run_id == RewardRun.run_id)
        .where(RewardRun.state == RunState.LOCKED.value, RewardRun.run_id != run.run_id, before)
        .order_by(RewardRun.run_id, by_code_point(session, RewardResult.host_id.expression))
    )
    of_run = ("run_id", "policy_id", "period_kind", "period_first", "run_no", "result_sha256")
    of_host = ("host_id", "reward_fen", "granted_before_fen", "carried_in_fen", "carried_out_fen", "explanation")
    return [
        {name: getattr(other, name) for name in of_run}
        | {name: getattr(row, name) for name in of_host}
        | {"watermark_ms": to_ms(other.watermark)}
        for other, row in rows
    ]


def chains_member(session: Session, run: RewardRun) -> dict[str, Any]:
    """Return the audit event in which the run was prepared, and where every chain stood a little before it."""
    event = session.scalars(
        select(AuditEvent).where(AuditEvent.subject == f"reward_run:{run.run_id}", AuditEvent.action == PREPARED)
    ).one()
    sure = run.watermark - COMMITTED_LATE
    audit_last = select(AuditEvent.chain_id, func.max(AuditEvent.seq).label("seq")).where(AuditEvent.at <= sure)
    last = audit_last.group_by(AuditEvent.chain_id).subquery()
    audit = session.execute(
        select(AuditEvent.chain_id, AuditEvent.seq, AuditEvent.row_hash)
        .join(last, and_(last.c.chain_id == AuditEvent.chain_id, last.c.seq == AuditEvent.seq))
        .order_by(by_code_point(session, AuditEvent.chain_id.expression))
    )
    entry = UsageEntry
    newest = (
        select(entry.agent_id, entry.stream, func.max(entry.chain_seq).label("seq"))
        .where(entry.recorded_at <= sure)
        .group_by(entry.agent_id, entry.stream)
        .subquery()
    )
    usage = session.execute(
        select(entry.agent_id, entry.stream, entry.chain_seq, entry.row_hash)
        .join(
            newest,
            and_(newest.c.agent_id == entry.agent_id, newest.c.stream == entry.stream, newest.c.seq == entry.chain_seq),
        )
        .order_by(by_code_point(session, entry.agent_id.expression), by_code_point(session, entry.stream.expression))
    )
    return {
        "prepared": {
            "chain": event.chain_id,
            "seq": event.seq,
            "prev_hash": event.prev_hash,
            "body": event.body.decode(),
            "hash": event.row_hash,
        },
        "as_of_ms": to_ms(sure),
        "audit": [{"chain": chain, "seq": seq, "hash": row_hash} for chain, seq, row_hash in audit],
        "usage": [
            {"agent": agent, "stream": stream, "seq": seq, "hash": row_hash} for agent, stream, seq, row_hash in usage
        ],
    }


def policy_member(session: Session, run: RewardRun) -> bytes:
    """Return the policy as it was published, byte for byte."""
    return session.get_one(RewardPolicyVersion, (run.policy_id, run.policy_version)).body.encode()


def result_member(session: Session, run: RewardRun, policy: PolicyInForce) -> bytes:
    """Return the document that was hashed."""
    results = [stored_result(row) for row in stored_results(session, run.run_id)]
    return result_document(run_head(run, policy.body_sha256), results)


def _batched_inputs(session: Session, run: RewardRun) -> Iterator[Sequence[Any]]:
    statement = (
        select(
            RewardInput.charge_id,
            RewardInput.host_id,
            RewardInput.amount_fen,
            RewardInput.eligible_fen,
            RewardInput.reason,
            Charge.payer_org,
            Charge.service_at,
            Charge.booking_id,
            Charge.instrument_id,
        )
        .join(Charge, Charge.charge_id == RewardInput.charge_id)
        .where(RewardInput.run_id == run.run_id)
        .order_by(by_code_point(session, RewardInput.charge_id.expression))
    )
    yield from session.connection().execute(statement, execution_options={"yield_per": _AT_ONCE}).partitions()


class _Ordered:
    """A stream of facts, asked for charges in rising order; it is not begun before somebody asks."""

    def __init__(self, facts: Iterable[ChargeFacts]) -> None:
        self._facts = iter(facts)
        self._at: ChargeFacts | None = None

    def get(self, charge_id: str) -> ChargeFacts | None:
        """Return the facts of a charge, None where there are none."""
        while self._at is None or self._at.charge_id < charge_id:
            self._at = next(self._facts, None)
            if self._at is None:
                return None
        return self._at if self._at.charge_id == charge_id else None


def _facts(session: Session, run: RewardRun, policy: PolicyInForce, earlier: timedelta) -> _Ordered:
    months = months_of_period(PeriodKind(run.period_kind), run.period_first)
    asked = replace(Asked.by(policy.body), invoices=True)
    return _Ordered(charge_facts(session, months, policy.body.attribution, run.watermark - earlier, asked))


def table_line(cells: Sequence[str]) -> bytes:
    """Return a row of a table. Raises ValueError for a text that would break it."""
    text = "\t".join(cells) + "\n"
    if text.count("\t") != len(cells) - 1 or text.count("\n") != 1:
        raise ValueError(f"{cells} cannot be written as one line")
    return text.encode()
