"""The tariff document: what it refuses and by which field, and that its bytes come back unchanged."""

import json

import pytest
from pydantic import ValidationError

from api.charging.tariff_body import BadTariff, TimeBasis, UserCategory, canonical_body, parse_body, read_body

HOURLY = {"per": "hour", "unit_fen": 40_000, "step_s": 1800, "minimum_s": 3600}
BODY = {
    "schema": "openlab.tariff/1",
    "currency": "CNY",
    "vat_rate_bp": 600,
    "time_basis": "larger",
    "default": {"time": HOURLY, "setup_fen": 10_000},
    "overrides": {"own": {"unit": {"per": "sample", "unit_fen": 100}}},
    "late_grace_s": 600,
}


def test_a_document_comes_back_byte_for_byte():
    body = parse_body(BODY)
    text = canonical_body(body).decode()
    assert canonical_body(read_body(text)) == text.encode()
    assert read_body(text) == body
    assert body.time_basis is TimeBasis.LARGER


def test_what_is_not_set_is_not_written():
    document = json.loads(canonical_body(parse_body({"default": {"time": HOURLY}})))
    assert "unit" not in document["default"]
    assert document["overrides"] == {}


@pytest.mark.parametrize("category", list(UserCategory))
def test_every_category_can_have_prices_of_its_own(category):
    body = parse_body(BODY | {"overrides": {category.value: {"time": HOURLY | {"unit_fen": 1}}}})
    for each in UserCategory:
        time = body.prices_for(each).time
        assert time is not None
        assert time.unit_fen == (1 if each is category else 40_000)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"schema": "openlab.tariff/4"}, "schema"),
        ({"currency": "USD"}, "currency"),
        ({"vat_rate_bp": 10_001}, "vat_rate_bp"),
        ({"vat_rate_bp": "600"}, "vat_rate_bp"),
        ({"default": {}}, "default"),
        ({"default": {"time": HOURLY | {"unit_fen": 400.5}}}, "default.time.unit_fen"),
        ({"default": {"time": HOURLY | {"unit_fen": -1}}}, "default.time.unit_fen"),
        ({"default": {"time": HOURLY | {"step_s": 0}}}, "default.time.step_s"),
        ({"default": {"time": HOURLY | {"minimum_s": 2000}}}, "default.time.minimum_s"),
        ({"default": {"time": HOURLY | {"per": "minute"}}}, "default.time.per"),
        ({"default": {"time": HOURLY, "setup_fen": True}}, "default.setup_fen"),
        ({"default": {"time": HOURLY, "rush_bp": 5_000}}, "default.rush_bp"),
        ({"overrides": {"vip": {"time": HOURLY}}}, "overrides.vip"),
        ({"overrides": {"sme": {"unit": {"per": "sample", "unit_fen": 1, "minimum_units": -1}}}},
         "overrides.sme.unit.minimum_units"),
        ({"late_grace_s": 86_401}, "late_grace_s"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named(change, field):
    with pytest.raises(BadTariff) as caught:
        parse_body(BODY | change)
    assert caught.value.field == field
    assert caught.value.why


@pytest.mark.parametrize("nonsense", [None, [], "tariff", 5])
def test_what_is_no_document_is_refused(nonsense):
    with pytest.raises(BadTariff):
        parse_body(nonsense)


def test_a_body_cannot_be_changed_after_it_was_read():
    body = parse_body(BODY)
    with pytest.raises(ValidationError):
        body.vat_rate_bp = 0
