"""Price lists for demo data, out of the fee columns of the instrument catalogue. Goes through the tariff service."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from decimal import Decimal, InvalidOperation

from sqlalchemy import select

from api.charging.tariff_body import (
    BadTariff,
    CancellationTerms,
    CountUnit,
    NoShowTerms,
    Option,
    OptionKind,
    OptionPer,
    Prices,
    Rush,
    TariffBody,
    TimePrice,
    TimeUnit,
    UnitPrice,
    Uplifts,
)
from api.charging.tariffs import publish_tariff
from api.work import Work
from store.tables.charging import Tariff, TariffVersion
from store.tables.registry import Instrument
from wire.ids import wire_id

_UPLIFTS = Uplifts(other=2_500)
_RUSH = (
    Rush(code="fast", surcharge_bp=5_000, name_zh="加急", name_en="fast"),
    Rush(code="day", surcharge_bp=10_000, name_zh="24 小时加急", name_en="within 24 h"),
)
_OPTIONS = (
    Option(code="report", kind=OptionKind.REPORT, unit_fen=30_000, name_zh="盖章报告", name_en="report with a seal"),
    Option(
        code="preparation",
        kind=OptionKind.PREPARATION,
        per=OptionPer.SAMPLE,
        unit_fen=20_000,
        name_zh="制样",
        name_en="sample preparation",
    ),
)
_CANCELLATION = CancellationTerms(free_until_s=86_400, fee_bp=3_000)
_NO_SHOW = NoShowTerms(fee_bp=5_000)


def tariff_from_fee_columns(row: Mapping[str, str]) -> TariffBody:
    """Return the price list that a catalogue row describes.

    Reads fee_cny_incl_vat, fee_unit (hour, day, sample, piece, item, batch), setup_fee_cny, and min_charge_units and
    billing_step in that unit; rush, options, the uplift for firms from elsewhere and the terms of cancellation are
    the same for all. Raises BadTariff that names the column.
    """
    unit = row["fee_unit"]
    unit_fen, setup_fen = _whole(row, "fee_cny_incl_vat", 100), _whole(row, "setup_fee_cny", 100)
    if unit in set(TimeUnit):
        per = TimeUnit(unit)
        time = TimePrice(
            per=per,
            unit_fen=unit_fen,
            step_s=_whole(row, "billing_step", per.seconds),
            minimum_s=_whole(row, "min_charge_units", per.seconds),
        )
        return _with_usual_terms(Prices(time=time, setup_fen=setup_fen))
    if unit in set(CountUnit):
        counted = UnitPrice(per=CountUnit(unit), unit_fen=unit_fen, minimum_units=_whole(row, "min_charge_units", 1))
        return _with_usual_terms(Prices(unit=counted, setup_fen=setup_fen))
    raise BadTariff("fee_unit", f"{unit!r} is no unit of a price")


def _with_usual_terms(prices: Prices) -> TariffBody:
    return TariffBody(
        schema_name="openlab.tariff/2",
        default=prices,
        uplifts=_UPLIFTS,
        rush=_RUSH,
        options=_OPTIONS,
        cancellation=_CANCELLATION,
        no_show=_NO_SHOW,
    )


def seed_tariffs(
    work: Work,
    rows: Iterable[Mapping[str, str]],
    valid_from: datetime,
    signers: Callable[[str], tuple[str, str]],
) -> int:
    """Publish version 1 for every catalogue row whose instrument has no prices yet; return how many were published.

    `signers(host_id)` gives (prepared_by, approved_by). The instruments must be there. `work` acts as the system.
    """
    priced = set(work.session.execute(select(Tariff.instrument_id).join(TariffVersion)).scalars())
    published = 0
    for row in rows:
        instrument_id = wire_id(row["instrument_code"])
        if instrument_id in priced:
            continue
        prepared_by, approved_by = signers(work.session.get_one(Instrument, instrument_id).host_id)
        publish_tariff(work, instrument_id, tariff_from_fee_columns(row), valid_from, prepared_by, approved_by)
        published += 1
    return published


def _whole(row: Mapping[str, str], column: str, factor: int) -> int:
    """Return a decimal column times `factor`, exactly."""
    try:
        value = Decimal(row[column]) * factor
    except InvalidOperation:
        raise BadTariff(column, f"{row[column]!r} is not a number") from None
    if value != int(value):
        raise BadTariff(column, f"{row[column]} cannot be kept in whole units of 1/{factor}")
    return int(value)
