"""The check of the unified social credit code, against the standard's rule and against slips of the hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.accounts.uscc import ALPHABET, is_valid, make, organisation_code
from api.seeding.people import SME_COUNT, demo_uscc

bodies = st.text(ALPHABET, min_size=17, max_size=17)


@given(bodies)
def test_what_is_made_is_valid(body: str) -> None:
    assert is_valid(make(body))


@given(bodies, st.integers(0, 17), st.sampled_from(ALPHABET))
def test_one_wrong_character_is_always_found(body: str, place: int, other: str) -> None:
    code = make(body)
    changed = code[:place] + other + code[place + 1 :]
    assert is_valid(changed) == (changed == code)


@given(bodies, st.integers(0, 15))
def test_two_neighbours_swapped_are_always_found(body: str, place: int) -> None:
    code = make(body)
    swapped = code[:place] + code[place + 1] + code[place] + code[place + 2 :]
    assert is_valid(swapped) == (swapped == code)


@given(bodies)
def test_the_weighted_sum_of_a_valid_code_is_a_multiple_of_31(body: str) -> None:
    code = make(body)
    total = sum(ALPHABET.index(character) * 3**place for place, character in enumerate(code[:17]))
    assert (total + ALPHABET.index(code[17])) % 31 == 0


@pytest.mark.parametrize("code", ["", "9" * 17, "9" * 19, "91990000I23456789X", make("9" * 17).lower() + " "])
def test_what_has_another_form_is_not_valid(code: str) -> None:
    assert not is_valid(code)


def test_making_refuses_what_cannot_be_a_body() -> None:
    with pytest.raises(ValueError, match="17 characters"):
        make("123")
    with pytest.raises(ValueError, match="'O'"):
        make("O" * 17)
    with pytest.raises(ValueError, match="8 digits"):
        organisation_code("12345")


def test_demo_codes_are_valid_different_and_of_a_region_nobody_has() -> None:
    codes = {demo_uscc(number) for number in range(1, SME_COUNT + 200)}
    assert len(codes) == SME_COUNT + 199
    assert all(is_valid(code) and code[2:8] == "990000" for code in codes)
