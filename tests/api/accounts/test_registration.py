"""A firm registers, waits, is approved, rejected or joined; nobody learns from it who is registered."""

from datetime import timedelta

import pytest
from sqlalchemy import select, update

from api.accounts import repository
from api.accounts.uscc import make
from store.tables.accounts import IdempotencyKey, Letter, Person, Role
from store.tables.audit import AuditEvent
from store.tables.registry import Org
from tests.support.api_client import ApiClient, in_process, test_parts

PASSWORD = "correct-horse-battery"
CODE = make("91990000123456789")


def asked(**changed) -> dict:
    return {
        "uscc": CODE,
        "name_zh": "示例企业 甲",
        "login": "wang",
        "name": "王某",
        "email": "Wang@firm.example",
        "password": PASSWORD,
    } | changed


def as_firm(client: ApiClient, login: str) -> ApiClient:
    """Sign in with a bearer token of the firm's person, made through their session."""
    client.http.cookies.clear()
    assert client.request("POST", "/sessions", json={"login": login, "password": PASSWORD}).status_code == 201
    return client


def decide(officer: ApiClient, registration_id: str, version: int = 1, **said):
    return officer.edit("POST", f"/registrations/{registration_id}/decision", version, said)


@pytest.fixture
def officer(client: ApiClient) -> ApiClient:
    return client.signed_in(Role.COUNTY_OFFICER)


@pytest.fixture
def sqlite_officer(sqlite_client: ApiClient) -> ApiClient:
    return sqlite_client.signed_in(Role.COUNTY_OFFICER)


def test_a_firm_registers_reads_while_it_waits_and_acts_when_it_is_approved(
    client: ApiClient, officer: ApiClient
) -> None:
    made = client.post("/registrations", asked(uscc=CODE.lower() + " "))
    assert made.status_code == 201, made.text
    said = made.json()
    assert (said["state"], said["uscc"]) == ("pending", CODE)
    assert said["login"].startswith("wang-")
    firm = as_firm(client, said["login"])
    assert firm.get("/me").json()["roles"] == ["sme"]
    assert firm.get("/me/registration").json()["state"] == "pending"
    refused = firm.post("/tokens", {"name": "program"})
    assert (refused.status_code, refused.json()["code"]) == (403, "organisation_not_active")
    assert firm.request("DELETE", "/sessions/current", headers={"Idempotency-Key": "x"}).status_code == 204
    [seen] = officer.get("/registrations?state=pending").json()["items"]
    assert (seen["contact_email"], seen["rivals"], seen["known_org_id"]) == ("wang@firm.example", 0, None)
    done = decide(officer, said["registration_id"], verdict="approve")
    assert (done.status_code, done.json()["state"], done.headers["etag"]) == (200, "approved", '"2"')
    assert as_firm(client, said["login"]).post("/tokens", {"name": "program"}).status_code == 201
    with client.parts.database.read() as session:
        org = session.get_one(Org, said["org_id"])
        assert (org.uscc, org.state, org.kind) == (CODE, "active", "sme")
        letter = session.scalars(select(Letter)).one()
        assert (letter.kind, letter.address, letter.opened_at) == ("registration_decided", "wang@firm.example", None)
        actions = set(session.scalars(select(AuditEvent.action)))
    assert {"registration_submitted", "registration_decided", "person_created", "role_granted"} <= actions


def test_the_answer_says_nothing_about_who_is_registered(sqlite_client: ApiClient, sqlite_officer: ApiClient) -> None:
    first = sqlite_client.post("/registrations", asked()).json()
    decide(sqlite_officer, first["registration_id"], verdict="approve")
    again = sqlite_client.post("/registrations", asked())
    other = sqlite_client.post("/registrations", asked(uscc=make("91990000987654321")))
    made_up = {"registration_id", "org_id", "person_id", "login", "uscc", "submitted_at"}
    shown = [{k: v for k, v in answer.json().items() if k not in made_up} for answer in (again, other)]
    assert (again.status_code, shown[0]) == (other.status_code, shown[1])
    for answer in (again, other):
        firm = as_firm(sqlite_client, answer.json()["login"])
        assert firm.get("/me/registration").json()["state"] == "pending"
        assert firm.get("/orgs/" + first["org_id"] + "/people").status_code == 403
        sqlite_client.http.cookies.clear()


