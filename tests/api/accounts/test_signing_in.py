"""Signing in and out, tokens, and keeping people out."""

from collections.abc import Iterator
from datetime import timedelta

import httpx
import pytest
from sqlalchemy import select, update

from api.accounts.service import create_person, grant_role
from api.deps import Parts
from api.security import COOKIE, token_hash
from api.work import Work, system_actor
from store.audit import COUNTY_CHAIN, check_audit_chain
from store.tables.accounts import AccessToken, IdempotencyKey, Person, Role
from store.tables.audit import AuditEvent
from store.tables.registry import Org
from tests.support.api_client import TEST_ORG, ApiClient, in_process, test_parts

pytestmark = pytest.mark.slow_on_postgresql

PASSWORD = "correct-horse-battery"


@pytest.fixture
def people(client: ApiClient) -> ApiClient:
    """An API with one officer `kim` who has a password."""
    client.signed_in(Role.ADMIN)
    with client.parts.database.write() as session:
        work = Work(session, system_actor("test"), client.parts.now())
        person = create_person(work, login="Kim", name="金", org_id=TEST_ORG, password=PASSWORD, person_id="p-kim")
        grant_role(work, person.person_id, Role.COUNTY_OFFICER)
    return client


def _sign_in(client: ApiClient, password: str = PASSWORD, login: str = "kim") -> httpx.Response:
    return client.request("POST", "/sessions", json={"login": login, "password": password})


def _events(client: ApiClient) -> list[tuple[str, str]]:
    with client.parts.database.read() as session:
        assert check_audit_chain(session, COUNTY_CHAIN) is None
        return [
            (row.action, row.subject)
            for row in session.scalars(select(AuditEvent).order_by(AuditEvent.chain_id, AuditEvent.seq))
        ]


def test_a_password_opens_a_session_in_a_cookie_no_script_can_read(people: ApiClient) -> None:
    answer = _sign_in(people, login="KIM")
    assert answer.status_code == 201, answer.text
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Secure" not in cookie
    assert answer.cookies[COOKIE] not in answer.text
    assert people.get("/me").json()["roles"] == ["county_officer"]
    with people.parts.database.read() as session:
        stored = session.scalars(select(AccessToken).where(AccessToken.kind == "session")).one()
        assert stored.token_sha256 == token_hash(answer.cookies[COOKIE])


def test_a_wrong_password_and_an_unknown_login_are_refused_alike_and_audited(people: ApiClient) -> None:
    wrong, unknown = _sign_in(people, "nope"), _sign_in(people, "nope", login="nobody-here")
    assert wrong.status_code == unknown.status_code == 401
    assert wrong.json() == unknown.json()
    assert _events(people)[-2:] == [("sign_in_refused", "login:kim"), ("sign_in_refused", "login:nobody-here")]


def test_after_five_failures_even_the_right_password_waits(people: ApiClient) -> None:
    for _ in range(5):
        assert _sign_in(people, "nope").status_code == 401
    locked = _sign_in(people)
    assert (locked.status_code, locked.json()["code"]) == (429, "login_locked")
    assert locked.json()["facts"]["retry_after_s"] <= 15 * 60 + 1
    assert _sign_in(people, login="nobody-else", password="x").status_code == 401


def test_failures_before_a_success_are_forgiven(people: ApiClient) -> None:
    for _ in range(3):
        for _ in range(4):
            assert _sign_in(people, "nope").status_code == 401
        assert _sign_in(people).status_code == 201


def test_a_write_with_the_cookie_needs_a_header_that_no_other_site_can_add(people: ApiClient) -> None:
    _sign_in(people)
    answer = people.request("DELETE", "/sessions/current")
    assert (answer.status_code, answer.json()["code"]) == (403, "csrf_header_missing")
    assert people.request("DELETE", "/sessions/current", headers={"Idempotency-Key": "x"}).status_code == 204
    assert people.get("/me").status_code == 401


def test_a_signed_out_cookie_is_worth_nothing(people: ApiClient) -> None:
    cookie = _sign_in(people).cookies[COOKIE]
    people.request("DELETE", "/sessions/current", headers={"Idempotency-Key": "x"})
    people.http.cookies.set(COOKIE, cookie)
    assert people.get("/me").status_code == 401
    assert ("token_revoked") in [action for action, _ in _events(people)]


def test_an_expired_token_is_refused_in_real_time_whatever_the_demo_clock_says(people: ApiClient) -> None:
    officer = people.signed_in(Role.COUNTY_OFFICER)
    people.parts.clock.advance(400 * 86_400_000)  # type: ignore[attr-defined]
    assert officer.get("/me").status_code == 200
    with people.parts.database.write() as session:
        session.execute(update(AccessToken).values(expires_at=people.parts.real_now() - timedelta(seconds=1)))
    assert officer.get("/me").status_code == 401


def test_a_bearer_token_is_no_cookie_and_a_cookie_no_bearer_token(people: ApiClient) -> None:
    officer = people.signed_in(Role.COUNTY_OFFICER)
    people.http.cookies.set(COOKIE, officer.token or "")
    assert people.get("/me").status_code == 401
    people.http.cookies.clear()
    cookie = _sign_in(people).cookies[COOKIE]
    people.http.cookies.clear()
    assert people.get("/me", headers={"Authorization": f"Bearer {cookie}"}).status_code == 401


