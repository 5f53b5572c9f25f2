"""Create and replace records of the registry, in the caller's transaction: judged, versioned, audited before and after.

Called by the endpoints, the seed and the import. Writers of the registry queue up at one row (see
`repository.lock_registry`), so that what was judged still holds when it is written.
"""

from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.errors import conflict, not_found
from api.registry import repository
from api.registry.records import HostRecord, InstrumentRecord, LabRecord, Record, TestItemRecord
from api.registry.rules import KEYS, faults, host_id_of, key_of
from api.registry.service import create_org
from api.repeats import check_version
from api.work import Work
from store.tables.registry import Host, Instrument, Lab, Org, OrgKind, RunStatus, TestItem

Row = Host | Lab | Instrument | TestItem
TABLES: dict[type[Record], Any] = {
    HostRecord: Host,
    LabRecord: Lab,
    InstrumentRecord: Instrument,
    TestItemRecord: TestItem,
}
NOUNS = {
    HostRecord: ("依托单位", "host"),
    LabRecord: ("实验室", "lab"),
    InstrumentRecord: ("仪器", "instrument"),
    TestItemRecord: ("检测项目", "test item"),
}
_OF_THE_ORG = ("uscc", "name_zh", "name_en")


class Stored:
    """The registry as the database has it: what records are judged against (rules.Known)."""

    def __init__(self, work: Work) -> None:
        self._session, self._now = work.session, work.now

    def found(self, kind: type[Record], key: str) -> Record | None:
        """Return the record with this key."""
        return self.before(kind, key)

    def before(self, kind: type[Record], key: str) -> Record | None:
        """Return the record with this key as the database has it."""
        row = self._session.get(TABLES[kind], key)
        return None if row is None else record_of(self._session, row)

    def host_of_uscc(self, uscc: str) -> str | None:
        """Return the host of the organisation with this code."""
        return self._session.scalar(select(Host.host_id).join(Org, Org.org_id == Host.org_id).where(Org.uscc == uscc))

    def kind_of_uscc(self, uscc: str) -> str | None:
        """Return the kind of the organisation with this code."""
        return self._session.scalar(select(Org.kind).where(Org.uscc == uscc))

    def open_parts_of(self, record: Record) -> int:
        """Return how many of its labs or instruments are not retired."""
        if isinstance(record, HostRecord):
            wanted = select(func.count()).where(Lab.host_id == record.host_id, Lab.retired_at.is_(None))
        else:
            wanted = select(func.count()).where(
                Instrument.lab_id == key_of(record), Instrument.run_status != RunStatus.RETIRED.value
            )
        return self._session.scalar(wanted) or 0

    def bookings_ahead(self, instrument_id: str) -> int:
        """Return how many bookings of an instrument have not ended."""
        return repository.bookings_ahead(self._session, instrument_id, self._now)


def record_of(session: Session, row: Row) -> Record:
    """Return a row as the record that an editor would send to leave it as it is."""
    kind = next(kind for kind, table in TABLES.items() if isinstance(row, table))
    values = {
        name: getattr(row, name)
        for name in kind.model_fields
        if name not in (*_OF_THE_ORG[:1], "retired") and hasattr(row, name)
    }
    if "retired" in kind.model_fields:
        values["retired"] = getattr(row, "retired_at", None) is not None
    if isinstance(row, Host):
        org = session.get_one(Org, row.org_id)
        values |= {name: getattr(org, name) for name in _OF_THE_ORG}
    # What is stored was judged when it came; rows older than a rule are still shown and exported as they are.
    return kind.model_construct(**_typed(kind, values))


def _typed(kind: type[Record], values: dict[str, Any]) -> dict[str, Any]:
    for name, field in kind.model_fields.items():
        if isinstance(field.annotation, type) and isinstance(values[name], str) and field.annotation is not str:
            values[name] = field.annotation(values[name])
    return values