def test_a_code_is_nobodys_until_an_officer_has_looked(sqlite_client: ApiClient, sqlite_officer: ApiClient) -> None:
    squatter = sqlite_client.post("/registrations", asked(name="别人")).json()
    real = sqlite_client.post("/registrations", asked()).json()
    assert sqlite_officer.get(f"/registrations/{real['registration_id']}").json()["rivals"] == 1
    assert decide(sqlite_officer, real["registration_id"], verdict="approve").status_code == 200
    seen = sqlite_officer.get(f"/registrations/{squatter['registration_id']}").json()
    assert seen["known_org_id"] == real["org_id"]
    taken = decide(sqlite_officer, squatter["registration_id"], verdict="approve")
    assert (taken.status_code, taken.json()["code"]) == (409, "uscc_taken")
    joined = decide(sqlite_officer, squatter["registration_id"], verdict="join", reason="身份证核实")
    assert joined.json()["state"] == "joined"
    firm = as_firm(sqlite_client, squatter["login"])
    assert firm.get("/me").json()["org_id"] == real["org_id"]
    assert firm.post("/tokens", {"name": "program"}).status_code == 201


def test_who_joins_a_firm_is_not_its_contact_however_old_their_account(
    sqlite_client: ApiClient, sqlite_officer: ApiClient
) -> None:
    newcomer = sqlite_client.post("/registrations", asked(name="后来者")).json()
    first = sqlite_client.post("/registrations", asked()).json()
    decide(sqlite_officer, first["registration_id"], verdict="approve")
    with sqlite_client.parts.database.write() as session:
        earlier = sqlite_client.parts.now() - timedelta(days=30)
        wanted = Person.person_id == newcomer["person_id"]
        session.execute(update(Person).where(wanted).values(created_at=earlier))
    decide(sqlite_officer, newcomer["registration_id"], verdict="join", reason="身份证核实")
    with sqlite_client.parts.database.read() as session:
        assert repository.contact_of(session, first["org_id"]) == first["person_id"]


def test_a_rejected_firm_reads_why_corrects_it_and_asks_again(client: ApiClient, officer: ApiClient) -> None:
    said = client.post("/registrations", asked(name_zh="错误名称")).json()
    silent = decide(officer, said["registration_id"], verdict="reject")
    assert (silent.status_code, silent.json()["code"]) == (422, "reason_missing")
    assert decide(officer, said["registration_id"], 7, verdict="reject", reason="名称").status_code == 412
    assert decide(officer, said["registration_id"], verdict="reject", reason="名称与执照不符").status_code == 200
    twice = decide(officer, said["registration_id"], 2, verdict="approve")
    assert (twice.status_code, twice.json()["code"]) == (409, "registration_decided")
    firm = as_firm(client, said["login"])
    seen = firm.get("/me/registration").json()
    assert (seen["state"], seen["reason"]) == ("rejected", "名称与执照不符")
    corrected = {"uscc": CODE, "name_zh": "示例企业 甲"}
    second = firm.post("/me/registration", corrected)
    assert (second.status_code, second.json()["state"]) == (201, "pending")
    early = firm.post("/me/registration", corrected)
    assert (early.status_code, early.json()["code"]) == (409, "registration_not_rejected")
    assert decide(officer, second.json()["registration_id"], verdict="approve").status_code == 200
    assert firm.post("/tokens", {"name": "program"}).status_code == 201


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"uscc": CODE[:-1] + ("0" if CODE[-1] != "0" else "1")}, "uscc_invalid"),
        ({"uscc": "12345"}, "uscc_invalid"),
        ({"kind": "gov"}, "kind_not_open"),
        ({"kind": "host"}, "kind_not_open"),
        ({"password": "short"}, "invalid_request"),
        ({"email": "not an address"}, "invalid_request"),
        ({"email": "a@b.example\nBcc: c@d.example"}, "invalid_request"),
        ({"login": "王"}, "invalid_request"),
    ],
)
def test_what_cannot_be_registered(sqlite_client: ApiClient, changed: dict, code: str) -> None:
    answer = sqlite_client.post("/registrations", asked(**changed))
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    with sqlite_client.parts.database.read() as session:
        assert session.scalars(select(Person)).all() == []


