import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.errors import BadTopic
from wire.ids import is_stream_id, is_wire_id, kernel_boot_id, new_ulid, session_id, wire_id


def test_a_catalogue_code_becomes_a_lower_case_wire_id() -> None:
    assert wire_id("XC-H01-01") == "xc-h01-01"


@pytest.mark.parametrize(
    "code",
    ["", "ab", "a" * 33, "xc_h01", "xc/h01", "xc h01", "xc+01", "xc#01", "仪器-01", "xc-h01\n", "$sys", "xc.h01"],
)
def test_what_no_topic_can_carry_is_refused_by_name(code: str) -> None:
    assert not is_wire_id(code)
    with pytest.raises(BadTopic, match="cannot be a wire id"):
        wire_id(code)


@given(st.text())
def test_a_wire_id_is_safe_as_one_level_whatever_the_text(text: str) -> None:
    if is_wire_id(text):
        assert text.isascii()
        assert not set(text) & set("/+#$ .\n*>")
        assert wire_id(text) == text


def test_ulids_are_new_each_time_and_are_stream_ids() -> None:
    ids = {new_ulid() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(is_stream_id(text) for text in ids)


@pytest.mark.parametrize(
    "text", ["", "01HZX", "01hzx7w3q8v5k2m4n6p8r0t2y4", "01HZX7W3Q8V5K2M4N6P8R0T2YI", "0" * 26 + "\n"]
)
def test_other_texts_are_not_stream_ids(text: str) -> None:
    assert not is_stream_id(text)


def test_a_session_is_named_by_the_record_that_opens_it() -> None:
    assert session_id("xc-h01-01", "01HZX7W3Q8V5K2M4N6P8R0T2Y4", 7) == "xc-h01-01.01HZX7W3Q8V5K2M4N6P8R0T2Y4.7"


def test_one_boot_has_one_id() -> None:
    assert kernel_boot_id() == kernel_boot_id() != ""
