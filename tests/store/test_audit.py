"""The audit chain: what it promises while events are added, and that any change of a byte is found."""

import sqlite3
import threading
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text

from store.audit import COUNTY_CHAIN, append_audit_event, check_audit_chain
from store.canonical import GENESIS, canonical_json, chain_hash, sha256_hex
from store.database import Database
from store.tables.audit import AuditEvent

NINE = datetime(2026, 3, 2, 1, 0, tzinfo=UTC)


def _append(database: Database, count: int = 1, chain: str = COUNTY_CHAIN) -> None:
    with database.write() as session:
        for number in range(count):
            append_audit_event(
                session,
                chain_id=chain,
                at=NINE,
                actor="p-1",
                action="tried",
                subject=f"thing:{number}",
                after={"number": number, "text": "中文"},
            )


def test_a_chain_goes_on_where_it_stood_before_a_savepoint_that_was_undone(database: Database) -> None:
    said = {"chain_id": COUNTY_CHAIN, "at": NINE, "actor": "p-1", "action": "tried"}
    with database.write() as session:
        append_audit_event(session, subject="thing:1", **said)
        undone = session.begin_nested()
        assert append_audit_event(session, subject="thing:never", **said) == 2
        undone.rollback()
        assert append_audit_event(session, subject="thing:2", **said) == 2
    with database.read() as session:
        assert check_audit_chain(session, COUNTY_CHAIN) is None
        assert session.scalars(select(AuditEvent.subject).order_by(AuditEvent.seq)).all() == ["thing:1", "thing:2"]


def test_a_chain_holds_while_events_are_added_and_chains_do_not_mix(database: Database) -> None:
    _append(database, 5)
    _append(database, 3, "host:h01")
    _append(database, 2)
    with database.read() as session:
        assert check_audit_chain(session, COUNTY_CHAIN) is None
        assert check_audit_chain(session, "host:h01") is None
        rows = session.scalars(select(AuditEvent).where(AuditEvent.chain_id == COUNTY_CHAIN)).all()
        assert sorted(row.seq for row in rows) == [1, 2, 3, 4, 5, 6, 7]
        assert check_audit_chain(session, "host:nobody") is None


def test_an_event_belongs_to_the_transaction_that_did_the_deed(database: Database) -> None:
    _append(database)
    with database.write() as session:
        append_audit_event(session, chain_id=COUNTY_CHAIN, at=NINE, actor="p", action="a", subject="s")
        session.rollback()
    _append(database)
    with database.read() as session:
        assert check_audit_chain(session, COUNTY_CHAIN) is None
        assert len(session.scalars(select(AuditEvent)).all()) == 2


def test_writers_of_one_chain_queue_up(database: Database) -> None:
    threads = [threading.Thread(target=_append, args=(database, 10)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    with database.read() as session:
        assert check_audit_chain(session, COUNTY_CHAIN) is None
        assert len(session.scalars(select(AuditEvent)).all()) == 60


@pytest.mark.parametrize(
    ("tampering", "found_at"),
    [
        ("UPDATE audit_event SET body = x'7b7d' WHERE seq = 3", 3),
        ("UPDATE audit_event SET prev_hash = 'x' WHERE seq = 2", 2),
        ("UPDATE audit_event SET row_hash = 'x' WHERE seq = 4", 4),
        ("DELETE FROM audit_event WHERE seq = 3", 3),
        ("DELETE FROM audit_event WHERE seq = 5", 5),
        ("UPDATE chain_head SET hash = 'x'", 5),
    ],
)
def test_whoever_gets_past_the_guards_is_found_out(sqlite_database: Database, tampering: str, found_at: int) -> None:
    _append(sqlite_database, 5)
    path = sqlite_database.engine.url.database
    assert path is not None
    raw = sqlite3.connect(path, isolation_level=None)
    raw.execute("DROP TRIGGER openlab_audit_event_no_update")
    raw.execute("DROP TRIGGER openlab_audit_event_no_delete")
    raw.execute(tampering)
    raw.close()
    with sqlite_database.read() as session:
        broken = check_audit_chain(session, COUNTY_CHAIN)
    assert broken is not None
    assert (broken.chain_id, broken.seq) == (COUNTY_CHAIN, found_at)


def test_the_stored_bytes_are_what_was_hashed_on_both_engines(database: Database) -> None:
    _append(database)
    with database.read() as session:
        body, row_hash = session.execute(text("SELECT body, row_hash FROM audit_event")).one()
    expected = canonical_json(
        {
            "chain": "county",
            "seq": 1,
            "at_ms": 1_772_413_200_000,
            "actor": "p-1",
            "action": "tried",
            "subject": "thing:0",
            "before": None,
            "after": {"number": 0, "text": "中文"},
        }
    )
    assert bytes(body) == expected
    assert row_hash == chain_hash(GENESIS, expected)


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None)
@given(st.dictionaries(texts, values, max_size=5), st.randoms(use_true_random=False))
def test_canonical_bytes_do_not_depend_on_the_order_of_the_keys(value: dict, random) -> None:
    names = list(value)
    random.shuffle(names)
    assert canonical_json({name: value[name] for name in names}) == canonical_json(value)
    assert len(sha256_hex(canonical_json(value))) == 64


@pytest.mark.parametrize("value", [1.0, {"a": [1, {"b": 0.5}]}, [float("nan")], {1: "a"}, {"a": ({"b": 2.0},)}])
def test_floats_and_keys_that_are_no_text_are_refused(value: object) -> None:
    with pytest.raises(TypeError):
        canonical_json(value)


def test_a_float_in_an_event_is_refused_and_nothing_is_written(database: Database) -> None:
    with pytest.raises(TypeError, match="float"), database.write() as session:
        append_audit_event(
            session, chain_id=COUNTY_CHAIN, at=NINE, actor="p", action="a", subject="s", after={"fee": 1.5}
        )
    with database.read() as session:
        assert check_audit_chain(session, COUNTY_CHAIN) is None
