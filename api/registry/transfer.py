"""Bring the registry in from CSV files, and give it out again. All or nothing, and nothing the second time.

A dry run and a real one read and judge the same way: every row against the database with the files' other rows over
it, by the rules that edits keep. Only a file set without a finding is written, by the same function as an edit, so
every change is audited and what is the same already is left alone.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import cast

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.errors import invalid
from api.registry import changes, repository, transfer_papers
from api.registry.csv_tables import FILES, Finding, ReadRow, column_of, read_table, write_table
from api.registry.records import FileRecord, HostRecord, InstrumentRecord, LabRecord, PaperRecord, Record
from api.registry.rules import KEYS, Fault, faults, key_of
from api.work import Work
from store.tables.registry import Host, Instrument, Lab, Org, RunStatus, TestItem


@dataclass(frozen=True)
class Counts:
    """What an import does to one table."""

    new: int = 0
    changed: int = 0
    same: int = 0


@dataclass
class Plan:
    """What an import found and would do."""

    findings: list[Finding] = field(default_factory=list)
    counts: dict[str, Counts] = field(default_factory=dict)
    rows: list[tuple[str, ReadRow]] = field(default_factory=list)


class _Overlaid:
    """The database with the files' rows over it (rules.Known). Everything is loaded once; a county fits in memory."""

    def __init__(self, work: Work) -> None:
        self._stored = changes.Stored(work)
        self._work = work
        self.before_of = {kind: _all(work.session, kind) for kind in KEYS}
        self.papers_of = {kind: transfer_papers.standing(work.session, kind) for kind in transfer_papers.COLUMN}
        self.withdrawn = transfer_papers.withdrawn(work.session)
        self.after_of: dict[type[Record], dict[str, Record]] = {kind: dict(self.before_of[kind]) for kind in KEYS}
        self._kind_of = {row[0]: row[1] for row in work.session.execute(select(Org.uscc, Org.kind))}
        self._open: dict[str, int] | None = None
        self._host_of: dict[str, str] | None = None

    def found(self, kind: type[Record], key: str) -> Record | None:
        """Return the record as it will be."""
        return self.after_of[kind].get(key)

    def before(self, kind: type[Record], key: str) -> Record | None:
        """Return the record as it is."""
        return self.before_of[kind].get(key)

    def before_row(self, record: FileRecord) -> FileRecord | None:
        """Return what a row of a file replaces."""
        if isinstance(record, PaperRecord):
            return self.papers_of[type(record)].get(transfer_papers.key_of(record))
        return self.before(type(record), key_of(record))

    def faults(self, record: FileRecord, work: Work) -> Iterator[Fault]:
        """Yield everything that keeps the caller from keeping a row of a file."""
        if isinstance(record, PaperRecord):
            before = self.papers_of[type(record)].get(transfer_papers.key_of(record))
            return transfer_papers.faults(record, before, self.withdrawn, self, work.actor)
        return faults(record, self, work.actor)

    def host_of_uscc(self, uscc: str) -> str | None:
        """Return the host, as it will be, of the organisation with this code; the first one that names it has it."""
        if self._host_of is None:
            hosts = [each for each in self.after_of[HostRecord].values() if isinstance(each, HostRecord)]
            self._host_of = {each.uscc: each.host_id for each in reversed(hosts)}
        return self._host_of.get(uscc)

    def kind_of_uscc(self, uscc: str) -> str | None:
        """Return the kind of the organisation with this code."""
        return self._kind_of.get(uscc)

    def open_parts_of(self, record: Record) -> int:
        """Return how many of its labs or instruments will not be retired."""
        if self._open is None:
            self._open = {}
            for each in (*self.after_of[LabRecord].values(), *self.after_of[InstrumentRecord].values()):
                if isinstance(each, LabRecord) and not each.retired:
                    self._open[f"host {each.host_id}"] = self._open.get(f"host {each.host_id}", 0) + 1
                elif isinstance(each, InstrumentRecord) and each.run_status is not RunStatus.RETIRED:
                    self._open[f"lab {each.lab_id}"] = self._open.get(f"lab {each.lab_id}", 0) + 1
        prefix = "host" if isinstance(record, HostRecord) else "lab"
        return self._open.get(f"{prefix} {key_of(record)}", 0)

    def bookings_ahead(self, instrument_id: str) -> int:
        """Return how many bookings of an instrument have not ended."""
        return self._stored.bookings_ahead(instrument_id)


