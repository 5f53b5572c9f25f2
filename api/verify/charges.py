"""Charges recomputed: priced again by the stored tariff and calculation, evidence unpacked, hashes made again."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import bindparam, func, select
from sqlalchemy.orm import Session, defer

from api.charging.bridged import Line, bridge
from api.charging.corrections_rules import apply_waivers, corrected_ms, decided_sessions, waived_lines
from api.charging.documents import charge_hash, rated_lines, read_bridged, read_input
from api.charging.evidence import read_record_lines, unpack, use_spans
from api.charging.rating import RatingInput, UnknownCalcVersion, rate
from api.charging.tariff_body import BadTariff, TariffBody, read_body
from api.charging.use import charged_by_presence
from api.verify.finding import Check, Finding
from store.canonical import sha256_hex
from store.tables.calendar import Booking, BookingUse
from store.tables.charging import Charge, ChargeEvidence, ChargeLine, ChargePurpose, EvidenceKind, TariffVersion
from store.tables.registry import Instrument
from store.tables.usage import UsageRecordRow
from store.types import UtcDateTime

ROWS_AT_ONCE = 200

# Put together once: every charge asks them.
_USED_UNTIL = select(func.coalesce(func.sum(BookingUse.running_ms), 0)).where(
    BookingUse.booking_id == bindparam("booking"), BookingUse.matched_at <= bindparam("until", type_=UtcDateTime)
)
_PAYLOAD = select(UsageRecordRow.payload).where(
    UsageRecordRow.agent_id == bindparam("agent"),
    UsageRecordRow.stream == bindparam("stream"),
    UsageRecordRow.seq == bindparam("seq"),
)


@dataclass(frozen=True)
class Whole:
    """A charge with everything that belongs to it."""

    charge: Charge
    lines: list[ChargeLine]
    evidence: list[ChargeEvidence]


def over_charges(month: int | None, judge: Callable[[Session, Whole], str | tuple[str, str, str] | None]) -> Check:
    """Return the check that asks `judge` about every charge posted into a month (all, where `month` is None).

    `judge` answers what is wrong with the charge, or (table, key, what) where another row is to blame.
    """

    def check(session: Session) -> Iterator[Finding]:
        for whole in _charges(session, month, with_curves=judge is evidence):
            wrong = judge(session, whole)
            if wrong is not None:
                yield Finding(*(("charge", whole.charge.charge_id, wrong) if isinstance(wrong, str) else wrong))

    return check


def tariffs(session: Session) -> Iterator[Finding]:
    """Every tariff version is the document that its hash names."""
    rows = session.execute(select(TariffVersion).order_by(TariffVersion.tariff_id, TariffVersion.version))
    for row in rows.scalars():
        if sha256_hex(row.body.encode()) != row.body_sha256:
            yield Finding("tariff_version", f"{row.tariff_id}/{row.version}", "its text does not have the stored hash")


def price(session: Session, whole: Whole) -> str | tuple[str, str, str] | None:
    """Rating the stored input with the stored tariff and calculation gives the same lines and totals."""
    charge = whole.charge
    if sha256_hex(charge.input.encode()) != charge.input_sha256:
        return "its input does not have the stored hash"
    if charge.revision % 2 == 0:
        return None
    is_use = charge.purpose == ChargePurpose.USE.value
    try:
        given = read_input(charge.input, _tariff(session, charge))
        waived = waived_lines(session, charge.booking_id, charge.revision) if is_use else frozenset()
        rated = apply_waivers(rate(given, charge.calc_version), waived, given.tariff.vat_rate_bp)
    except (ValueError, KeyError, BadTariff, UnknownCalcVersion) as error:
        return f"it cannot be priced again: {error}"
    for stored, wanted in zip(sorted(whole.lines, key=lambda line: line.line_no), rated.lines, strict=False):
        if rated_lines([stored])[0] != wanted:
            key = f"{charge.charge_id}/{stored.line_no}"
            return ("charge_line", key, f"{stored.amount_fen} fen stored, priced again {wanted.amount_fen} fen")
    if len(whole.lines) != len(rated.lines):
        return f"{len(whole.lines)} lines, priced again {len(rated.lines)}"
    if (charge.total_fen, charge.net_fen) != (rated.total_fen, rated.net_fen):
        return f"total {charge.total_fen} net {charge.net_fen}, priced again {rated.total_fen} and {rated.net_fen}"
    if charge.category != given.category.value:
        return f"category {charge.category}, the input says {given.category.value}"
    return _metered_differs(session, charge, given) if is_use else None


def evidence(session: Session, whole: Whole) -> str | tuple[str, str, str] | None:
    """The frozen samples and records are what their hashes name, the records are those of the ledger, and the holes
    that count as use are those that the rule of the charge's calculation bridges."""
    kinds = {row.kind for row in whole.evidence}
    wanted = {kind.value for kind in EvidenceKind} if whole.charge.revision % 2 else set()
    if whole.charge.purpose == ChargePurpose.USE.value and kinds != wanted:
        return f"evidence {sorted(kinds)} instead of {sorted(wanted)}"
    for row in whole.evidence:
        key = f"{row.charge_id}/{row.kind}"
        try:
            content = unpack(row)
        except ValueError as error:
            return ("charge_evidence", key, str(error))
        if len(content.splitlines()) != row.item_count:
            return ("charge_evidence", key, f"{row.item_count} items stated, {len(content.splitlines())} there")
        if row.kind == EvidenceKind.RECORDS.value:
            records = list(read_record_lines(content))
            for agent, stream, seq, payload in records:
                if _payload(session, agent, stream, seq) != payload:
                    return ("usage_record", f"{agent}/{stream}/{seq}", f"it is not what charge {row.charge_id} froze")
            wrong = _bridged_differs(session, whole.charge, records)
            if wrong is not None:
                return wrong
    return None


