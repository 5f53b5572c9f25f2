"""The canonical bytes of evidence: the same from any order and any backend, thinned by one fixed rule."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.charging.evidence import (
    LONG_SESSION_MS,
    UseSpan,
    pack,
    read_record_lines,
    read_sample_lines,
    record_lines,
    sample_lines,
    sift,
    summary,
    unpack,
)
from store.series import Sample

INSTRUMENT = "xc-h01-01"


def curve(*instants: int) -> list[Sample]:
    return [Sample(INSTRUMENT, at, at % 1_000, 2) for at in instants]


def span(length_ms: int, period_ms: int = 1000, start_ms: int = 5_000) -> UseSpan:
    return UseSpan("s", start_ms, start_ms + length_ms, period_ms)


@given(st.lists(st.integers(0, 10**6), max_size=50), st.randoms())
def test_the_order_of_samples_does_not_change_their_bytes(instants: list[int], chance: random.Random):
    samples = curve(*instants)
    shuffled = chance.sample(samples, len(samples))
    frozen = sample_lines(shuffled)
    assert frozen.content == sample_lines(samples).content
    assert [at for at, _, _ in read_sample_lines(frozen.content)] == sorted(set(instants))
    assert frozen.item_count == len(set(instants))


@given(
    st.lists(
        st.tuples(st.sampled_from(["a-1", "a-2"]), st.sampled_from(["S1", "S2"]), st.integers(1, 99), st.text()),
        unique_by=lambda record: record[:3],
        max_size=20,
    )
)
def test_records_come_back_byte_for_byte(records):
    kept = [(agent, stream, seq, text.encode()) for agent, stream, seq, text in records]
    frozen = record_lines(kept)
    assert list(read_record_lines(frozen.content)) == sorted(kept)


@given(
    st.integers(LONG_SESSION_MS - 1, LONG_SESSION_MS + 1),
    st.lists(st.integers(0, 400).map(lambda n: n * 997), unique=True, max_size=80),
)
def test_only_spans_beyond_eight_hours_are_thinned_to_one_in_ten_seconds(length, offsets):
    use = span(length)
    samples = curve(*sorted(use.from_ms + offset for offset in offsets))
    kept = sift(samples, use).kept
    if length <= LONG_SESSION_MS:
        assert list(kept) == samples
        return
    slots = [sample.at_ms // 10_000 for sample in kept]
    assert len(slots) == len(set(slots))
    assert set(slots) == {sample.at_ms // 10_000 for sample in samples}
    assert all(sample == next(s for s in samples if s.at_ms // 10_000 == sample.at_ms // 10_000) for sample in kept)


@pytest.mark.parametrize(
    ("length", "offsets", "expected", "present"),
    [
        (10_000, range(0, 10_000, 1000), 10, 10),
        (10_000, range(0, 10_000, 500), 10, 10),
        (10_001, range(0, 10_000, 1000), 11, 10),
        (10_000, [999, 1000, 1999], 10, 2),
        (10_000, [], 10, 0),
        (0, [], 0, 0),
    ],
)
def test_coverage_counts_the_periods_that_hold_a_sample(length, offsets, expected, present):
    use = span(length)
    sifted = sift(curve(*(use.from_ms + offset for offset in offsets)), use)
    assert (sifted.expected, sifted.present) == (expected, present)


def test_a_curve_in_few_numbers():
    told = summary(sample_lines(curve(1_000, 2_500, 3_999)).content)
    assert (told.samples, told.first_ms, told.last_ms) == (3, 1_000, 3_999)
    assert (told.power_min_mw, told.power_max_mw, told.power_mean_mw) == (0, 999, 499)
    assert summary(b"").samples == 0


def test_what_is_packed_is_unpacked_and_damage_is_refused():
    frozen = sample_lines(curve(1, 2, 3))
    row = pack("c-1", frozen)
    assert unpack(row) == frozen.content
    row.content_sha256 = "0" * 64
    with pytest.raises(ValueError, match="does not match its hash"):
        unpack(row)
    row.content = b"not packed"
    with pytest.raises(ValueError, match="cannot be unpacked"):
        unpack(row)
