"""The SQL of the registry: the public catalogue, and who meters what."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Select, String, bindparam, func, null, or_, select, type_coerce, union_all, update
from sqlalchemy.orm import Session, aliased

from api.pagination import PageAsked, paginate
from api.registry.traceability import Validity
from store.tables.calendar import Booking, BookingMode, BookingState, CalendarKind, CalendarRow
from store.tables.registry import (
    Agent,
    CatalogueHead,
    Certificate,
    Host,
    Instrument,
    Lab,
    Metering,
    Org,
    RunStatus,
    SpecialDay,
    TestItem,
)
from store.tables.usage import AgentStatus, MeterPosition
from store.types import AnyRow, UtcDateTime

_OPEN_ORDER = (
    BookingState.REQUESTED.value,
    BookingState.CONFIRMED.value,
    BookingState.SAMPLES_RECEIVED.value,
)


@dataclass(frozen=True)
class CatalogueFilter:
    """Which instruments are wanted; every condition given must hold. `text` is looked for anywhere in the names."""

    host: str | None = None
    lab: str | None = None
    category: str | None = None
    town: str | None = None
    text: str | None = None


def hosts(session: Session, page: PageAsked) -> tuple[list[Host], str | None]:
    """Return a page of the hosts."""
    return paginate(session, select(Host), (Host.host_id,), page)


def labs(session: Session, host_id: str | None, page: PageAsked) -> tuple[list[Lab], str | None]:
    """Return a page of the labs, of one host or of all."""
    wanted = select(Lab) if host_id is None else select(Lab).where(Lab.host_id == host_id)
    return paginate(session, wanted, (Lab.lab_id,), page)


def instruments(session: Session, wanted: CatalogueFilter, page: PageAsked) -> tuple[list[Instrument], str | None]:
    """Return a page of the instruments that fit."""
    return paginate(session, _filtered(wanted), (Instrument.instrument_id,), page)


def _filtered(wanted: CatalogueFilter) -> Select[Instrument]:
    statement = select(Instrument)
    if wanted.host is not None:
        statement = statement.where(Instrument.host_id == wanted.host)
    if wanted.lab is not None:
        statement = statement.where(Instrument.lab_id == wanted.lab)
    if wanted.category is not None:
        statement = statement.where(Instrument.category_code == wanted.category)
    if wanted.town is not None:
        in_town = select(Host.host_id).where(or_(Host.town_zh == wanted.town, Host.town_en == wanted.town))
        statement = statement.where(Instrument.host_id.in_(in_town))
    if wanted.text:
        tests = select(TestItem.instrument_id).where(_contains(wanted.text, TestItem.name_zh, TestItem.name_en))
        rooms = select(Lab.lab_id).where(_contains(wanted.text, Lab.name_zh, Lab.name_en))
        statement = statement.where(
            or_(
                _contains(wanted.text, Instrument.name_zh, Instrument.name_en, Instrument.code, Instrument.model),
                Instrument.instrument_id.in_(tests),
                Instrument.lab_id.in_(rooms),
            )
        )
    return statement


def _contains(text: str, *columns: Any) -> Any:
    return or_(*(column.icontains(text, autoescape=True) for column in columns))


def names_of_orgs(session: Session, org_ids: Collection[str]) -> dict[str, Org]:
    """Return organisations by id."""
    return {org.org_id: org for org in session.scalars(select(Org).where(Org.org_id.in_(list(org_ids))))}


def count_by(
    session: Session, table: type[Lab] | type[Instrument], column: Any, keys: Collection[str]
) -> dict[str, int]:
    """Return how many rows of a table each key has."""
    rows = session.execute(
        select(column, func.count()).select_from(table).where(column.in_(list(keys))).group_by(column)
    )
    return {key: count for key, count in rows.all()}  # noqa: C416  (typed rows, not pairs)


def open_items(instrument_id: str) -> Select[TestItem]:
    """Return the selection of what an instrument tests and did not stop testing."""
    return select(TestItem).where(TestItem.instrument_id == instrument_id, TestItem.retired_at.is_(None))


def test_items(session: Session, instrument_id: str) -> list[TestItem]:
    """Return what an instrument tests."""
    return list(session.scalars(open_items(instrument_id).order_by(TestItem.test_item_id)))


def certificates_of(instrument_id: str) -> Select[Certificate]:
    """Return the selection of the certificates of an instrument."""
    return select(Certificate).where(Certificate.instrument_id == instrument_id)


def certificates(session: Session, instrument_id: str) -> list[Certificate]:
    """Return the certificates of an instrument, the latest first."""
    wanted = certificates_of(instrument_id).order_by(Certificate.valid_to.desc(), Certificate.number)
    return list(session.scalars(wanted))


# Asked with every booking, so put together once; over the table, which costs half of what it does over the class.
_PAPER = Certificate.__table__.c
_VALIDITIES = (
    select(_PAPER.valid_from, _PAPER.valid_to)
    .where(_PAPER.instrument_id == bindparam("instrument"), _PAPER.withdrawn_at.is_(None))
    .order_by(_PAPER.valid_from)
)
_SPECIAL = SpecialDay.__table__.c
_SPECIAL_DAYS = (
    select(_SPECIAL.day, _SPECIAL.host_id, _SPECIAL.like_weekday)
    .where(
        _SPECIAL.day.between(bindparam("first"), bindparam("last")),
        or_(_SPECIAL.host_id.is_(None), _SPECIAL.host_id == bindparam("host")),
    )
    .order_by(_SPECIAL.day, _SPECIAL.special_day_id)
)


_NO_DAY = (type_coerce(null(), String), type_coerce(null(), String), type_coerce(null(), BigInteger))
_NO_PAPER = (type_coerce(null(), UtcDateTime), type_coerce(null(), UtcDateTime))
_DATES = union_all(
    _SPECIAL_DAYS.order_by(None).add_columns(*_NO_PAPER, _SPECIAL.special_day_id),
    _VALIDITIES.order_by(None).with_only_columns(*_NO_DAY, _PAPER.valid_from, _PAPER.valid_to, type_coerce("", String)),
)


def special_days_and_validities(
    session: Session, instrument_id: str, host_id: str, from_day: str, to_day: str
) -> tuple[list[AnyRow], list[Validity]]:
    """Return what `special_days` and `validities` do, read in one statement."""
    asked = {"instrument": instrument_id, "host": host_id, "first": from_day, "last": to_day}
    rows = session.execute(_DATES, asked).all()
    days = sorted((row for row in rows if row.day is not None), key=lambda row: (row.day, row.special_day_id))
    papers = sorted((row[3], row[4]) for row in rows if row.day is None)
    return days, [Validity(*paper) for paper in papers]


def validities(session: Session, instrument_id: str) -> list[Validity]:
    """Return what the certificates that were not withdrawn are valid for, the earliest first."""
    return [Validity(*row) for row in session.execute(_VALIDITIES, {"instrument": instrument_id})]


def special_days(session: Session, host_id: str, from_day: str, to_day: str) -> Sequence[AnyRow]:
    """Return the special days of the county and of one host from one day to another (YYYY-MM-DD, both included):
    `day`, `host_id` and `like_weekday` of each."""
    return session.execute(_SPECIAL_DAYS, {"host": host_id, "first": from_day, "last": to_day}).all()


def page_of_special_days(
    session: Session, host_id: str | None, from_day: str, page: PageAsked
) -> tuple[list[SpecialDay], str | None]:
    """Return a page of the special days from a day on: of the county, and of one host or of all."""
    wanted = select(SpecialDay).where(SpecialDay.day >= from_day)
    if host_id is not None:
        wanted = wanted.where(or_(SpecialDay.host_id.is_(None), SpecialDay.host_id == host_id))
    return paginate(session, wanted, (SpecialDay.day, SpecialDay.special_day_id), page)


def certificates_by_end(
    session: Session, host_ids: Collection[str] | None, before: datetime, page: PageAsked
) -> tuple[list[Certificate], str | None]:
    """Return a page of the standing certificates that end by an instant, of some hosts or (None) of all."""
    wanted = select(Certificate).where(Certificate.withdrawn_at.is_(None), Certificate.valid_to <= before)
    if host_ids is not None:
        own = select(Instrument.instrument_id).where(Instrument.host_id.in_(list(host_ids)))
        wanted = wanted.where(Certificate.instrument_id.in_(own))
    return paginate(session, wanted, (Certificate.valid_to, Certificate.certificate_id), page)


def lock_registry(session: Session) -> None:
    """Wait for whoever is changing the registry, and keep others waiting until this transaction ends.

    Taken first, before any other lock, by whatever changes what the catalogue shows: the triggers count there too.
    """
    session.execute(update(CatalogueHead).values(seq=CatalogueHead.seq + 1))


def bookings_ahead(session: Session, instrument_id: str, now: datetime) -> int:
    """Return how many bookings of an instrument have not ended: those that hold time, and sample orders that are open,
    which hold none until they are scheduled."""
    holding = select(func.count()).where(
        CalendarRow.instrument_id == instrument_id,
        CalendarRow.kind == CalendarKind.BOOKING.value,
        CalendarRow.active,
        CalendarRow.to_at > now,
    )
    orders = select(func.count()).where(
        Booking.instrument_id == instrument_id,
        Booking.mode == BookingMode.SAMPLES.value,
        Booking.state.in_(_OPEN_ORDER),
        Booking.calendar_row_id.is_(None),
    )
    return (session.scalar(holding) or 0) + (session.scalar(orders) or 0)


def metering_in_force(session: Session, instrument_id: str, at: datetime) -> Metering | None:
    """Return the metering fact in force at an instant."""
    wanted = select(Metering).where(Metering.instrument_id == instrument_id, Metering.effective_at <= at)
    return session.scalars(wanted.order_by(Metering.effective_at.desc()).limit(1)).one_or_none()


def meterings(session: Session, instrument_id: str, page: PageAsked) -> tuple[list[Metering], str | None]:
    """Return a page of the metering facts of an instrument, the latest first."""
    wanted = select(Metering).where(Metering.instrument_id == instrument_id)
    return paginate(session, wanted, (Metering.effective_at,), page, descending=True)


def latest_metering_start(session: Session, instrument_id: str) -> datetime | None:
    """Return when the last metering fact of an instrument starts."""
    last: datetime | None = session.scalar(
        select(func.max(Metering.effective_at)).where(Metering.instrument_id == instrument_id)
    )
    return last


def metered_by(session: Session, meter_serial: str, since: datetime, but_not: str) -> str | None:
    """Return an instrument, other than `but_not`, for which this meter speaks at `since` or some time after it.

    A serial without a letter or digit (`-`) names no meter. What a revoked agent or a retired instrument left behind
    holds no meter.
    """
    serial = meter_serial.strip().lower()
    if not any(character.isalnum() for character in serial):
        return None
    after = aliased(Metering)
    ends = (
        select(func.min(after.effective_at))
        .where(after.instrument_id == Metering.instrument_id, after.effective_at > Metering.effective_at)
        .correlate(Metering)
        .scalar_subquery()
    )
    wanted = (
        select(Metering.instrument_id)
        .join(Agent, Agent.agent_id == Metering.agent_id)
        .join(Instrument, Instrument.instrument_id == Metering.instrument_id)
        .where(
            func.lower(func.trim(Metering.meter_serial)) == serial,
            Metering.instrument_id != but_not,
            Agent.revoked_at.is_(None),
            Instrument.run_status != RunStatus.RETIRED,
            ends.is_(None) | (ends > since),
        )
        .order_by(Metering.instrument_id)
        .limit(1)
    )
    return session.scalars(wanted).one_or_none()


def position(session: Session, instrument_id: str) -> MeterPosition | None:
    """Return how far an instrument is accounted for, in the stream that got furthest."""
    wanted = select(MeterPosition).where(MeterPosition.instrument_id == instrument_id)
    return session.scalars(wanted.order_by(MeterPosition.accounted_to.desc()).limit(1)).one_or_none()


def agent_status(session: Session, agent_id: str) -> AgentStatus | None:
    """Return what was last heard of an agent."""
    return session.get(AgentStatus, agent_id)


def agents(session: Session, host_ids: Collection[str] | None, page: PageAsked) -> tuple[list[Agent], str | None]:
    """Return a page of the agents, of some hosts or (None) of all."""
    wanted = select(Agent) if host_ids is None else select(Agent).where(Agent.host_id.in_(list(host_ids)))
    return paginate(session, wanted, (Agent.agent_id,), page)


def orgs(session: Session, kind: str | None, page: PageAsked) -> tuple[list[Org], str | None]:
    """Return a page of the organisations."""
    wanted = select(Org) if kind is None else select(Org).where(Org.kind == kind)
    return paginate(session, wanted, (Org.org_id,), page)


def org_by_uscc(session: Session, uscc: str) -> Org | None:
    """Return the organisation with this social credit code."""
    return session.scalars(select(Org).where(Org.uscc == uscc)).one_or_none()