def _bridged_differs(session: Session, charge: Charge, records: Sequence[Line]) -> str | None:
    stated = read_bridged(json.loads(charge.input))
    if not stated and not any(b"gap" in payload for *_, payload in records):
        return None  # most charges: nothing has to be asked
    if charge.purpose != ChargePurpose.USE.value:
        return "it bridges holes of what nothing meters" if stated else None
    spans = use_spans(session, charge.booking_id, charge.recorded_at)
    decided = decided_sessions(session, charge.booking_id, charge.revision)
    wanted = bridge(spans, records, charge.calc_version, decided).bridged
    if stated != wanted and (stated or not _by_presence(session, charge)):
        told, should = (sum(hole.ms for hole in holes) for holes in (stated, wanted))
        return f"{told} ms of holes were bridged, its records allow {should} ms, or others"
    return None


def row_hash(session: Session, whole: Whole) -> str | None:
    """The charge's own hash, over header, lines and evidence, is the stored one."""
    hashes = {row.kind: row.content_sha256 for row in whole.evidence}
    if charge_hash(whole.charge, whole.lines, hashes) != whole.charge.row_hash:
        return "header, lines and evidence do not have the stored hash"
    return None


def totals(session: Session, whole: Whole) -> str | None:
    """Lines add up to the header, and there are as many as it says."""
    charge = whole.charge
    found = sum(line.amount_fen for line in whole.lines)
    if found != charge.total_fen:
        return f"its lines add up to {found} fen, the header says {charge.total_fen}"
    if len(whole.lines) != charge.line_count:
        return f"{len(whole.lines)} lines, the header says {charge.line_count}"
    return None


def reversal(session: Session, whole: Whole) -> str | None:
    """An even revision takes the one before back, line for line, and keeps payer, host and service month."""
    charge = whole.charge
    if charge.revision % 2:
        return None
    original = session.execute(
        select(Charge).where(
            Charge.booking_id == charge.booking_id,
            Charge.purpose == charge.purpose,
            Charge.revision == charge.revision - 1,
        )
    ).scalar_one_or_none()
    if original is None:
        return "there is nothing that it reverses"
    for name in ("payer_org", "host_id", "instrument_id", "service_month", "service_at"):
        if getattr(charge, name) != getattr(original, name):
            return f"{name} is {getattr(charge, name)}, of the reversed charge {getattr(original, name)}"
    if charge.net_fen != -original.net_fen:
        return f"net {charge.net_fen} does not take back {original.net_fen}"
    lines = session.execute(select(ChargeLine).where(ChargeLine.charge_id == original.charge_id)).scalars()
    opposite = {(line.component, line.item_code): -line.amount_fen for line in lines}
    if {(line.component, line.item_code): line.amount_fen for line in whole.lines} != opposite:
        return f"its lines are not those of {original.charge_id} with opposite signs"
    return None


def _charges(session: Session, month: int | None, *, with_curves: bool) -> Iterator[Whole]:
    """Every charge with its rows, some at a time."""
    after = ""
    while True:
        query = select(Charge).where(Charge.charge_id > after).order_by(Charge.charge_id).limit(ROWS_AT_ONCE)
        if month is not None:
            query = query.where(Charge.posting_month == month)
        charges = session.execute(query).scalars().all()
        if not charges:
            return
        ids = [charge.charge_id for charge in charges]
        lines, packed = defaultdict(list), defaultdict(list)
        for line in session.execute(select(ChargeLine).where(ChargeLine.charge_id.in_(ids))).scalars():
            lines[line.charge_id].append(line)
        # The curves are read by the one check that unpacks them; the others need no more than their hashes.
        rests_on = select(ChargeEvidence).where(ChargeEvidence.charge_id.in_(ids))
        rests_on = rests_on if with_curves else rests_on.options(defer(ChargeEvidence.content))
        for row in session.execute(rests_on).scalars():
            packed[row.charge_id].append(row)
        for charge in charges:
            yield Whole(charge, lines[charge.charge_id], packed[charge.charge_id])
        after = ids[-1]
        session.expunge_all()


def _tariff(session: Session, charge: Charge) -> TariffBody:
    version = session.get_one(TariffVersion, (charge.tariff_id, charge.tariff_version))
    return read_body(version.body)


def _metered_differs(session: Session, charge: Charge, given: RatingInput) -> str | None:
    if charge.metered_ms != given.running_ms:
        return f"metered {charge.metered_ms} ms, the input says {given.running_ms}"
    asked = {"booking": charge.booking_id, "until": charge.recorded_at}
    used = int(session.execute(_USED_UNTIL, asked).scalar_one())
    used += corrected_ms(session, charge.booking_id, charge.revision) + sum(hole.ms for hole in given.bridged)
    if used == charge.metered_ms or _by_presence(session, charge):
        return None
    return f"metered {charge.metered_ms} ms, its sessions come to {used}"


def _by_presence(session: Session, charge: Charge) -> bool:
    """Nothing metered it: check-in and check-out are events of the booking."""
    booking = session.get_one(Booking, charge.booking_id)
    return charged_by_presence(session, charge, booking, session.get_one(Instrument, charge.instrument_id))


def _payload(session: Session, agent: str, stream: str, seq: int) -> bytes | None:
    return session.execute(_PAYLOAD, {"agent": agent, "stream": stream, "seq": seq}).scalar_one_or_none()