def create(work: Work, record: Record) -> Row:
    """Record something new. Raises 403, 404 for what it belongs to, 409 `<noun>_exists`, and the faults of rules.py."""
    repository.lock_registry(work.session)
    zh, en = NOUNS[type(record)]
    if work.session.get(TABLES[type(record)], key_of(record)) is not None:
        raise conflict(
            f"{en.replace(' ', '_')}_exists",
            f"{zh} {key_of(record)} 已登记;请修改已有记录,或换一个编号。",
            f"The {en} {key_of(record)} exists; edit it, or take another number.",
        )
    _judge(work, record)
    return write(work, record, None)


def replace(work: Work, record: Record, version: int) -> Row:
    """Replace a record by this one, read at `version`. Saying what is there already changes nothing.

    Raises 403, 404, 412, and the faults of rules.py.
    """
    repository.lock_registry(work.session)
    row = work.session.get(TABLES[type(record)], key_of(record), with_for_update=True, populate_existing=True)
    if row is None:
        raise not_found(*NOUNS[type(record)], key_of(record))
    check_version(row.row_version, version)
    _judge(work, record)
    return write(work, record, row)


def write(work: Work, record: Record, row: Row | None) -> Row:
    """Keep a record that was judged: over `row`, or as a new one. Unchanged: nothing is written, nothing audited."""
    noun = NOUNS[type(record)][1].replace(" ", "_")
    host_id = host_id_of(record, Stored(work))
    if host_id is None:
        raise not_found(*NOUNS[type(record)], key_of(record))
    subject, after = f"{noun}:{key_of(record)}", record.model_dump(mode="json")
    if row is None:
        row = _new_row(work, record, host_id)
        work.session.add(row)
        work.session.flush()
        work.audit(f"{noun}_created", subject, host_id=host_id, after=after)
        return row
    before = record_of(work.session, row).model_dump(mode="json")
    changed = [name for name in after if after[name] != before[name]]
    if not changed:
        return row
    for name, value in _columns(record).items():
        setattr(row, name, value)
    if "retired" in changed:
        row.retired_at = work.now if after["retired"] else None  # type: ignore[union-attr]  # instruments have none
    if isinstance(row, Host) and not {"name_zh", "name_en"}.isdisjoint(changed):
        _rename(work, row, after)
    row.row_version += 1
    work.session.flush()
    work.audit(
        f"{noun}_changed",
        subject,
        host_id=host_id,
        before={name: before[name] for name in changed},
        after={name: after[name] for name in changed},
    )
    return row


def _judge(work: Work, record: Record) -> None:
    for fault in faults(record, Stored(work), work.actor):
        raise fault.refused()


def _new_row(work: Work, record: Record, host_id: str) -> Row:
    extra: dict[str, Any] = {KEYS[type(record)]: key_of(record), "row_version": 1}
    if isinstance(record, HostRecord):
        extra["org_id"] = _org_of(work, record).org_id
    if isinstance(record, InstrumentRecord):
        extra["host_id"] = host_id
    else:
        extra["retired_at"] = work.now if record.retired else None
    row: Row = TABLES[type(record)](**_columns(record), **extra)
    return row


def _columns(record: Record) -> dict[str, Any]:
    values = record.model_dump(mode="json")
    left_out = {KEYS[type(record)], "retired", *(_OF_THE_ORG if isinstance(record, HostRecord) else ())}
    return {name: value for name, value in values.items() if name not in left_out}


def _org_of(work: Work, record: HostRecord) -> Org:
    found = repository.org_by_uscc(work.session, record.uscc.strip().upper())
    if found is not None:
        return found
    return create_org(work, uscc=record.uscc, kind=OrgKind.HOST, name_zh=record.name_zh, name_en=record.name_en)


def _rename(work: Work, row: Host, after: dict[str, Any]) -> None:
    org = work.session.get_one(Org, row.org_id)
    org.name_zh, org.name_en = after["name_zh"], after["name_en"]
    org.row_version += 1
