"""Notices that were rows of the outbox become notices, with what was read of them, and rows of the outbox again."""

from typing import Any

import pytest
from sqlalchemy import Connection, MetaData, insert, select

from store.audit import append_audit_event
from store.migrations import downgrade, upgrade
from tests.support.databases import ENGINES, DatabaseServers, opened
from wire.clock import from_ms

BEFORE, AFTER = "0013", "0014"
EVENTS = (
    ("tariff.proposed", "tariff_proposal:x", {"instrument_id": "i"}),
    ("anomaly.found", "anomaly:a", {"rule": "session_without_booking"}),
    ("anomaly.found", "anomaly:b", {"rule": "ran_past_slot"}),
    ("notices_read", "inbox:p-1", {"notice": "N3"}),
    ("notices_read", "inbox:p-1", {"until": "N1"}),
)
MAILS = {
    "p-1/N1/manager/county/1": "sent",
    "p-1/N2/manager/county/2": "waiting",
    "p-1/N3/manager/county/3": "dropped",
    "p-2/N4/county/county/3": "waiting",
    "N9": "waiting",  # of a booking
}


def _add(connection: Connection, name: str, **values: Any) -> None:
    known = MetaData()
    known.reflect(connection, only=[name], resolve_fks=False)
    table = known.tables[name]
    for column in table.columns:
        if not column.nullable and column.name not in values:
            values[column.name] = True if str(column.type) == "BOOLEAN" else 0 if "INT" in str(column.type) else ""
    connection.execute(insert(table), values)


def _rows(connection: Connection, name: str) -> list[Any]:
    known = MetaData()
    known.reflect(connection, only=[name], resolve_fks=False)
    return list(connection.execute(select(known.tables[name])))


@pytest.mark.slow_on_postgresql
@pytest.mark.parametrize("engine", ENGINES)
def test_what_waited_in_the_outbox_and_what_was_read_is_carried_over_and_back(
    engine: str, database_servers: DatabaseServers
) -> None:
    with database_servers.unmigrated_url(engine) as url, opened(url) as database:
        upgrade(database.engine, revision=BEFORE)
        with database.write() as session:
            for seq, (action, subject, after) in enumerate(EVENTS, 1):
                said = {"action": action, "subject": subject, "after": after, "actor": "p-1"}
                append_audit_event(session, chain_id="county", at=from_ms(1_000 + seq), **said)
        with database.engine.begin() as connection:
            _add(connection, "org", org_id="o", uscc="u", kind="sme", state="active")
            for person in ("p-1", "p-2"):
                _add(connection, "person", person_id=person, login=person, org_id="o", language="zh")
            for key, state in MAILS.items():
                ended = None if state == "waiting" else 7
                _add(connection, "mail", source="notice", source_id=key, state=state, written_at=5, ended_at=ended)
        upgrade(database.engine, revision=AFTER)
        with database.engine.begin() as connection:
            found = {row.notice_id: row for row in _rows(connection, "notice")}
            assert {row.source_id: row.state for row in _rows(connection, "mail")} == {
                key.rsplit("/", 3)[0].rpartition("/")[2] if "/" in key else key: state for key, state in MAILS.items()
            }
        assert [(one.person_id, one.party, one.kind, one.seq, one.read_at) for one in found.values()] == [
            ("p-1", "manager", "tariff-proposed", 1, 1_005),
            ("p-1", "manager", "unbooked-use", 2, None),
            ("p-1", "manager", "anomaly-found", 3, 1_004),
            ("p-2", "county", "anomaly-found", 3, None),
        ]
        assert {one.at for one in found.values()} == {5}
        downgrade(database.engine, revision=BEFORE)
        with database.engine.begin() as connection:
            assert {row.source_id: row.state for row in _rows(connection, "mail")} == MAILS
            assert _rows(connection, "notice") == []
