"""What a record of the registry must agree with before it is kept. Used alike by edits over HTTP and by the import.

Reads through `Known` (the database, or the database with a file's rows over it) and returns every fault it finds, so
that an edit can refuse with the first and an import can report them all. Writes nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from api.accounts.uscc import is_valid
from api.charging.access import is_system
from api.errors import Refused
from api.registry.records import HostRecord, InstrumentRecord, LabRecord, Record, TestItemRecord
from api.work import Actor
from store.tables.accounts import Role
from store.tables.registry import OrgKind, RunStatus, UseDetection

REGISTRARS = (Role.COUNTY_OFFICER, Role.ADMIN)
EDITORS = (Role.LAB_MANAGER, *REGISTRARS)

# What money, reward and assessment hang on is the county's to say; the rest of its own host is the manager's. A new
# instrument begins with what proves and is worth least, until the county has looked; a category it must have.
OFFICE_ONLY = {
    HostRecord: ("uscc", "name_zh", "name_en", "host_type", "cluster_zh", "cluster_en", "retired"),
    InstrumentRecord: ("use_detection", "run_threshold_w", "original_value_fen", "category_code"),
}

UNTIL_THE_COUNTY_LOOKED: dict[type[Record], dict[str, object]] = {
    InstrumentRecord: {"use_detection": UseDetection.CHECKIN, "run_threshold_w": 0, "original_value_fen": 0}
}


@dataclass(frozen=True)
class Fault:
    """One thing wrong with a record: the field, and in both languages what to do."""

    field: str
    status: int
    code: str
    zh: str
    en: str

    def refused(self) -> Refused:
        """Return it as the refusal of an edit."""
        return Refused(self.status, self.code, self.zh, self.en, field=self.field)


class Known(Protocol):
    """What is there already, seen from the record that is judged."""

    def found(self, kind: type[Record], key: str) -> Record | None:
        """Return the record with this key."""

    def before(self, kind: type[Record], key: str) -> Record | None:
        """Return the record with this key as the database has it."""

    def host_of_uscc(self, uscc: str) -> str | None:
        """Return the host that belongs to the organisation with this code."""

    def kind_of_uscc(self, uscc: str) -> str | None:
        """Return what the organisation with this code is to the county, None where there is none."""

    def open_parts_of(self, record: Record) -> int:
        """Return how many labs (of a host) or instruments (of a lab) are not retired."""

    def bookings_ahead(self, instrument_id: str) -> int:
        """Return how many bookings and sample orders of an instrument have not ended."""


KEYS: dict[type[Record], str] = {
    HostRecord: "host_id",
    LabRecord: "lab_id",
    InstrumentRecord: "instrument_id",
    TestItemRecord: "test_item_id",
}


def key_of(record: Record) -> str:
    """Return the key of a record."""
    return str(getattr(record, KEYS[type(record)]))


def host_id_of(record: Record, known: Known) -> str | None:
    """Return the host that a record belongs to, None where what it names is unknown."""
    if isinstance(record, HostRecord | LabRecord):
        return record.host_id
    if isinstance(record, InstrumentRecord):
        lab = known.found(LabRecord, record.lab_id)
        return None if lab is None else host_id_of(lab, known)
    instrument = known.found(InstrumentRecord, record.instrument_id)
    return None if instrument is None else host_id_of(instrument, known)


def faults(record: Record, known: Known, actor: Actor) -> Iterator[Fault]:
    """Yield everything that keeps this actor from keeping this record."""
    before = known.before(type(record), key_of(record))
    yield from _reach(record, before, known, actor)
    if isinstance(record, HostRecord):
        yield from _host(record, before, known)
    elif isinstance(record, LabRecord):
        yield from _lab(record, before, known)
    elif isinstance(record, InstrumentRecord):
        yield from _instrument(record, before, known)
    else:
        yield from _test_item(record, before, known)


def _reach(record: Record, before: Record | None, known: Known, actor: Actor) -> Iterator[Fault]:
    if is_system(actor) or actor.has(*REGISTRARS):
        return
    hosts = {host_id_of(each, known) for each in (record, before) if each is not None}
    new_host = before is None and isinstance(record, HostRecord)
    if new_host or not all(host is not None and actor.manages(host) for host in hosts):
        yield Fault(
            KEYS[type(record)],
            403,
            "forbidden",
            "只能登记和修改本单位的实验室和仪器;新增依托单位请联系县科技局。",
            "A lab manager edits the own host's labs and instruments only; ask the county office.",
        )
        return
    yield from _office_only(record, before)


def _office_only(record: Record, before: Record | None) -> Iterator[Fault]:
    if before is None:
        for field, first in UNTIL_THE_COUNTY_LOOKED.get(type(record), {}).items():
            if getattr(record, field) != first:
                yield Fault(
                    field,
                    403,
                    "office_only",
                    f"“{field}”关系到收费、奖励或考核,由县级管理员填写;新登记时请填 {first},登记后联系县科技局。",
                    f"{field} is for the county office to say; record {first} and ask the county office afterwards.",
                )
        return
    for field in OFFICE_ONLY.get(type(record), ()):
        if getattr(before, field) != getattr(record, field):
            yield Fault(
                field,
                403,
                "office_only",
                f"“{field}”关系到收费、奖励或考核,只能由县级管理员修改;请保持原值 {getattr(before, field)}。",
                f"{field} is for the county office to change; leave it at {getattr(before, field)}.",
            )


def _host(record: HostRecord, before: Record | None, known: Known) -> Iterator[Fault]:
    uscc = record.uscc.strip().upper()
    if not is_valid(uscc):
        yield Fault(
            "uscc",
            422,
            "uscc_invalid",
            f"统一社会信用代码 {uscc} 校验不通过;请核对 18 位代码。",
            f"{uscc} is not a unified social credit code: its check character does not fit; check all 18 characters.",
        )
    elif isinstance(before, HostRecord) and before.uscc != uscc:
        yield _moved("uscc", "统一社会信用代码", before.uscc)
    elif known.host_of_uscc(uscc) not in (None, record.host_id):
        yield Fault(
            "uscc",
            409,
            "host_exists",
            f"代码 {uscc} 的单位已登记为依托单位 {known.host_of_uscc(uscc)};请修改该记录。",
            f"The organisation {uscc} is the host {known.host_of_uscc(uscc)} already; edit that record.",
        )
    elif known.kind_of_uscc(uscc) not in (None, OrgKind.HOST.value):
        yield Fault(
            "uscc",
            409,
            "not_a_host",
            f"代码 {uscc} 的单位已登记为 {known.kind_of_uscc(uscc)};请先由县级管理员更改其类别。",
            f"The organisation {uscc} is recorded as {known.kind_of_uscc(uscc)}; ask the county office to"
            " change that first.",
        )
    if record.retired and (left := known.open_parts_of(record)):
        yield _still_open("实验室", "labs", left)


def _lab(record: LabRecord, before: Record | None, known: Known) -> Iterator[Fault]:
    host = known.found(HostRecord, record.host_id)
    if not isinstance(host, HostRecord):
        yield _unknown("host_id", "依托单位", "host", record.host_id)
    elif isinstance(before, LabRecord) and before.host_id != record.host_id:
        yield _moved("host_id", "依托单位", before.host_id)
    elif host.retired and not record.retired:
        yield _in_retired("host_id", "依托单位", "host", record.host_id)
    if record.retired and (left := known.open_parts_of(record)):
        yield _still_open("仪器", "instruments", left)


def _instrument(record: InstrumentRecord, before: Record | None, known: Known) -> Iterator[Fault]:
    if record.code.lower() != record.instrument_id:
        yield Fault(
            "code",
            422,
            "code_differs",
            f"仪器编号 {record.code} 的小写形式须与 {record.instrument_id} 一致;请更正其中之一。",
            f"The code {record.code} in lower case has to be the id {record.instrument_id}; correct one of the two.",
        )
    lab = known.found(LabRecord, record.lab_id)
    retired = record.run_status is RunStatus.RETIRED
    if not isinstance(lab, LabRecord):
        yield _unknown("lab_id", "实验室", "lab", record.lab_id)
    elif before is not None and host_id_of(before, known) != lab.host_id:
        yield _moved("lab_id", "依托单位", str(host_id_of(before, known)))
    elif lab.retired and not retired:
        yield _in_retired("lab_id", "实验室", "lab", record.lab_id)
    if retired and before is not None and (ahead := known.bookings_ahead(record.instrument_id)):
        yield Fault(
            "run_status",
            409,
            "still_booked",
            f"该仪器还有 {ahead} 个未结束的预约或送样委托;请先完成、取消或改期,再停用。",
            f"{ahead} bookings or sample orders of it have not ended; finish, cancel or move them, then retire it.",
        )


def _test_item(record: TestItemRecord, before: Record | None, known: Known) -> Iterator[Fault]:
    if known.found(InstrumentRecord, record.instrument_id) is None:
        yield _unknown("instrument_id", "仪器", "instrument", record.instrument_id)
    elif isinstance(before, TestItemRecord) and before.instrument_id != record.instrument_id:
        yield _moved("instrument_id", "仪器", before.instrument_id)


def _unknown(field: str, zh: str, en: str, key: str) -> Fault:
    return Fault(
        field,
        404,
        "not_found",
        f"没有找到{zh} {key};请核对编号,或先登记该{zh}。",
        f"There is no {en} {key}; check the number, or record it first.",
    )


def _moved(field: str, zh: str, was: str) -> Fault:
    return Fault(
        field,
        409,
        "cannot_move",
        f"已登记的{zh}不能更改,原值为 {was};如确需更改,请停用后重新登记。",
        f"{field} was {was} and cannot change; retire this and record a new one.",
    )


def _in_retired(field: str, zh: str, en: str, key: str) -> Fault:
    return Fault(
        field,
        409,
        "retired",
        f"{zh} {key} 已停用;请先恢复,或一并停用。",
        f"The {en} {key} is retired; reopen it first, or retire this too.",
    )


def _still_open(zh: str, en: str, left: int) -> Fault:
    return Fault(
        "retired",
        409,
        "still_open",
        f"还有 {left} 个{zh}未停用;请先停用。",
        f"{left} {en} are open; retire them first.",
    )
