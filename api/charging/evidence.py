"""What a charge rests on, frozen with it: the power samples of its sessions and the records that state them.

`gather` reads (series and ledger), everything else is pure and used by verification too. Canonical bytes:
samples are lines `at_ms,power_mw,state` (state as in store.series.STATE_CODES), ascending, one instant once;
records are lines of canonical JSON, ordered by agent, stream and number, each with the payload as it was sent.
Content is kept compressed (zlib); the hash is over the uncompressed bytes.
"""

import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import and_, bindparam, case, select
from sqlalchemy.orm import Session

from store.canonical import canonical_json, sha256_hex
from store.series import Sample, SeriesStore
from store.tables.calendar import BookingUse
from store.tables.charging import ChargeEvidence, EvidenceKind
from store.tables.registry import Metering
from store.tables.usage import UsageRecordRow, UsageSession
from wire.clock import to_ms
from wire.messages import RecordKind

LONG_SESSION_MS = 8 * 3_600_000
THIN_SLOT_MS = 10_000
_KEPT_RECORDS = (RecordKind.OPEN.value, RecordKind.CLOSE.value, RecordKind.GAP.value)

# Put together once: building a statement costs more than the database's answer to it.
_SPANS = (
    select(
        BookingUse.session_id,
        BookingUse.from_at,
        BookingUse.to_at,
        Metering.sample_period_ms,
        BookingUse.unknown_ms,
        BookingUse.matched_at,
    )
    .join(UsageSession, UsageSession.session_id == BookingUse.session_id)
    .join(
        Metering,
        and_(
            Metering.instrument_id == UsageSession.instrument_id,
            Metering.effective_at == UsageSession.metering_from,
        ),
    )
    .where(BookingUse.booking_id == bindparam("booking"))
)
# Open, close and gap records by their place in the stream: gaps need not name the session they lie in.
_RECORDS = (
    select(UsageRecordRow.agent_id, UsageRecordRow.stream, UsageRecordRow.seq, UsageRecordRow.payload)
    .join(
        UsageSession,
        and_(
            UsageRecordRow.agent_id == UsageSession.agent_id,
            UsageRecordRow.stream == UsageSession.stream,
            UsageRecordRow.instrument_id == UsageSession.instrument_id,
            UsageRecordRow.seq >= UsageSession.open_seq,
            UsageRecordRow.seq
            <= case(
                (UsageSession.close_seq > UsageSession.last_seq, UsageSession.close_seq), else_=UsageSession.last_seq
            ),
        ),
    )
    .where(UsageRecordRow.kind.in_(_KEPT_RECORDS), UsageSession.session_id == bindparam("session"))
)


@dataclass(frozen=True)
class UseSpan:
    """The part [from_ms, to_ms) of one session that belongs to a booking, how often its meter samples, and how much of
    the part nobody knows by the odometers."""

    session_id: str
    from_ms: int
    to_ms: int
    period_ms: int
    unknown_ms: int = 0


@dataclass(frozen=True)
class Frozen:
    """One kind of evidence. `content` is uncompressed."""

    kind: EvidenceKind
    item_count: int
    content: bytes

    @property
    def sha256(self) -> str:
        """Hash of the content."""
        return sha256_hex(self.content)


@dataclass(frozen=True)
class Evidence:
    """All evidence of one charge. `coverage_bp`: share of sampling periods that hold a sample, in 1/10000, down."""

    samples: Frozen
    records: Frozen
    coverage_bp: int

    @property
    def hashes(self) -> dict[str, str]:
        """Kind -> hash, as it goes into the charge's own hash."""
        return {frozen.kind.value: frozen.sha256 for frozen in (self.samples, self.records)}


@dataclass(frozen=True)
class CurveSummary:
    """A curve in few numbers; powers in milliwatt, None where there is no sample."""

    samples: int
    first_ms: int | None
    last_ms: int | None
    power_min_mw: int | None
    power_max_mw: int | None
    power_mean_mw: int | None


@dataclass(frozen=True)
class Sifted:
    """What is kept of a span's samples, and how many sampling periods there were and were witnessed."""

    kept: tuple[Sample, ...]
    expected: int
    present: int


