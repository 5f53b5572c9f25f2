"""The demonstration county: complete, valid, neutral, and the same however often it is loaded."""

from datetime import timedelta

import pytest
from sqlalchemy import func, select

from api.accounts.uscc import is_valid
from api.seeding import host_rows, instrument_rows, load_registry
from api.seeding.people import host_deputy, host_manager, seats, seed_orgs, seed_people
from api.seeding.registry import certificate_validity
from api.work import Work, system_actor
from store.audit import check_audit_chain
from store.tables.accounts import Person, Role, RoleGrant
from store.tables.audit import AuditEvent, ChainHead
from store.tables.registry import Agent, Certificate, Host, Instrument, Lab, Metering, Org, TestItem
from tests.support.api_client import ApiClient
from wire.clock import from_ms, to_ms
from wire.ids import is_wire_id

pytestmark = pytest.mark.slow_on_postgresql

COUNTED = (Org, Host, Lab, Instrument, TestItem, Certificate, Agent, Metering, Person, RoleGrant, AuditEvent)


def _counts(client: ApiClient) -> dict[str, int]:
    with client.parts.database.read() as session:
        return {t.__tablename__: session.scalar(select(func.count()).select_from(t)) or 0 for t in COUNTED}


def _seed(client: ApiClient):
    with client.parts.database.write() as session:
        return load_registry(
            Work(session, system_actor("seed"), client.parts.now()), password_for=lambda login: "x" * 12
        )


def test_there_are_20_hosts_with_82_labs_and_instruments(client: ApiClient) -> None:
    seeded = _seed(client)
    assert (seeded.hosts, seeded.labs, seeded.instruments) == (20, 82, 82)
    counts = _counts(client)
    assert (counts["host"], counts["lab"], counts["instrument"]) == (20, 82, 82)
    assert counts["agent"] == counts["metering"] == counts["certificate"] == counts["test_item"] == 82
    assert counts["org"] == 20 + 40 + 2
    assert counts["person"] == len(seeded.logins)


def test_a_second_seed_changes_nothing(client: ApiClient) -> None:
    _seed(client)
    before = _counts(client)
    client.parts.clock.advance(3 * 86_400_000)  # type: ignore[attr-defined]
    again = _seed(client)
    assert (again.orgs, again.hosts, again.labs, again.instruments, again.logins) == (0, 0, 0, 0, ())
    assert _counts(client) == before


def test_what_went_missing_is_added_without_touching_the_rest(sqlite_client: ApiClient) -> None:
    _seed(sqlite_client)
    with sqlite_client.parts.database.write() as session:
        session.delete(session.get_one(RoleGrant, (host_deputy("h20"), Role.LAB_MANAGER, "h20")))
        session.delete(session.get_one(Person, host_deputy("h20")))
    again = _seed(sqlite_client)
    assert [login.login for login in again.logins] == ["h20-deputy"]


def test_every_signature_finds_two_people(sqlite_county: ApiClient) -> None:
    with sqlite_county.parts.database.read() as session:
        for host_id in session.scalars(select(Host.host_id)):
            managers = session.scalars(select(RoleGrant.person_id).where(RoleGrant.host_scope == host_id)).all()
            assert set(managers) == {host_manager(host_id), host_deputy(host_id)}
        for role in (Role.COUNTY_OFFICER, Role.FINANCE):
            assert len(session.scalars(select(RoleGrant).where(RoleGrant.role == role)).all()) == 2


def test_every_code_is_valid_and_every_id_can_travel(sqlite_county: ApiClient) -> None:
    with sqlite_county.parts.database.read() as session:
        assert all(is_valid(code) and code[2:8] == "990000" for code in session.scalars(select(Org.uscc)))
        assert all(is_wire_id(each) for each in session.scalars(select(Instrument.instrument_id)))
        assert all(is_wire_id(each) for each in session.scalars(select(Agent.agent_id)))
        first = session.get_one(Instrument, "xc-h01-01")
        assert (first.code, first.lab_id, first.host_id) == ("XC-H01-01", "l01", "h01")
        assert (first.power_running_w, first.original_value_fen) == (4200, 35_000_000)
        metering = session.scalars(select(Metering).where(Metering.instrument_id == "xc-h01-01")).one()
        assert metering.agent_id == "a-h01-01"


def test_every_certificate_is_valid_a_week_before_and_a_month_after_the_seed(sqlite_county: ApiClient) -> None:
    now = sqlite_county.parts.now()
    with sqlite_county.parts.database.read() as session:
        for row in session.scalars(select(Certificate)):
            assert row.valid_from < now - timedelta(days=7)
            assert row.valid_to > now + timedelta(days=30)
    for place in range(200):
        start, end = certificate_validity(now, place, 6)
        assert start <= now - timedelta(days=29)
        assert end >= now + timedelta(days=30)
        assert to_ms(from_ms(to_ms(start))) == to_ms(start)


def test_every_fact_is_in_an_audit_chain_that_holds(county: ApiClient) -> None:
    with county.parts.database.read() as session:
        chains = session.scalars(select(ChainHead.chain_id)).all()
        assert set(chains) == {"county"} | {f"host:h{number:02d}" for number in range(1, 21)}
        assert [check_audit_chain(session, chain) for chain in chains] == [None] * 21


def test_passwords_are_made_at_random_where_nobody_chooses_them(sqlite_client: ApiClient) -> None:
    with sqlite_client.parts.database.write() as session:
        work = Work(session, system_actor("seed"), sqlite_client.parts.now())
        seed_orgs(work)
        logins = seed_people(work, seats([])[:5])
    assert len({each.password for each in logins}) == 5
    assert min(len(each.password) for each in logins) >= 16
    assert logins[0].password not in repr(logins)


def test_the_files_are_the_catalogue_the_county_agreed_on() -> None:
    assert sum(int(row["open_lab_count"]) for row in host_rows()) == 82
    assert len({row["lab_code"] for row in instrument_rows()}) == 82
    assert {row["host_code"] for row in instrument_rows()} == {row["host_code"] for row in host_rows()}
