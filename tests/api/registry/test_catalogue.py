"""What the public sees without signing in: hosts, labs, instruments and what each instrument says of itself."""

from datetime import timedelta

import pytest
from sqlalchemy import select

from store.tables.registry import Certificate
from store.tables.usage import AgentStatus, MeterPosition, UsageStream
from tests.support.api_client import ApiClient
from wire.ids import new_ulid

pytestmark = pytest.mark.slow_on_postgresql


def _ids(answer) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [each["instrument_id"] for each in answer.json()["items"]]


def test_a_list_is_read_page_by_page_without_gap_or_repeat(county: ApiClient) -> None:
    seen: list[str] = []
    cursor = None
    while True:
        page = county.get("/instruments", params={"limit": 30} | ({"cursor": cursor} if cursor else {})).json()
        seen += [each["instrument_id"] for each in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) == 82
    assert seen == sorted(seen)


def test_a_page_that_ends_with_the_list_says_so(county: ApiClient) -> None:
    page = county.get("/hosts", params={"limit": 20}).json()
    assert (len(page["items"]), page["next_cursor"]) == (20, None)
    first = page["items"][0]
    assert (first["host_id"], first["lab_count"], first["instrument_count"]) == ("h01", 6, 6)


def test_filters_hold_together(county: ApiClient) -> None:
    assert len(_ids(county.get("/instruments", params={"host": "h13"}))) == 6
    assert _ids(county.get("/instruments", params={"lab": "l20"})) == ["xc-h05-03"]
    assert len(_ids(county.get("/instruments", params={"category": "03", "limit": 200}))) == 6
    in_town = _ids(county.get("/instruments", params={"town": "沃洲镇"}))
    assert in_town == _ids(county.get("/instruments", params={"town": "Wozhou Town"}))
    assert {each[:6] for each in in_town} == {"xc-h04"}
    assert _ids(county.get("/instruments", params={"host": "h13", "category": "03"})) == []


def test_text_is_found_anywhere_in_both_languages(county: ApiClient) -> None:
    assert "xc-h01-01" in _ids(county.get("/instruments", params={"text": "寿命"}))
    assert "xc-h05-03" in _ids(county.get("/instruments", params={"text": "nmr"}))
    assert "xc-h01-03" in _ids(county.get("/instruments", params={"text": "圆柱度"}))  # a test item
    assert _ids(county.get("/instruments", params={"text": "xc-h20-02"})) == ["xc-h20-02"]


def test_signs_with_a_meaning_in_sql_are_only_signs(county: ApiClient) -> None:
    for text in ("%%", "_", "'; DROP TABLE org; --"):
        assert _ids(county.get("/instruments", params={"text": text})) == []
    assert len(county.get("/hosts").json()["items"]) == 20


def test_an_instrument_shows_its_tests_papers_and_money_as_number_and_text(county: ApiClient) -> None:
    body = county.get("/instruments/XC-H01-01").json()
    assert body["instrument_id"] == "xc-h01-01"
    assert (body["original_value_fen"], body["original_value_yuan"]) == (35_000_000, "350000.00")
    assert body["test_items"][0]["standard"] == "GB/T 24607"
    assert body["certificate_valid"] is True
    assert body["certificates"][0]["valid_to"].endswith("T00:00:00+08:00")
    assert body["witness"] == {
        "agent_id": "a-h01-01",
        "online": None,
        "heard_at": None,
        "state": "unknown",
        "accounted_to": None,
    }


def test_a_certificate_that_ran_out_is_shown_as_not_valid(county: ApiClient) -> None:
    with county.parts.database.read() as session:
        paper = session.scalars(select(Certificate).where(Certificate.instrument_id == "xc-h01-01")).one()
    left = paper.valid_to - county.parts.now()
    county.parts.clock.advance(int((left - timedelta(seconds=1)) / timedelta(milliseconds=1)))  # type: ignore[attr-defined]
    assert county.get("/instruments/xc-h01-01").json()["certificate_valid"] is True
    county.parts.clock.advance(1000)  # type: ignore[attr-defined]
    assert county.get("/instruments/xc-h01-01").json()["certificate_valid"] is False


def test_the_witness_is_what_the_instrument_itself_says(county: ApiClient) -> None:
    now, stream = county.parts.now(), new_ulid()
    with county.parts.database.write() as session:
        session.add(
            UsageStream(
                agent_id="a-h01-01",
                stream=stream,
                kind="usage",
                upto=3,
                chain_seq=0,
                chain_hash="0" * 64,
                chained_upto=0,
                first_seen_at=now,
                last_seen_at=now,
            )
        )
        session.flush()
        session.add(
            MeterPosition(
                agent_id="a-h01-01",
                stream=stream,
                instrument_id="xc-h01-01",
                last_seq=3,
                boot="b",
                to_ms=0,
                accounted_to=now,
                state="running",
                odo_off_ms=0,
                odo_standby_ms=0,
                odo_running_ms=1,
                odo_unknown_ms=0,
                sessions=1,
                open_session_id=None,
            )
        )
        session.add(
            AgentStatus(
                agent_id="a-h01-01",
                online=True,
                changed_at=now,
                heard_at=now,
                boot="b",
                software="1",
                queued=0,
                dropped=0,
                skew_ms=0,
            )
        )
    assert county.get("/instruments/xc-h01-01").json()["witness"] == {
        "agent_id": "a-h01-01",
        "online": True,
        "heard_at": "2026-03-02T09:00:00+08:00",
        "state": "running",
        "accounted_to": "2026-03-02T09:00:00+08:00",
    }