def plan_import(work: Work, files: Mapping[str, str]) -> Plan:
    """Read and judge the files (a name of FILES -> text; any of them). Writes nothing.

    Raises 422 `unknown_file`.
    """
    for name in files:
        if name not in FILES:
            known = ", ".join(FILES)
            raise invalid(
                "unknown_file",
                f"没有名为 {name} 的表;请使用:{known}。",
                f"There is no table {name}; give one of {known}.",
                field=name,
            )
    plan, known_rows = Plan(), _Overlaid(work)
    for name in FILES:
        if name in files:
            rows, findings = read_table(name, files[name])
            plan.findings += findings
            plan.rows += [(name, row) for row in _once_each(name, rows, plan.findings)]
    for _, row in plan.rows:
        if not isinstance(row.record, PaperRecord):
            known_rows.after_of[type(row.record)][key_of(row.record)] = row.record
    counted: dict[str, list[int]] = {name: [0, 0, 0] for name in files}
    news = []
    for name, row in plan.rows:
        before = known_rows.before_row(row.record)
        place = 0 if before is None else 2 if _same(before, row.record) else 1
        counted[name][place] += 1
        if place != 2:
            news.append((name, row))
            plan.findings += _judged(name, row, known_rows, work)
    plan.rows = news
    plan.counts = {name: Counts(*numbers) for name, numbers in counted.items()}
    plan.findings.sort(key=lambda each: (list(FILES).index(each.file), each.line))
    return plan


def carry_out(work: Work, files: Mapping[str, str]) -> Plan:
    """Import the files: all rows, or none where anything was found (then the plan says what). In the caller's
    transaction; repeating it changes nothing."""
    repository.lock_registry(work.session)
    plan = plan_import(work, files)
    if plan.findings:
        return plan
    for _, row in plan.rows:
        if isinstance(row.record, PaperRecord):
            transfer_papers.write(work, row.record)
        else:
            kept = work.session.get(changes.TABLES[type(row.record)], key_of(row.record))
            changes.write(work, row.record, kept)
    changed = {name: {"new": each.new, "changed": each.changed} for name, each in plan.counts.items()}
    if any(each.new or each.changed for each in plan.counts.values()):
        work.audit("registry_imported", "registry", host_id=None, after=changed)
    return plan


def export_table(session: Session, file: str) -> str:
    """Return one table as CSV, in the order of its keys; certificates without those that were withdrawn."""
    kind = FILES[file]
    records: dict[str, FileRecord] = {}
    if kind in KEYS:
        records |= _all(session, kind)
    else:
        records |= transfer_papers.standing(session, cast("type[PaperRecord]", kind))
    return write_table(kind, records.values())


def _all(session: Session, kind: type[Record]) -> dict[str, Record]:
    table = changes.TABLES[kind]
    if kind is HostRecord:
        session.scalars(select(Org).join(Host, Host.org_id == Org.org_id)).all()
    rows: list[Host | Lab | Instrument | TestItem] = list(session.scalars(select(table)))
    records = (changes.record_of(session, row) for row in rows)
    return {key_of(record): record for record in sorted(records, key=key_of)}


def _once_each(name: str, rows: list[ReadRow], findings: list[Finding]) -> Iterator[ReadRow]:
    first: dict[str, int] = {}
    for row in rows:
        key = _key_of(row.record)
        if key in first:
            zh = f"编号 {key} 在第 {first[key]} 行已出现;请只保留一行"
            en = f"{key} stands on line {first[key]} already; keep one"
            findings.append(Finding(name, row.line, _key_column(row.record), key, "row_twice", zh, en))
            continue
        first[key] = row.line
        yield row


def _key_of(record: FileRecord) -> str:
    return transfer_papers.key_of(record) if isinstance(record, PaperRecord) else key_of(record)


def _key_column(record: FileRecord) -> str:
    return transfer_papers.COLUMN[type(record)] if isinstance(record, PaperRecord) else KEYS[type(record)]


def _same(before: FileRecord, after: FileRecord) -> bool:
    return before.model_dump(mode="json") == after.model_dump(mode="json")


def _judged(name: str, row: ReadRow, known: _Overlaid, work: Work) -> Iterator[Finding]:
    for fault in known.faults(row.record, work):
        column = column_of(fault.field)
        yield Finding(name, row.line, column, row.cells.get(column, ""), fault.code, fault.zh, fault.en)
