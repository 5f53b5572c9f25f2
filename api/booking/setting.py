"""What the rules of a new booking look at: the instrument, both parties, training, strikes, the price in force.

Called by service.py once a request, again under the instrument's lock where it has changed meanwhile. Reads only, in
two statements: what every booking asks costs more to ask than to answer.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Select, and_, bindparam, exists, func, select, type_coerce
from sqlalchemy.orm import Session, aliased, load_only

from api.booking.repository import days_around
from api.booking.slots import Interval
from api.charging.tariffs import TariffInForce, tariff_from
from api.errors import not_found
from api.registry.opening import merge_special
from api.registry.repository import special_days_and_validities
from api.registry.slot_terms import SlotTerms, terms_of
from api.registry.traceability import Validity
from store.tables.booking_rules import BookingPolicy, QualificationEvent, Strike, StrikeLift
from store.tables.calendar import CalendarRow
from store.tables.charging import Tariff, TariffVersion
from store.tables.registry import AffiliationEvent, Host, Instrument, Org
from store.types import UtcDateTime
from wire.clock import to_ms


@dataclass(frozen=True)
class Setting:
    """What the rules look at. `payer` is None for an unknown organisation; `is_taken`: something holds a part of the
    slot, or of the buffer after it, at this moment; `tariff` is the one in force at the instant that was asked for."""

    instrument: Instrument
    owner: Org
    payer: Org | None
    policy: BookingPolicy | None
    training: QualificationEvent | None
    affiliation: str | None
    has_strikes: bool
    is_taken: bool
    tariff: TariffInForce | None


_PRICES = (
    TariffVersion.tariff_id,
    TariffVersion.version,
    TariffVersion.body,
    TariffVersion.body_sha256,
    TariffVersion.valid_from,
    TariffVersion.prepared_by,
    TariffVersion.approved_by,
)


def _settings() -> Select[Instrument]:
    owner, payer, other = aliased(Org), aliased(Org), aliased(QualificationEvent)
    instrument: ColumnElement[str] = bindparam("instrument")
    named: ColumnElement[str] = bindparam("payer")
    at = bindparam("at", type_=UtcDateTime)
    newest = select(func.max(other.event_id)).where(
        other.instrument_id == instrument, other.person_id == bindparam("person")
    )
    affiliation = (
        select(AffiliationEvent.state)
        .where(
            AffiliationEvent.host_org == owner.org_id,
            AffiliationEvent.other_org == named,
            AffiliationEvent.effective_at <= at,
        )
        .order_by(AffiliationEvent.effective_at.desc())
        .limit(1)
        .correlate(owner)
    )
    lifted = exists().where(StrikeLift.booking_id == Strike.booking_id)
    struck = exists().where(Strike.host_id == Instrument.host_id, Strike.org_id == named, ~lifted)
    ends = bindparam("until", type_=BigInteger) + Instrument.buffer_minutes * 60_000
    taken = exists().where(
        CalendarRow.instrument_id == instrument,
        CalendarRow.active,
        type_coerce(CalendarRow.from_at, BigInteger) < ends,
        CalendarRow.to_at > bindparam("since", type_=UtcDateTime),
    )
    return (
        select(
            Instrument,
            owner,
            payer,
            BookingPolicy,
            QualificationEvent,
            affiliation.scalar_subquery().label("affiliation"),
            struck.correlate(Instrument).label("has_strikes"),
            taken.correlate(Instrument).label("is_taken"),
            *_PRICES,
        )
        .join(Host, Host.host_id == Instrument.host_id)
        .join(owner, owner.org_id == Host.org_id)
        .outerjoin(payer, payer.org_id == named)
        .outerjoin(BookingPolicy, BookingPolicy.instrument_id == Instrument.instrument_id)
        .outerjoin(QualificationEvent, QualificationEvent.event_id == newest.scalar_subquery())
        .outerjoin(Tariff, Tariff.instrument_id == Instrument.instrument_id)
        .outerjoin(TariffVersion, and_(TariffVersion.tariff_id == Tariff.tariff_id, TariffVersion.valid_from <= at))
        .where(Instrument.instrument_id == instrument)
        .order_by(TariffVersion.valid_from.desc().nulls_last())
        .limit(1)
        .options(
            load_only(*_RULED_BY),
            load_only(owner.kind, owner.state),
            load_only(payer.kind, payer.state),
        )
    )


_RULED_BY = (
    Instrument.host_id,
    Instrument.share_mode,
    Instrument.run_status,
    Instrument.self_operated,
    Instrument.takes_samples,
    Instrument.approval,
    Instrument.open_hours,
    Instrument.lead_minutes,
    Instrument.horizon_days,
    Instrument.min_slot_minutes,
    Instrument.max_slot_minutes,
    Instrument.step_minutes,
    Instrument.buffer_minutes,
    Instrument.row_version,
)
"""What the rules look at, of three times as many columns. Another one would be read when it is asked for."""
_SETTING = _settings()


def setting_of(
    session: Session, instrument_id: str, payer_org: str, person_id: str, at: datetime, slot: Interval
) -> Setting:
    """Return the setting of a booking of a slot by a person for a payer at an instant, locking nothing. Raises 404."""
    asked: dict[str, object] = {"instrument": instrument_id, "payer": payer_org, "person": person_id, "at": at}
    asked |= {"since": slot.from_at, "until": to_ms(slot.to_at)}
    row = session.execute(_SETTING, asked).one_or_none()
    if row is None:
        raise not_found("仪器", "instrument", instrument_id)
    values: tuple[Any, ...] = tuple(row)
    looked_at, price = values[: -len(_PRICES)], values[-len(_PRICES) :]
    tariff = None if price[0] is None else tariff_from(session, price)
    return Setting(*(*looked_at, tariff))


def dates_of(session: Session, instrument: Instrument, slot: Interval) -> tuple[SlotTerms, list[Validity]]:
    """Return when an instrument can be booked (`repository.slot_terms`) and what its papers are valid for, in one
    statement."""
    instrument_id, host_id = instrument.instrument_id, instrument.host_id
    days, papers = special_days_and_validities(session, instrument_id, host_id, *days_around(slot))
    return terms_of(instrument, merge_special(days, host_id)), papers