def test_repeating_the_request_registers_once_and_no_digest_is_made_of_the_password(sqlite_client: ApiClient) -> None:
    first = sqlite_client.post("/registrations", asked(), key="k")
    again = sqlite_client.post("/registrations", asked(password="another-password"), key="k")
    assert again.json() == first.json()
    with sqlite_client.parts.database.read() as session:
        digests = set(session.scalars(select(IdempotencyKey.request_sha256)))
    third = sqlite_client.post("/registrations", asked(password="a-third-password"), key="k2")
    assert third.status_code == 201
    with sqlite_client.parts.database.read() as session:
        assert set(session.scalars(select(IdempotencyKey.request_sha256))) == digests
        stored = b"".join(session.scalars(select(IdempotencyKey.answer)))
    assert PASSWORD.encode() not in stored


def test_two_approvals_of_one_code_at_once_cannot_both_hold(
    sqlite_client: ApiClient, sqlite_officer: ApiClient
) -> None:
    said = sqlite_client.post("/registrations", asked()).json()
    rival = sqlite_client.post("/registrations", asked()).json()
    assert decide(sqlite_officer, said["registration_id"], verdict="approve").status_code == 200
    lost = decide(sqlite_officer, rival["registration_id"], verdict="approve")
    assert (lost.status_code, lost.json()["code"]) == (409, "uscc_taken")
    nobody = sqlite_client.post("/registrations", asked(uscc=make("91990000987654321"))).json()
    alone = decide(sqlite_officer, nobody["registration_id"], verdict="join")
    assert (alone.status_code, alone.json()["code"]) == (409, "no_firm_to_join")


def test_one_address_cannot_register_without_end(sqlite_client: ApiClient) -> None:
    parts = sqlite_client.parts
    strict = test_parts(parts.database, parts.series, parts.clock, registration_limit="2/hour")
    with in_process(strict) as client:
        answers = [client.post("/registrations", asked()).status_code for _ in range(3)]
    assert answers == [201, 201, 429]


def test_an_officer_suspends_a_firm_which_then_reads_only(sqlite_client: ApiClient, sqlite_officer: ApiClient) -> None:
    said = sqlite_client.post("/registrations", asked()).json()
    path = f"/orgs/{said['org_id']}/standing"
    early = sqlite_officer.edit("PATCH", path, 1, {"active": True, "reason": "x"})
    assert (early.status_code, early.json()["code"]) == (409, "org_pending")
    decide(sqlite_officer, said["registration_id"], verdict="approve")
    stopped = sqlite_officer.edit("PATCH", path, 2, {"active": False, "reason": "拖欠费用"})
    assert (stopped.status_code, stopped.json()["state"]) == (200, "suspended")
    firm = as_firm(sqlite_client, said["login"])
    assert firm.post("/tokens", {"name": "program"}).json()["code"] == "organisation_not_active"
    assert sqlite_officer.edit("PATCH", path, 3, {"active": True, "reason": "已付清"}).status_code == 200
    assert firm.post("/tokens", {"name": "program"}).status_code == 201
    own = sqlite_officer.edit("PATCH", "/orgs/org-test/standing", 1, {"active": False, "reason": "x"})
    assert own.status_code == 403


def test_only_the_county_decides(sqlite_client: ApiClient) -> None:
    said = sqlite_client.post("/registrations", asked()).json()
    for role in (Role.SME, Role.FINANCE, Role.AUDITOR):
        person = sqlite_client.signed_in(role)
        assert decide(person, said["registration_id"], verdict="approve").status_code == 403
    with sqlite_client.parts.database.write() as session:
        session.execute(update(Person).where(Person.person_id == said["person_id"]).values(active=False))
    assert sqlite_client.get("/me/registration").status_code == 401