def sift(samples: Iterable[Sample], span: UseSpan) -> Sifted:
    """Go once through the samples of a span, in time order. Periods are laid from the span's start.

    Up to 8 hours every sample is kept; beyond that the first one of each 10 s of UTC time, whatever the backend.
    """
    is_long = span.to_ms - span.from_ms > LONG_SESSION_MS
    kept: list[Sample] = []
    present = 0
    last_period = last_slot = -1
    for sample in samples:
        period, slot = (sample.at_ms - span.from_ms) // span.period_ms, sample.at_ms // THIN_SLOT_MS
        present += period != last_period
        if not is_long or slot != last_slot:
            kept.append(sample)
        last_period, last_slot = period, slot
    return Sifted(tuple(kept), -(-(span.to_ms - span.from_ms) // span.period_ms), present)


def sample_lines(samples: Iterable[Sample]) -> Frozen:
    """Return the canonical bytes of a curve, whatever the order it comes in."""
    by_instant = {sample.at_ms: sample for sample in samples}
    lines = [f"{at},{by_instant[at].power_mw},{by_instant[at].state}\n" for at in sorted(by_instant)]
    return Frozen(EvidenceKind.SAMPLES, len(lines), "".join(lines).encode())


def read_sample_lines(content: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield (at_ms, power_mw, state) from canonical bytes. Raises ValueError for anything else."""
    for line in content.decode().splitlines():
        at, power, state = line.split(",")
        yield int(at), int(power), int(state)


def record_lines(records: Iterable[tuple[str, str, int, bytes]]) -> Frozen:
    """Return the canonical bytes of records given as (agent, stream, seq, payload as sent)."""
    lines = [
        canonical_json({"agent": agent, "stream": stream, "seq": seq, "payload": payload.decode()}) + b"\n"
        for agent, stream, seq, payload in sorted(records)
    ]
    return Frozen(EvidenceKind.RECORDS, len(lines), b"".join(lines))


def read_record_lines(content: bytes) -> Iterator[tuple[str, str, int, bytes]]:
    """Yield (agent, stream, seq, payload as sent) from canonical bytes."""
    for line in content.splitlines():
        fields = json.loads(line)
        yield fields["agent"], fields["stream"], fields["seq"], fields["payload"].encode()


def summary(content: bytes) -> CurveSummary:
    """Return a frozen curve in few numbers. The mean is over samples, rounded down."""
    rows = list(read_sample_lines(content))
    if not rows:
        return CurveSummary(0, None, None, None, None, None)
    powers = [power for _, power, _ in rows]
    mean = sum(powers) // len(powers)
    return CurveSummary(len(rows), rows[0][0], rows[-1][0], min(powers), max(powers), mean)


def pack(charge_id: str, frozen: Frozen) -> ChargeEvidence:
    """Return the row that keeps one kind of evidence."""
    return ChargeEvidence(
        charge_id=charge_id,
        kind=frozen.kind.value,
        item_count=frozen.item_count,
        content_sha256=frozen.sha256,
        content=zlib.compress(frozen.content, level=6),
    )


def unpack(row: ChargeEvidence) -> bytes:
    """Return the uncompressed content. Raises ValueError where it is damaged or does not match its hash."""
    try:
        content = zlib.decompress(row.content)
    except zlib.error as error:
        raise ValueError(f"evidence {row.kind} of charge {row.charge_id} cannot be unpacked: {error}") from None
    if sha256_hex(content) != row.content_sha256:
        raise ValueError(f"evidence {row.kind} of charge {row.charge_id} does not match its hash")
    return content


def use_spans(session: Session, booking_id: str, until: datetime | None = None) -> list[UseSpan]:
    """Return the booking's parts of sessions in time order; with `until` those that were matched by then."""
    rows = session.execute(_SPANS, {"booking": booking_id}).all()
    rows = rows if until is None else [row for row in rows if row.matched_at <= until]
    spans = [UseSpan(row[0], to_ms(row[1]), to_ms(row[2]), row[3], row[4]) for row in rows]
    return sorted(spans, key=lambda span: (span.from_ms, span.session_id))


def gather(session: Session, series: SeriesStore, instrument_id: str, spans: Sequence[UseSpan]) -> Evidence:
    """Read samples and records of these parts of sessions. Raises SeriesUnavailable where the series is away."""
    kept: list[Sample] = []
    expected = present = 0
    for span in spans:
        sifted = sift(series.read(instrument_id, span.from_ms, span.to_ms), span)
        expected, present = expected + sifted.expected, present + sifted.present
        kept += sifted.kept
    coverage_bp = present * 10_000 // expected if expected else 0
    records = records_of(session, [span.session_id for span in spans])
    return Evidence(sample_lines(kept), record_lines(records), coverage_bp)


def records_of(session: Session, session_ids: Iterable[str]) -> list[tuple[str, str, int, bytes]]:
    """Return the open, close and gap records of sessions as (agent, stream, seq, payload as sent)."""
    # A booking has few sessions, mostly one.
    rows = [row for one in sorted(set(session_ids)) for row in session.execute(_RECORDS, {"session": one})]
    return list({(row[0], row[1], row[2]): (row[0], row[1], row[2], bytes(row[3])) for row in rows}.values())
