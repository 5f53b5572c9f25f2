"""A lost password: asked for by anybody, given once, and every session ends."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import func, select

from api.accounts import letters
from api.accounts.service import create_person, grant_role
from api.deps import Parts
from api.security import token_hash
from api.work import Work, system_actor
from store.tables.accounts import AccessToken, IdempotencyKey, Letter, LetterKind, OneTimeToken, Role
from tests.support.api_client import TEST_ORG, ApiClient, behind_uvicorn, in_process, test_parts
from wire.clock import ManualClock, SystemClock

OLD, NEW = "correct-horse-battery", "another-long-one"


def add_firm_person(client: ApiClient, login: str = "wang", email: str | None = "wang@firm.example") -> str:
    client.signed_in(Role.ADMIN)
    with client.parts.database.write() as session:
        work = Work(session, system_actor("test"), client.parts.now())
        person = create_person(work, login=login, name="王某", org_id=TEST_ORG, password=OLD, email=email)
        grant_role(work, person.person_id, Role.SME)
        return person.person_id


def opened_by_a_sender(client: ApiClient) -> letters.OpenedLetter | None:
    """What whoever delivers letters does, up to the sending."""
    parts = client.parts
    with parts.database.write() as session:
        [letter] = letters.waiting(session)
        work = Work(session, system_actor("letters"), parts.now())
        return letters.open_letter(work, letter.letter_id, parts.real_now(), reset_for=timedelta(hours=24))


def sign_in(client: ApiClient, password: str, login: str = "wang") -> int:
    client.http.cookies.clear()
    return client.request("POST", "/sessions", json={"login": login, "password": password}).status_code


def complete(client: ApiClient, token: str, password: str = NEW):
    client.http.cookies.clear()
    return client.request("POST", "/password-resets/completion", json={"token": token, "password": password})


def waiting(client: ApiClient) -> int:
    with client.parts.database.read() as session:
        return session.scalar(select(func.count()).select_from(Letter).where(Letter.opened_at.is_(None))) or 0


def test_a_letter_brings_a_token_that_sets_a_new_password_once(client: ApiClient) -> None:
    person_id = add_firm_person(client)
    assert sign_in(client, OLD) == 201
    cookie = dict(client.http.cookies)
    assert client.post("/password-resets", {"login": "Wang"}).status_code == 202
    letter = opened_by_a_sender(client)
    assert letter is not None
    assert (letter.kind, letter.address, letter.login) == (LetterKind.PASSWORD_RESET, "wang@firm.example", "wang")
    assert letter.secret is not None
    assert letter.secret not in repr(letter)
    assert complete(client, letter.secret).status_code == 204
    assert (sign_in(client, OLD), sign_in(client, NEW)) == (401, 201)
    client.http.cookies.clear()
    assert client.get("/me", cookies=cookie).status_code == 401
    again = complete(client, letter.secret, "a-third-password")
    assert (again.status_code, again.json()["code"]) == (422, "token_not_valid")
    with client.parts.database.read() as session:
        stored = session.scalars(select(OneTimeToken)).one()
        assert (stored.token_sha256, stored.subject_id) == (token_hash(letter.secret), person_id)


def test_everybody_gets_the_same_answer(sqlite_client: ApiClient) -> None:
    add_firm_person(sqlite_client)
    known = sqlite_client.post("/password-resets", {"login": "wang"})
    unknown = sqlite_client.post("/password-resets", {"login": "nobody-here"})
    by_mail = sqlite_client.post("/password-resets", {"login": "WANG@firm.example"})
    strange = sqlite_client.post("/password-resets", {"login": "' OR 1=1 --"})
    assert {each.status_code for each in (known, unknown, by_mail, strange)} == {202}
    assert {each.text for each in (known, unknown, by_mail, strange)} == {known.text}
    assert waiting(sqlite_client) == 1, "one letter, however often it is asked for"


def test_wrong_used_and_expired_tokens_are_refused_alike(sqlite_parts: Parts) -> None:
    clock = ManualClock(SystemClock().now_ms())
    parts = test_parts(sqlite_parts.database, sqlite_parts.series, sqlite_parts.clock, real_clock=clock, reset_hours=1)
    with in_process(parts) as client:
        person_id = add_firm_person(client)
        admin = client.signed_in(Role.ADMIN)
        used, expired = (
            admin.post(f"/people/{person_id}/password-reset").json()["token"],
            admin.post(f"/people/{person_id}/password-reset").json()["token"],
        )
        assert complete(client, used).status_code == 204
        other_of_the_same_person = complete(client, expired)
        late = admin_token = client.signed_in(Role.ADMIN).post(f"/people/{person_id}/password-reset").json()["token"]
        clock.advance(3_600_001)
        answers = [
            other_of_the_same_person,
            complete(client, used),
            complete(client, late),
            complete(client, "olt_no-such-token"),
        ]
        assert {each.status_code for each in answers} == {422}
        assert len({each.text for each in answers}) == 1
        assert admin_token not in answers[0].text


def test_an_admin_makes_a_reset_for_anybody_and_an_officer_for_firms_only(sqlite_client: ApiClient) -> None:
    person_id = add_firm_person(sqlite_client, email=None)
    officer, admin = sqlite_client.signed_in(Role.COUNTY_OFFICER), sqlite_client.signed_in(Role.ADMIN)
    manager = sqlite_client.signed_in(Role.LAB_MANAGER, host_id="h01")
    sqlite_client.post("/password-resets", {"login": "wang"})
    assert [each["address"] for each in officer.get("/letters").json()["items"]] == [""]
    made = officer.post(f"/people/{person_id}/password-reset", key="k")
    assert (made.status_code, made.json()["login"]) == (201, "wang")
    assert officer.get("/letters").json()["items"] == [], "said in person"
    assert officer.post(f"/people/{person_id}/password-reset", key="k").json()["token"] is None
    assert complete(sqlite_client, made.json()["token"]).status_code == 204
    refused = officer.post(f"/people/{manager.person_id}/password-reset")
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    assert officer.post(f"/people/{admin.person_id}/password-reset").status_code == 403
    assert admin.post(f"/people/{manager.person_id}/password-reset").status_code == 201
    assert admin.post("/people/nobody/password-reset").status_code == 404
    with sqlite_client.parts.database.read() as session:
        assert made.json()["token"].encode() not in b"".join(session.scalars(select(IdempotencyKey.answer)))


def test_a_new_password_unlocks_the_login_name(sqlite_client: ApiClient) -> None:
    person_id = add_firm_person(sqlite_client)
    assert [sign_in(sqlite_client, "wrong") for _ in range(6)] == [401] * 5 + [429]
    token = sqlite_client.signed_in(Role.ADMIN).post(f"/people/{person_id}/password-reset").json()["token"]
    assert complete(sqlite_client, token).status_code == 204
    assert sign_in(sqlite_client, NEW) == 201


def test_changing_the_password_voids_resets_and_ends_programs(sqlite_client: ApiClient) -> None:
    person_id = add_firm_person(sqlite_client)
    admin = sqlite_client.signed_in(Role.ADMIN)
    token = admin.post(f"/people/{person_id}/password-reset").json()["token"]
    assert sign_in(sqlite_client, OLD) == 201
    change = {"old": OLD, "new": NEW}
    headers = {"Idempotency-Key": "x"}
    assert sqlite_client.request("POST", "/me/password", json=change, headers=headers).status_code == 204
    assert complete(sqlite_client, token, "a-third-password").status_code == 422
    with sqlite_client.parts.database.read() as session:
        live = select(AccessToken).where(AccessToken.person_id == person_id, AccessToken.revoked_at.is_(None))
        assert session.scalars(live).all() == []


def test_where_letters_go_takes_the_password(sqlite_client: ApiClient) -> None:
    add_firm_person(sqlite_client)
    sign_in(sqlite_client, OLD)
    headers = {"Idempotency-Key": "x"}
    for password, status in (("wrong", 401), (OLD, 204)):
        said = {"email": "New@firm.example", "password": password}
        assert sqlite_client.request("PUT", "/me/email", json=said, headers=headers).status_code == status
    sqlite_client.post("/password-resets", {"login": "new@firm.example"})
    letter = opened_by_a_sender(sqlite_client)
    assert letter is not None
    assert letter.address == "new@firm.example"


def test_a_letter_that_could_not_be_sent_goes_back_and_gets_another_token(sqlite_client: ApiClient) -> None:
    add_firm_person(sqlite_client)
    sqlite_client.post("/password-resets", {"login": "wang"})
    first = opened_by_a_sender(sqlite_client)
    assert first is not None
    with sqlite_client.parts.database.write() as session:
        letters.put_back(session, first.letter_id)
    second = opened_by_a_sender(sqlite_client)
    assert second is not None
    assert second.secret != first.secret
    assert complete(sqlite_client, second.secret or "").status_code == 204
    assert complete(sqlite_client, first.secret or "").status_code == 422


@pytest.fixture
def served(parts: Parts) -> Iterator[ApiClient]:
    with behind_uvicorn(parts) as anonymous:
        yield anonymous


def test_of_two_who_spend_at_once_one_does_even_with_two_tokens(served: ApiClient) -> None:
    person_id = add_firm_person(served)
    admin = served.signed_in(Role.ADMIN)
    tokens = [admin.post(f"/people/{person_id}/password-reset").json()["token"] for _ in range(2)]

    def spend(number: int) -> tuple[int, str]:
        said = {"token": tokens[number % 2], "password": f"a-new-password-{number}"}
        answer = served.request("POST", "/password-resets/completion", json=said)
        return answer.status_code, said["password"]

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(spend, range(4)))
    assert sorted(status for status, _ in answers) == [204, 422, 422, 422]
    [password] = [password for status, password in answers if status == 204]
    assert sign_in(served, password) == 201
