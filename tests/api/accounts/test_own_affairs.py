"""One's own password, e-mail address and tokens: what is proven, what is counted, and what ends with what."""

from datetime import timedelta

import pytest
from sqlalchemy import select

from api.deps import Parts
from store.tables.accounts import AccessToken, Role
from store.tables.audit import AuditEvent
from tests.api.accounts.test_resets import (
    NEW,
    OLD,
    add_firm_person,
    complete,
    opened_by_a_sender,
    sign_in,
    waiting,
)
from tests.support.api_client import ApiClient, in_process, test_parts
from wire.clock import ManualClock, SystemClock

KEY = {"Idempotency-Key": "x"}


def change_password(client: ApiClient, old: str):
    return client.request("POST", "/me/password", json={"old": old, "new": NEW}, headers=KEY)


def change_email(client: ApiClient, password: str, email: str = "new@firm.example"):
    return client.request("PUT", "/me/email", json={"email": email, "password": password}, headers=KEY)


@pytest.mark.parametrize("try_one", [change_password, change_email])
def test_a_wrong_password_counts_like_a_failed_sign_in_and_is_audited(sqlite_client: ApiClient, try_one) -> None:
    person_id = add_firm_person(sqlite_client)
    assert sign_in(sqlite_client, OLD) == 201
    assert [try_one(sqlite_client, f"guess-{number}").status_code for number in range(5)] == [401] * 5
    locked = try_one(sqlite_client, OLD)
    assert (locked.status_code, locked.json()["code"]) == (429, "login_locked")
    assert sign_in(sqlite_client, OLD) == 429, "one count for the name, wherever it is guessed"
    with sqlite_client.parts.database.read() as session:
        said = session.scalars(select(AuditEvent.actor).where(AuditEvent.action == "password_refused")).all()
    assert said == [person_id] * 5


def test_the_right_password_forgives_the_wrong_ones_before(client: ApiClient) -> None:
    add_firm_person(client)
    assert sign_in(client, OLD) == 201
    for number in range(3):
        assert [change_email(client, "wrong").status_code for _ in range(4)] == [401] * 4
        assert change_email(client, OLD, f"w{number}@firm.example").status_code == 204
    assert change_password(client, OLD).status_code == 204
    assert sign_in(client, NEW) == 201


def test_a_new_address_ends_the_resets_on_their_way_to_the_old_one(client: ApiClient) -> None:
    add_firm_person(client)
    client.post("/password-resets", {"login": "wang"})
    sent = opened_by_a_sender(client)
    assert sent is not None
    assert sent.secret is not None
    assert sign_in(client, OLD) == 201
    assert change_email(client, OLD).status_code == 204
    assert complete(client, sent.secret).status_code == 422
    assert sign_in(client, OLD) == 201


def test_a_letter_that_was_not_sent_yet_does_not_go_to_the_old_address(sqlite_client: ApiClient) -> None:
    add_firm_person(sqlite_client)
    sqlite_client.post("/password-resets", {"login": "wang"})
    assert waiting(sqlite_client) == 1
    assert sign_in(sqlite_client, OLD) == 201
    assert change_email(sqlite_client, OLD).status_code == 204
    assert waiting(sqlite_client) == 0


@pytest.fixture
def real() -> ManualClock:
    return ManualClock(SystemClock().now_ms())


def bearer(client: ApiClient, token: str) -> ApiClient:
    client.http.cookies.clear()
    return ApiClient(client.parts, client.http, token)


def test_what_a_token_made_ends_with_it_and_does_not_outlive_it(parts: Parts, real: ManualClock) -> None:
    both = ["read", "write"]
    with in_process(test_parts(parts.database, parts.series, parts.clock, real_clock=real)) as client:
        add_firm_person(client)
        assert sign_in(client, OLD) == 201
        first = client.post("/tokens", {"name": "first", "days": 2, "scopes": both}).json()
        other = client.post("/tokens", {"name": "other", "days": 90, "scopes": both}).json()
        child = bearer(client, first["token"]).post("/tokens", {"name": "child", "days": 90, "scopes": both})
        assert child.status_code == 201, child.text
        assert child.json()["expires_at"] == first["expires_at"]
        grandchild = bearer(client, child.json()["token"]).post("/tokens", {"name": "grandchild"})
        assert (grandchild.status_code, grandchild.json()["code"]) == (403, "forbidden")
        assert bearer(client, child.json()["token"]).get("/me").status_code == 200
        assert (
            bearer(client, other["token"])
            .request("DELETE", f"/tokens/{first['token_id']}", headers=KEY)
            .json()["revoked_at"]
        )
        assert bearer(client, child.json()["token"]).get("/me").status_code == 401
        assert bearer(client, other["token"]).get("/me").status_code == 200
        assert sign_in(client, OLD) == 201
        assert client.request("DELETE", "/sessions/current", headers=KEY).status_code == 204
        assert bearer(client, other["token"]).get("/me").status_code == 200, "a session makes tokens that stay"
        real.advance(timedelta(days=91) // timedelta(milliseconds=1))
        with client.parts.database.read() as session:
            latest = session.scalars(select(AccessToken.expires_at).where(AccessToken.kind == "bearer")).all()
        assert all(moment <= client.parts.real_now() for moment in latest)


def test_a_token_that_may_write_only_reads_what_everybody_reads(sqlite_client: ApiClient) -> None:
    writer = sqlite_client.signed_in(Role.SME, scopes="write")
    for path in ("/hosts", "/instruments", "/catalogue", "/special-days"):
        assert writer.get(path).status_code == 200, path
    assert writer.get("/me").json()["code"] == "scope_missing"
