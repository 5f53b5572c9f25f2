"""Money rounds once, half away from zero; months are those of Shanghai, edges included."""

from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from store.money import net_of_vat, round_half_up, yuan
from store.periods import (
    SHANGHAI,
    PeriodKind,
    check_month,
    format_period,
    month_bounds,
    month_of,
    month_of_interval,
    months_of_period,
    next_month,
    parse_month,
    parse_period,
)

MILLISECOND = timedelta(milliseconds=1)
amounts = st.integers(-(10**15), 10**15)
months = st.builds(lambda year, month: year * 100 + month, st.integers(2000, 2998), st.integers(1, 12))
instants = st.datetimes(datetime(2000, 1, 1), datetime(2900, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@given(amounts, st.integers(1, 10**9))
@example(1, 2)
@example(-1, 2)
@example(3, 2)
@example(-5, 10)
def test_rounding_is_to_the_nearest_and_ties_go_away_from_zero(numerator: int, denominator: int) -> None:
    exact, rounded = Fraction(numerator, denominator), round_half_up(numerator, denominator)
    assert abs(exact - rounded) <= Fraction(1, 2)
    if abs(exact - rounded) == Fraction(1, 2):
        assert abs(rounded) > abs(exact)


@given(amounts, st.integers(1, 10**9))
def test_a_reversal_rounds_to_exactly_the_negative(numerator: int, denominator: int) -> None:
    assert round_half_up(-numerator, denominator) == -round_half_up(numerator, denominator)


@given(amounts, st.integers(1, 1000))
def test_ties_are_hit_exactly(whole: int, half: int) -> None:
    assert round_half_up(whole * 2 * half + half, 2 * half) == (whole + 1 if whole >= 0 else whole)


@pytest.mark.parametrize("denominator", [0, -1])
def test_a_denominator_below_one_is_refused(denominator: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        round_half_up(1, denominator)


def test_net_and_vat_of_the_published_examples() -> None:
    assert net_of_vat(90_000, 600) == 84_906
    assert net_of_vat(15_000, 600) == 14_151
    assert 90_000 - net_of_vat(90_000, 600) == 5_094


@given(st.integers(0, 10**13), st.integers(0, 10_000))
def test_net_lies_between_nothing_and_the_gross_price(gross: int, rate_bp: int) -> None:
    assert 0 <= net_of_vat(gross, rate_bp) <= gross
    assert net_of_vat(-gross, rate_bp) == -net_of_vat(gross, rate_bp)


@given(amounts)
def test_an_amount_is_written_exactly(fen: int) -> None:
    written = yuan(fen)
    assert Fraction(written) * 100 == fen
    assert written.partition(".")[2].isdigit()
    assert len(written.partition(".")[2]) == 2


@given(instants)
def test_shanghai_is_eight_hours_ahead_at_any_instant(moment: datetime) -> None:
    local = moment.astimezone(SHANGHAI)
    assert local.utcoffset() == timedelta(hours=8)
    assert month_of(moment) == local.year * 100 + local.month


@given(months)
def test_months_tile_time_without_gap_or_overlap(month: int) -> None:
    start, end = month_bounds(month)
    assert start.tzinfo is UTC
    assert month_of(start) == month
    assert month_of(end - MILLISECOND) == month
    assert month_of(end) == next_month(month)
    assert month_bounds(next_month(month))[0] == end


def test_what_ends_at_midnight_of_the_first_belongs_to_the_month_before() -> None:
    midnight = datetime(2026, 4, 1, 0, 0, tzinfo=SHANGHAI)
    assert month_of_interval(midnight) == 202603
    assert month_of_interval(midnight + MILLISECOND) == 202604
    assert month_of(midnight) == 202604
    assert month_of(datetime(2025, 12, 31, 16, 0, tzinfo=UTC)) == 202601
    assert month_of(datetime(2025, 12, 31, 15, 59, 59, 999_000, tzinfo=UTC)) == 202512


@given(months, st.integers(-500, 500))
def test_counting_months_there_and_back_comes_to_the_same(month: int, count: int) -> None:
    assert next_month(next_month(month, count), -count) == month


@given(months, st.sampled_from(PeriodKind))
def test_a_period_is_read_back_from_its_text_and_starts_where_its_kind_may(month: int, kind: PeriodKind) -> None:
    length = {PeriodKind.MONTH: 1, PeriodKind.QUARTER: 3, PeriodKind.YEAR: 12}[kind]
    if (month % 100 - 1) % length:
        with pytest.raises(ValueError, match="starts at"):
            months_of_period(kind, month)
        return
    listed = months_of_period(kind, month)
    assert (len(listed), listed[0]) == (length, month)
    assert parse_period(format_period(kind, month)) == (kind, month)


@pytest.mark.parametrize("text", ["", "2026-13", "202600", "26-11", "2026-Q5", "2026-Q0", "last year", "2026-1"])
def test_what_is_no_period_is_refused_with_the_forms_that_are(text: str) -> None:
    with pytest.raises(ValueError):
        parse_period(text)
    with pytest.raises(ValueError):
        parse_month(text)


def test_a_naive_datetime_belongs_to_no_month() -> None:
    with pytest.raises(ValueError, match="naive"):
        month_of(datetime(2026, 1, 1))  # noqa: DTZ001
    with pytest.raises(ValueError, match="not a month"):
        check_month(202613)
