"""Tells the host of every open instrument that has no price list in force. A chore of the worker.

Without one nothing can be booked or quoted (`no_tariff`), and no other price is ever taken instead.
"""

from sqlalchemy import select

from api.work import Work
from store.alerts import clear_alert, raise_alert
from store.tables.charging import Tariff, TariffVersion
from store.tables.registry import Instrument, RunStatus
from store.tables.usage import Alert
from wire.clock import to_ms

RULE = "no_tariff"
DETAIL = "no price list is in force: the host has to prepare one and a second person to publish it"


def watch_prices(work: Work) -> None:
    """Open one alert for each open instrument without a price list in force now, close those that have one again."""
    now_ms = to_ms(work.now)
    priced = (
        select(TariffVersion.tariff_id)
        .join(Tariff, Tariff.tariff_id == TariffVersion.tariff_id)
        .where(Tariff.instrument_id == Instrument.instrument_id, TariffVersion.valid_from <= work.now)
        .exists()
    )
    offered = Instrument.run_status != RunStatus.RETIRED.value
    without = set(work.session.scalars(select(Instrument.instrument_id).where(offered, ~priced)))
    told = set(work.session.scalars(select(Alert.subject).where(Alert.rule == RULE, Alert.open_slot == 1)))
    for instrument_id in sorted(without - told):
        raise_alert(work.session, RULE, instrument_id, DETAIL, now_ms)
    for instrument_id in sorted(told - without):
        clear_alert(work.session, RULE, instrument_id, now_ms, "system")