def test_a_token_is_shown_once_and_stored_nowhere(people: ApiClient) -> None:
    officer = people.signed_in(Role.COUNTY_OFFICER)
    first = officer.post("/tokens", {"name": "月报", "scopes": ["read"], "days": 30}, key="k")
    secret = first.json()["token"]
    again = officer.post("/tokens", {"name": "月报", "scopes": ["read"], "days": 30}, key="k")
    assert again.status_code == 201
    assert again.json() == first.json() | {"token": None}
    with people.parts.database.read() as session:
        assert secret.encode() not in b"".join(session.scalars(select(IdempotencyKey.answer)))
    program = ApiClient(people.parts, people.http, secret)
    assert program.get("/me").json()["scopes"] == ["read"]
    assert program.post("/tokens", {"name": "more"}).status_code == 403
    listed = officer.get("/tokens").json()["items"]
    assert {"月报", "test"} == {each["name"] for each in listed}
    assert "token" not in listed[0]
    token_id = first.json()["token_id"]
    assert officer.request("DELETE", f"/tokens/{token_id}").json()["revoked_at"] is not None
    assert program.get("/me").status_code == 401


def test_nobody_revokes_another_persons_token(people: ApiClient) -> None:
    one, two = people.signed_in(Role.SME), people.signed_in(Role.SME)
    token_id = one.get("/tokens").json()["items"][0]["token_id"]
    assert two.request("DELETE", f"/tokens/{token_id}").status_code == 404
    assert one.get("/me").status_code == 200


def test_a_deactivated_person_is_out_at_once_and_a_stale_edit_is_refused(people: ApiClient) -> None:
    admin, officer = people.signed_in(Role.ADMIN), people.signed_in(Role.COUNTY_OFFICER)
    path = f"/people/{officer.person_id}"
    assert admin.request("PATCH", path, json={"active": False}).json()["code"] == "if_match_missing"
    out = admin.edit("PATCH", path, 1, {"active": False})
    assert (out.status_code, out.headers["etag"]) == (200, '"2"')
    assert officer.get("/me").status_code == 401
    stale = admin.edit("PATCH", path, 1, {"active": True})
    assert (stale.status_code, stale.json()["facts"]) == (412, {"current_version": 2, "given_version": 1})
    assert admin.edit("PATCH", f"/people/{admin.person_id}", 1, {"active": False}).status_code == 403


def test_an_officer_lets_firms_in_but_grants_no_county_role(people: ApiClient) -> None:
    officer = people.signed_in(Role.COUNTY_OFFICER)
    asked = {"login": "Firm.One", "name": "联系人", "org_id": TEST_ORG, "roles": [{"role": "sme"}]}
    made = officer.post("/people", asked, key="k").json()
    assert made["login"] == "firm.one"
    assert officer.post("/people", asked, key="k").json()["first_password"] is None
    assert _sign_in(people, made["first_password"], "firm.one").status_code == 201
    people.http.cookies.clear()
    refused = officer.post("/people", asked | {"login": "firm.two", "roles": [{"role": "finance"}]})
    assert (refused.status_code, refused.json()["facts"]["roles"]) == (403, "admin")
    with people.parts.database.read() as session:
        assert session.scalars(select(Person).where(Person.login == "firm.two")).one_or_none() is None
    taken = officer.post("/people", asked)
    assert (taken.status_code, taken.json()["code"]) == (409, "login_taken")


def test_a_new_password_ends_all_sessions(people: ApiClient) -> None:
    _sign_in(people)
    headers = {"Idempotency-Key": "x"}
    wrong = people.request("POST", "/me/password", json={"old": "nope", "new": "another-long-one"}, headers=headers)
    assert wrong.status_code == 401
    change = {"old": PASSWORD, "new": "another-long-one"}
    assert people.request("POST", "/me/password", json=change, headers=headers).status_code == 204
    assert people.get("/me").status_code == 401
    assert _sign_in(people).status_code == 401
    assert _sign_in(people, "another-long-one").status_code == 201


def test_people_see_their_own_organisation_only(people: ApiClient) -> None:
    sme, auditor = people.signed_in(Role.SME), people.signed_in(Role.AUDITOR)
    assert "kim" in {each["login"] for each in sme.get(f"/orgs/{TEST_ORG}/people").json()["items"]}
    assert sme.get("/orgs/o-other/people").status_code == 403
    assert auditor.get("/orgs/o-other/people").json() == {"items": [], "next_cursor": None}


def test_a_suspended_organisation_reads_and_changes_nothing(people: ApiClient) -> None:
    officer = people.signed_in(Role.COUNTY_OFFICER)
    with people.parts.database.write() as session:
        session.execute(update(Org).values(state="suspended"))
    assert officer.get("/orgs").status_code == 200
    answer = officer.post("/orgs", {})
    assert (answer.status_code, answer.json()["code"]) == (403, "organisation_not_active")


def test_a_refused_write_is_audited_although_nothing_was_written(people: ApiClient) -> None:
    sme = people.signed_in(Role.SME)
    assert sme.post("/orgs", {}).status_code == 403
    assert _events(people)[-1] == ("refused", "POST /api/v1/orgs")


@pytest.fixture
def strict(sqlite_parts: Parts) -> Iterator[ApiClient]:
    parts = test_parts(
        sqlite_parts.database, sqlite_parts.series, sqlite_parts.clock, cookie_secure=True, login_limit="2/minute"
    )
    with in_process(parts) as client:
        yield client


def test_one_address_cannot_try_many_logins(strict: ApiClient) -> None:
    assert [_sign_in(strict, "x", f"login-{number}").status_code for number in range(3)] == [401, 401, 429]


def test_the_cookie_is_secure_where_the_settings_say_so(strict: ApiClient) -> None:
    strict.signed_in(Role.ADMIN)
    with strict.parts.database.write() as session:
        work = Work(session, system_actor("test"), strict.parts.now())
        create_person(work, login="kim", name="金", org_id=TEST_ORG, password=PASSWORD)
    assert "Secure" in _sign_in(strict).headers["set-cookie"]
