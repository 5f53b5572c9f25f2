"""Keys of records as runs: few questions, and the same records."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from store.ledger.hashes import runs_of

KEYS = st.lists(st.tuples(st.sampled_from(["a", "b"]), st.sampled_from(["s", "t"]), st.integers(1, 12)), max_size=40)


@given(KEYS)
def test_runs_hold_exactly_the_keys_and_never_touch(keys: list[tuple[str, str, int]]) -> None:
    runs = runs_of(keys)
    assert [(a, s, seq) for a, s, first, last in runs for seq in range(first, last + 1)] == sorted(set(keys))
    for one, next_one in pairwise(runs):
        assert one[:2] != next_one[:2] or one[3] + 1 < next_one[2]
