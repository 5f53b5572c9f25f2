"""What a slot costs and on which terms: the price that is shown, agreed to and frozen. Called by whatever quotes.

Reads the tariff in force; computes by rating's pure functions; writes nothing.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from api.booking import repository
from api.booking.approval import Decision
from api.booking.slots import Interval
from api.charging.documents import quote_document
from api.charging.inputs import check_ordered
from api.charging.public_days import public_days
from api.charging.rating import CURRENT_CALC_VERSION, Asked, Rated, quote_input, rate
from api.charging.rating_types import NOTHING_ASKED, Ending, RatingInput
from api.charging.tariff_body import TariffBody, UserCategory
from api.charging.tariffs import TariffInForce, tariff_in_force
from api.errors import Refused, conflict
from api.work import Work
from store.canonical import sha256_hex
from store.tables.calendar import BookingMode
from store.tables.charging import ChargePurpose
from store.tables.registry import Org, OrgKind
from wire.clock import to_ms

_CATEGORIES = {OrgKind.SME: UserCategory.SME, OrgKind.ACADEMIC: UserCategory.ACADEMIC}


@dataclass(frozen=True)
class Price:
    """A price by one tariff version. `document` is the promise that a booking freezes, `sha256` its hash."""

    category: UserCategory
    tariff_id: str
    tariff_version: int
    rated: Rated
    document: str
    sha256: str


@dataclass(frozen=True)
class Terms:
    """What giving the slot up costs the customer. `free_until` None: cancelling is free until the slot begins."""

    free_until: datetime | None
    late_fee_fen: int
    no_show_fee_fen: int


@dataclass(frozen=True)
class Wish:
    """What is to be priced."""

    mode: BookingMode
    slot: Interval
    quantity: int
    asked: Asked = NOTHING_ASKED


@dataclass(frozen=True)
class Offer:
    """What a booking would cost, who would pay, on which terms, and whether it would be confirmed at once."""

    instrument_id: str
    payer_org: str
    price: Price
    decision: Decision
    warnings: tuple[str, ...]
    wish: Wish
    tariff: TariffBody

    def terms(self) -> Terms:
        """Return the terms of cancelling and of not coming, as charging will apply them."""
        return terms_of(self.tariff, self.price, self.wish)


def category_as(owner: Org, payer: Org, affiliated: bool) -> UserCategory:
    """Return what a payer is to a host: its own, affiliated, or by its kind."""
    if payer.org_id == owner.org_id:
        return UserCategory.OWN
    return UserCategory.AFFILIATE if affiliated else _CATEGORIES.get(OrgKind(payer.kind), UserCategory.OTHER)


def category_of(work: Work, host_org: Org, payer: Org, at: datetime | None = None) -> UserCategory:
    """Return `category_as` by the affiliation at an instant (None: now)."""
    affiliated = repository.is_affiliated(work.session, host_org.org_id, payer.org_id, at or work.now)
    return category_as(host_org, payer, affiliated)


def price_of(
    work: Work,
    instrument_id: str,
    category: UserCategory,
    wish: Wish,
    at: datetime,
    tariff: TariffInForce | None = None,
) -> tuple[Price, TariffInForce]:
    """Return the price by the tariff in force at an instant (`tariff`, where it has been read). Refused: 409
    `no_tariff`, 422 for unknown options."""
    tariff = tariff or tariff_in_force(work.session, instrument_id, at)
    start = to_ms(wish.slot.from_at)
    length = to_ms(wish.slot.to_at) - start
    days = public_days(work.session, tariff.body, start, start + length)
    given = quote_input(tariff.body, category, wish.mode, start, length, wish.quantity, wish.asked, days)
    check_ordered(tariff.body, given.asked)
    return priced(tariff, given), tariff


def priced(tariff: TariffInForce, given: RatingInput) -> Price:
    """Return the price of an input by its tariff."""
    rated = rate(given, CURRENT_CALC_VERSION)
    document = quote_document(given, rated, CURRENT_CALC_VERSION)
    return Price(given.category, tariff.tariff_id, tariff.version, rated, document.decode(), sha256_hex(document))


def price_differs(price: Price, **facts: int) -> Refused:
    """409: the price is not the one that was agreed to."""
    return conflict(
        "price_differs",
        "价格与您同意的不同;如同意新价格,请在 quote_sha256 中给出新报价的哈希后再提交。",
        "The price is not the one you agreed to; if you agree to this one, ask again with its hash in `quote_sha256`.",
        total_fen=price.rated.total_fen,
        quote_sha256=price.sha256,
        **facts,
    )


def terms_of(body: TariffBody, price: Price, wish: Wish) -> Terms:
    """Return the terms of cancelling and of not coming, as charging will apply them."""
    free_until, late = None, 0
    if body.cancellation is not None:
        free_until = wish.slot.from_at - timedelta(seconds=body.cancellation.free_until_s)
        late = _fee(body, price, wish, ChargePurpose.CANCELLATION)
    missed = 0 if body.no_show is None else _fee(body, price, wish, ChargePurpose.NO_SHOW)
    return Terms(free_until, late, missed)


def _fee(body: TariffBody, price: Price, wish: Wish, purpose: ChargePurpose) -> int:
    length = to_ms(wish.slot.to_at) - to_ms(wish.slot.from_at)
    ending = Ending(purpose, price.rated.total_fen, 0)
    given = RatingInput(body, price.category, wish.mode, length, 0, wish.quantity, instead=ending)
    return rate(given, CURRENT_CALC_VERSION).total_fen
