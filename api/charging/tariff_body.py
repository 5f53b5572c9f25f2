"""The price list of one instrument as one document: `openlab.tariff/1` to `/3`. Pure: text in, frozen values out.

Used by the tariff service (to publish), by rating (to price) and by verification (to price again). What is stored is
`canonical_body`, byte for byte; its hash names the version. /2 adds optional fields to /1: absent fields are not
written, so every document of /1 reads, prices and hashes as it always did. In /3 the days of bands are those of the
public calendar: holidays, and weekend days that are worked. The parts are in tariff_parts.
"""

from functools import lru_cache
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, ValidationError, model_validator

from api.charging.tariff_parts import (
    Band,
    CancellationTerms,
    CategoryPrices,
    CountUnit,
    Day,
    FieldFault,
    FirstPrice,
    NoShowTerms,
    Option,
    OptionKind,
    OptionPer,
    Part,
    Prices,
    Rush,
    SlotPrice,
    TimeBasis,
    TimePrice,
    TimeUnit,
    UnitPrice,
    Uplifts,
    UserCategory,
    check_codes,
)
from store.canonical import canonical_json

__all__ = [
    "BadTariff",
    "Band",
    "CancellationTerms",
    "CategoryPrices",
    "CountUnit",
    "Day",
    "FirstPrice",
    "NoShowTerms",
    "Option",
    "OptionKind",
    "OptionPer",
    "Prices",
    "Rush",
    "SlotPrice",
    "TariffBody",
    "TimeBasis",
    "TimePrice",
    "TimeUnit",
    "UnitPrice",
    "Uplifts",
    "UserCategory",
    "body_document",
    "canonical_body",
    "parse_body",
    "read_body",
]

TARIFF_1: Literal["openlab.tariff/1"] = "openlab.tariff/1"
TARIFF_2: Literal["openlab.tariff/2"] = "openlab.tariff/2"
TARIFF_3: Literal["openlab.tariff/3"] = "openlab.tariff/3"
_SINCE_2 = ("uplifts", "list_prices", "rush", "options", "cancellation", "no_show")


class BadTariff(ValueError):
    """A document that is no tariff. `field` is the path of the first wrong field, `why` says what is wrong with it."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(f"{field}: {why}")
        self.field = field
        self.why = why


class TariffBody(Part):
    """A whole price list. Amounts are fen and include VAT at `vat_rate_bp` (hundredths of a per cent).

    `early_grace_s`/`late_grace_s`: how long before and after the slot use still counts as this booking's. They are
    read when use is matched to the booking; by the time of rating the metered time has been cut accordingly.
    `list_prices`: what the lab asks on the open market; the difference to the actual price is the customer's saving.
    """

    schema_name: Literal["openlab.tariff/1", "openlab.tariff/2", "openlab.tariff/3"] = Field(
        "openlab.tariff/1", alias="schema"
    )
    currency: Literal["CNY"] = "CNY"
    vat_rate_bp: Annotated[int, Field(ge=0, le=10_000)] = 600
    time_basis: Annotated[TimeBasis, Field(strict=False)] = TimeBasis.METERED
    default: Prices
    overrides: CategoryPrices = CategoryPrices()
    early_grace_s: Annotated[int, Field(ge=0, le=86_400)] = 900
    late_grace_s: Annotated[int, Field(ge=0, le=86_400)] = 900
    uplifts: Uplifts | None = None
    list_prices: Prices | None = None
    rush: Annotated[tuple[Rush, ...] | None, Field(strict=False)] = None
    options: Annotated[tuple[Option, ...] | None, Field(strict=False)] = None
    cancellation: CancellationTerms | None = None
    no_show: NoShowTerms | None = None

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=True, serialize_by_alias=True)

    @model_validator(mode="after")
    def _fields_fit_the_schema(self) -> Self:
        if self.schema_name == TARIFF_1:
            new = self._first_new_field()
            if new is not None:
                raise FieldFault(new, f"{TARIFF_1} does not know this field; write schema {TARIFF_2}")
        if self.schema_name != TARIFF_3 and (holiday := self._first_holiday_field()) is not None:
            raise FieldFault(holiday, f"{self.schema_name} does not know public holidays; write schema {TARIFF_3}")
        check_codes("rush", [each.code for each in self.rush or ()])
        check_codes("options", [each.code for each in self.options or ()])
        return self

    def prices_for(self, category: UserCategory) -> Prices:
        """Return the category's own prices, or the default."""
        own: Prices | None = getattr(self.overrides, category.value)
        return self.default if own is None else own

    def uplift_for(self, category: UserCategory) -> int:
        """Return what the category pays more or less, in 1/100 %."""
        return 0 if self.uplifts is None else int(getattr(self.uplifts, category.value))

    def rush_called(self, code: str) -> Rush | None:
        """Return a rush level by its code."""
        return next((each for each in self.rush or () if each.code == code), None)

    def option_called(self, code: str) -> Option | None:
        """Return an option by its code."""
        return next((each for each in self.options or () if each.code == code), None)

    def _every_prices(self) -> list[tuple[str, Prices]]:
        listed = [("default", self.default)]
        return listed + [(f"overrides.{each.value}", self.prices_for(each)) for each in UserCategory]

    def _first_holiday_field(self) -> str | None:
        listed = self._every_prices() + ([] if self.list_prices is None else [("list_prices", self.list_prices)])
        return next((f"{path}.{each.holiday_field}" for path, each in listed if each.holiday_field is not None), None)

    def _first_new_field(self) -> str | None:
        for path, prices in self._every_prices():
            if prices.new_field is not None:
                return f"{path}.{prices.new_field}"
        return next((name for name in _SINCE_2 if getattr(self, name) is not None), None)


def parse_body(document: Any) -> TariffBody:
    """Read a tariff document (parsed JSON). Raises BadTariff that names the first wrong field."""
    try:
        return TariffBody.model_validate(document)
    except ValidationError as error:
        raise _first_fault(error) from None


@lru_cache(maxsize=1024)
def read_body(text: str) -> TariffBody:
    """Read the stored text of a tariff. Raises BadTariff. What was read is remembered: it is frozen."""
    try:
        return TariffBody.model_validate_json(text)
    except ValidationError as error:
        raise _first_fault(error) from None


def body_document(body: TariffBody) -> dict[str, Any]:
    """Return the document as plain JSON values; what is not set is left out."""
    return body.model_dump(mode="json", by_alias=True, exclude_none=True)


def canonical_body(body: TariffBody) -> bytes:
    """Return the one byte form of a tariff: what is stored and hashed."""
    return canonical_json(body_document(body))


def _first_fault(error: ValidationError) -> BadTariff:
    first = error.errors(include_url=False, include_input=False)[0]
    path = [str(part) for part in first["loc"]]
    fault = first.get("ctx", {}).get("error")
    if isinstance(fault, FieldFault):
        return BadTariff(".".join([*path, fault.field]), fault.why)
    return BadTariff(".".join(path) or "body", first["msg"])
