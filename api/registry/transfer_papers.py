"""Certificates and special days as rows of the CSV import and export: what they are called, what they have to agree
with, how they are kept. Used by transfer.py, which reads all tables alike; kept by the functions of papers.py.

A certificate has no id of its own in the files: it is the one of that instrument with that number from that instant.
It is added and never edited. A special day is one day of the county (no host) or of one host, and is replaced.
"""

from collections.abc import Iterator
from datetime import date

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.charging.access import is_system
from api.registry import papers
from api.registry.records import CertificateRecord, HostRecord, InstrumentRecord, PaperRecord, SpecialDayRecord
from api.registry.rules import REGISTRARS, Fault, Known, host_id_of
from api.schemas import rfc3339
from api.work import Actor, Work
from store.tables.registry import Certificate, SpecialDay, TraceabilityKind

__all__ = ["COLUMN", "faults", "key_of", "standing", "withdrawn", "write"]

COLUMN: dict[type[PaperRecord], str] = {CertificateRecord: "number", SpecialDayRecord: "day"}
"""Under which column a row that stands twice is reported."""


def key_of(record: PaperRecord) -> str:
    """Return what two rows about the same thing have in common."""
    if isinstance(record, CertificateRecord):
        return f"{record.instrument_id} {record.number} {rfc3339(record.valid_from)}"
    return f"{record.host_id or papers.COUNTY}-{record.day.isoformat()}"


def standing(session: Session, kind: type[PaperRecord]) -> dict[str, PaperRecord]:
    """Return what is recorded and counts, by its key, in the order of the keys."""
    if kind is CertificateRecord:
        rows = session.scalars(select(Certificate).where(Certificate.withdrawn_at.is_(None)))
        found: list[PaperRecord] = [_certificate(row) for row in rows]
    else:
        found = [_special_day(row) for row in session.scalars(select(SpecialDay))]
    return {key_of(record): record for record in sorted(found, key=key_of)}


def withdrawn(session: Session) -> frozenset[str]:
    """Return the keys of the certificates that were withdrawn."""
    rows = session.scalars(select(Certificate).where(Certificate.withdrawn_at.is_not(None)))
    return frozenset(key_of(_certificate(row)) for row in rows)


def faults(
    record: PaperRecord, before: PaperRecord | None, gone: frozenset[str], known: Known, actor: Actor
) -> Iterator[Fault]:
    """Yield everything that keeps this actor from keeping this row, which differs from `before`."""
    if isinstance(record, CertificateRecord):
        yield from _of_certificate(record, before, gone, known, actor)
    elif record.host_id and not isinstance(known.found(HostRecord, record.host_id), HostRecord):
        yield _unknown("host_id", "依托单位", "host", record.host_id)
    elif not _may(actor, record.host_id or None):
        yield _not_theirs("host_id", "休息日", "days off")


def write(work: Work, record: PaperRecord) -> None:
    """Keep a row that was judged."""
    if isinstance(record, CertificateRecord):
        papers.record_certificate(work, **{name: getattr(record, name) for name in CertificateRecord.model_fields})
        return
    papers.put_special_day(
        work,
        host_id=record.host_id or None,
        day=record.day,
        like_weekday=record.like_weekday,
        name_zh=record.name_zh,
        name_en=record.name_en,
    )


def _of_certificate(
    record: CertificateRecord, before: PaperRecord | None, gone: frozenset[str], known: Known, actor: Actor
) -> Iterator[Fault]:
    instrument = known.found(InstrumentRecord, record.instrument_id)
    if not isinstance(instrument, InstrumentRecord):
        yield _unknown("instrument_id", "仪器", "instrument", record.instrument_id)
    elif not _may(actor, host_id_of(instrument, known)):
        yield _not_theirs("instrument_id", "证书", "certificates")
    if record.valid_to <= record.valid_from:
        yield Fault(
            "valid_to",
            422,
            "validity_reversed",
            "证书的有效期止须晚于有效期起;请更正。",
            "The certificate has to end after it begins; correct its dates.",
        )
    if before is not None:
        yield Fault(
            "number",
            409,
            "certificate_differs",
            "该证书已登记且内容不同;证书不可修改,请先撤销原证书,或恢复原内容。",
            "This certificate is recorded and says something else; it is never edited: withdraw that one first, or"
            " write what it says.",
        )
    elif key_of(record) in gone:
        yield Fault(
            "number",
            409,
            "certificate_withdrawn",
            "该证书已撤销;请删去这一行,确需恢复的请在仪器页面重新登记。",
            "This certificate was withdrawn; leave the row out, or record it anew with the instrument itself.",
        )


def _may(actor: Actor, host_id: str | None) -> bool:
    return is_system(actor) or actor.has(*REGISTRARS) or (host_id is not None and actor.manages(host_id))


def _unknown(field: str, noun_zh: str, noun_en: str, key: str) -> Fault:
    return Fault(
        field,
        404,
        "not_found",
        f"没有找到{noun_zh} {key};请核对编号,或先登记该{noun_zh}。",
        f"There is no {noun_en} {key}; check the number, or record it first.",
    )


def _not_theirs(field: str, noun_zh: str, noun_en: str) -> Fault:
    return Fault(
        field,
        403,
        "forbidden",
        f"只能登记本单位的{noun_zh};其他请联系县科技局。",
        f"A lab manager records {noun_en} of the own host only; ask the county office for others.",
    )


def _certificate(row: Certificate) -> CertificateRecord:
    values = {name: getattr(row, name) for name in CertificateRecord.model_fields}
    # As changes.record_of: what is stored was judged when it came.
    return CertificateRecord.model_construct(**values | {"kind": TraceabilityKind(row.kind)})


def _special_day(row: SpecialDay) -> PaperRecord:
    return SpecialDayRecord.model_construct(
        host_id=row.host_id or "",
        day=date.fromisoformat(row.day),
        like_weekday=row.like_weekday,
        name_zh=row.name_zh,
        name_en=row.name_en,
    )
