"""Where somebody is signed in: seen with the last use, ended one by one or all, by oneself or an admin."""

from datetime import timedelta

import pytest

from api.accounts.service import create_person, grant_role
from api.deps import Parts
from api.security import USE_NOTED_EVERY
from api.work import Work, system_actor
from store.tables.accounts import AccessToken, Role
from tests.support.api_client import TEST_ORG, ApiClient, in_process, test_parts
from wire.clock import ManualClock, SystemClock

PASSWORD = "correct-horse-battery"
KEY = {"Idempotency-Key": "x"}


@pytest.fixture
def kim(client: ApiClient) -> ApiClient:
    """An API with an officer `kim` who has a password; returns a client that is not signed in."""
    add_kim(client)
    return client


def add_kim(client: ApiClient) -> None:
    client.signed_in(Role.ADMIN)
    with client.parts.database.write() as session:
        work = Work(session, system_actor("test"), client.parts.now())
        create_person(work, login="kim", name="金", org_id=TEST_ORG, password=PASSWORD, person_id="p-kim")
        grant_role(work, "p-kim", Role.COUNTY_OFFICER)


def browser(client: ApiClient) -> dict[str, str]:
    """Sign in as a browser; return its cookie."""
    client.http.cookies.clear()
    assert client.request("POST", "/sessions", json={"login": "kim", "password": PASSWORD}).status_code == 201
    cookies = dict(client.http.cookies)
    client.http.cookies.clear()
    return cookies


def using(client: ApiClient, cookies: dict[str, str]) -> ApiClient:
    client.http.cookies.clear()
    client.http.cookies.update(cookies)
    return client


def test_sessions_are_listed_with_their_last_use_and_ended_one_by_one(kim: ApiClient) -> None:
    first, second = browser(kim), browser(kim)
    listed = using(kim, first).get("/sessions").json()["items"]
    assert [each["kind"] for each in listed] == ["session", "session"]
    assert {each["last_used_from"] for each in listed} == {"testclient"}
    assert all(each["last_used_at"] is not None for each in listed)
    newest = listed[0]["token_id"]
    assert kim.request("DELETE", f"/sessions/{newest}", headers=KEY).json()["revoked_at"] is not None
    assert using(kim, second).get("/me").status_code == 401
    assert using(kim, first).get("/me").status_code == 200


def test_everywhere_but_here(kim: ApiClient) -> None:
    here, there = browser(kim), browser(kim)
    program = using(kim, here).request("POST", "/tokens", json={"name": "月报"}, headers=KEY).json()["token"]
    asked = {"tokens": False, "keep_current": True}
    ended = kim.request("POST", "/sessions/revocation", json=asked, headers=KEY | {"Idempotency-Key": "a"})
    assert (ended.status_code, ended.json()) == (201, {"ended": 1})
    assert using(kim, there).get("/me").status_code == 401
    kim.http.cookies.clear()
    assert ApiClient(kim.parts, kim.http, program).get("/me").status_code == 200
    everything = using(kim, here).request("POST", "/sessions/revocation", json={}, headers={"Idempotency-Key": "b"})
    assert everything.json() == {"ended": 2}
    assert using(kim, here).get("/me").status_code == 401


def test_an_admin_sees_and_ends_anybodys_and_nobody_else_does(kim: ApiClient) -> None:
    cookies = browser(kim)
    admin, officer = kim.signed_in(Role.ADMIN), kim.signed_in(Role.COUNTY_OFFICER)
    [one] = admin.get("/people/p-kim/sign-ins").json()["items"]
    assert "token_sha256" not in one
    assert admin.get("/people/p-kim/sign-ins?kind=bearer").json()["items"] == []
    assert kim.signed_in(Role.AUDITOR).get("/people/p-kim/sign-ins").status_code == 200
    assert officer.get("/people/p-kim/sign-ins").status_code == 403
    assert officer.request("DELETE", f"/people/p-kim/sign-ins/{one['token_id']}").status_code == 403
    assert admin.request("DELETE", f"/people/{officer.person_id}/sign-ins/{one['token_id']}").status_code == 404
    assert admin.request("DELETE", f"/people/p-kim/sign-ins/{one['token_id']}").json()["revoked_at"] is not None
    assert using(kim, cookies).get("/me").status_code == 401
    browser(kim)
    assert admin.post("/people/p-kim/sign-ins/revocation", {}).json() == {"ended": 1}
    assert admin.post("/people/nobody/sign-ins/revocation", {}).status_code == 404


def test_the_last_use_is_noted_after_the_answer_and_not_at_every_request(sqlite_parts: Parts) -> None:
    clock = ManualClock(SystemClock().now_ms())
    parts = test_parts(sqlite_parts.database, sqlite_parts.series, sqlite_parts.clock, real_clock=clock)
    with in_process(parts) as client:
        officer = client.signed_in(Role.COUNTY_OFFICER)

        def noted():
            with parts.database.read() as session:
                return session.get_one(AccessToken, f"t-{officer.person_id}").last_used_at

        assert noted() is None
        assert officer.get("/me").status_code == 200
        first = noted()
        assert first == parts.real_now()
        clock.advance(60_000)
        assert officer.get("/me").status_code == 200
        assert noted() == first
        clock.advance(int(USE_NOTED_EVERY / timedelta(milliseconds=1)))
        assert officer.get("/me").status_code == 200
        assert noted() == parts.real_now()


def test_a_token_of_a_program_ends_in_time(sqlite_parts: Parts) -> None:
    clock = ManualClock(SystemClock().now_ms())
    parts = test_parts(sqlite_parts.database, sqlite_parts.series, sqlite_parts.clock, real_clock=clock)
    with in_process(parts) as client:
        officer = client.signed_in(Role.COUNTY_OFFICER)
        made = officer.post("/tokens", {"name": "月报", "days": 1}).json()
        program = ApiClient(parts, client.http, made["token"])
        clock.advance(3_000_000)
        assert program.get("/me").status_code == 200
        clock.advance(86_400_000)
        assert program.get("/me").status_code == 401
