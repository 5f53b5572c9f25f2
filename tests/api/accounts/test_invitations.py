"""Somebody is invited, accepts once, and gets exactly the role that was offered by somebody who may."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import select, update

from api.accounts import letters
from api.work import Work, system_actor
from store.tables.accounts import IdempotencyKey, Invitation, LetterKind, OneTimeToken, Person, Role
from store.tables.registry import Host, Org
from store.upsert import insert_if_absent
from tests.support.api_client import ApiClient, behind_uvicorn, client_as

PASSWORD = "correct-horse-battery"
FIRM, HOST_ORG = "o-firm", "o-host"


def add_orgs(client: ApiClient) -> None:
    """A firm, and a host with its organisation."""
    with client.parts.database.write() as session:
        for number, (org_id, kind) in enumerate([(FIRM, "sme"), (HOST_ORG, "host"), ("o-host2", "host")]):
            row = {
                "org_id": org_id,
                "uscc": f"91990000INVITED{number:03d}",
                "kind": kind,
                "state": "active",
                "name_zh": f"示例 {org_id}",
                "name_en": f"Demo {org_id}",
                "created_at": client.parts.now(),
                "row_version": 1,
            }
            insert_if_absent(session, Org, row)
        for host_id, org_id in (("h01", HOST_ORG), ("h02", "o-host2")):
            session.add(
                Host(
                    host_id=host_id,
                    org_id=org_id,
                    host_type="enterprise",
                    cluster_zh="",
                    cluster_en="",
                    town_zh="",
                    town_en="",
                    latitude_e6=29_500_000,
                    longitude_e6=120_900_000,
                    row_version=1,
                )
            )


@pytest.fixture
def firm(client: ApiClient) -> ApiClient:
    add_orgs(client)
    return client.signed_in(Role.SME, org_id=FIRM)


@pytest.fixture
def sqlite_firm(sqlite_client: ApiClient) -> ApiClient:
    add_orgs(sqlite_client)
    return sqlite_client.signed_in(Role.SME, org_id=FIRM)


def accept(client: ApiClient, token: str, login: str = "limei"):
    said = {"token": token, "login": login, "name": "李某", "password": PASSWORD}
    anonymous = ApiClient(client.parts, client.http)
    return anonymous.request("POST", "/invitations/acceptance", json=said)


def code(answer) -> tuple[int, str]:
    return answer.status_code, answer.json().get("code", "")


def test_a_member_invites_a_colleague_who_accepts_once(firm: ApiClient) -> None:
    asked = {"role": "sme", "email": "Li@firm.example"}
    made = firm.post(f"/orgs/{FIRM}/invitations", asked, key="k")
    assert made.status_code == 201, made.text
    token = made.json()["token"]
    assert firm.post(f"/orgs/{FIRM}/invitations", asked, key="k").json() == made.json() | {"token": None}
    shown = firm.post("/invitations/look", {"token": token}).json()
    assert (shown["org_zh"], shown["role"], shown["for_login"]) == (f"示例 {FIRM}", "sme", False)
    accepted = accept(firm, token)
    assert accepted.status_code == 201, accepted.text
    assert accepted.json()["login"].startswith("limei-")
    assert code(accept(firm, token)) == (422, "token_not_valid")
    login = {"login": accepted.json()["login"], "password": PASSWORD}
    assert firm.request("POST", "/sessions", json=login).status_code == 201
    [member] = [
        each
        for each in firm.get(f"/orgs/{FIRM}/people").json()["items"]
        if each["person_id"] == accepted.json()["person_id"]
    ]
    assert (member["email"], member["roles"]) == ("li@firm.example", [{"role": "sme", "host_id": None}])
    [listed] = firm.get(f"/orgs/{FIRM}/invitations").json()["items"]
    assert listed["accepted_by"] == member["person_id"]
    assert "token" not in listed
    with firm.parts.database.read() as session:
        assert token.encode() not in b"".join(session.scalars(select(IdempotencyKey.answer)))
        assert token not in set(session.scalars(select(OneTimeToken.token_sha256)))


def test_the_letter_brings_a_token_of_its_own_and_one_use_spends_both(sqlite_firm: ApiClient) -> None:
    shown = sqlite_firm.post(f"/orgs/{FIRM}/invitations", {"role": "sme", "email": "li@firm.example"}).json()
    parts = sqlite_firm.parts
    with parts.database.write() as session:
        [letter] = letters.waiting(session)
        work = Work(session, system_actor("letters"), parts.now())
        opened = letters.open_letter(work, letter.letter_id, parts.real_now(), reset_for=timedelta(hours=1))
        assert letters.open_letter(work, letter.letter_id, parts.real_now(), reset_for=timedelta(hours=1)) is None
    assert opened is not None
    assert (opened.kind, opened.address) == (LetterKind.INVITATION, "li@firm.example")
    assert (opened.facts["org_zh"], opened.facts["role"]) == (f"示例 {FIRM}", "sme")
    assert accept(sqlite_firm, opened.secret or "").status_code == 201
    assert code(accept(sqlite_firm, shown["token"])) == (422, "token_not_valid")


def test_nobody_makes_a_lab_manager_of_an_account_they_know_the_password_of(sqlite_client: ApiClient) -> None:
    """A lab manager signs beside an officer as the second person; so an officer does not get to sign in as one."""
    add_orgs(sqlite_client)
    officer, admin = sqlite_client.signed_in(Role.COUNTY_OFFICER), sqlite_client.signed_in(Role.ADMIN)
    another = sqlite_client.signed_in(Role.COUNTY_OFFICER)
    role = {"role": "lab_manager", "host_id": "h01"}
    asked = {"login": "zhou", "name": "周某", "org_id": HOST_ORG, "roles": [role]}
    assert code(officer.post("/people", asked)) == (403, "forbidden")
    made = officer.post("/people", asked | {"roles": [{"role": "sme"}]}).json()["person_id"]
    assert code(officer.post(f"/people/{made}/roles", role)) == (403, "forbidden")
    assert another.post(f"/people/{made}/roles", role).status_code == 201
    path = f"/people/{made}/roles/lab_manager?host_id=h01"
    assert another.request("DELETE", path).status_code == 200
    assert another.post(f"/people/{made}/password-reset").status_code == 201
    assert code(another.post(f"/people/{made}/roles", role)) == (403, "forbidden")
    token = another.post(f"/orgs/{HOST_ORG}/invitations", role | {"login": "zhou"}).json()["token"]
    assert code(client_as(sqlite_client, made).post("/me/invitations", {"token": token})) == (422, "token_not_valid")
    assert admin.post(f"/people/{made}/roles", role).status_code == 201
    assert admin.post("/people", asked | {"login": "wuxia"}).status_code == 201


def by_letter(client: ApiClient) -> str:
    """The token of the newest invitation, as its e-mail brings it."""
    parts = client.parts
    with parts.database.write() as session:
        letter = letters.waiting(session)[-1]
        work = Work(session, system_actor("letters"), parts.now())
        opened = letters.open_letter(work, letter.letter_id, parts.real_now(), reset_for=timedelta(hours=1))
    assert opened is not None
    return opened.secret or ""


def sees_of_appointments(client: ApiClient) -> list[str]:
    items = client.get("/inbox?limit=100").json()["items"]
    return [item["kind"] for item in reversed(items) if item["kind"].startswith("manager-")]


def test_the_county_invites_a_lab_manager_by_letter_and_managers_and_officers_hear_of_it(
    sqlite_client: ApiClient,
) -> None:
    add_orgs(sqlite_client)
    manager = sqlite_client.signed_in(Role.LAB_MANAGER, org_id=HOST_ORG, host_id="h01")
    officer = sqlite_client.signed_in(Role.COUNTY_OFFICER)
    asked = {"role": "lab_manager", "host_id": "h01", "email": "m1@host.example"}
    made = officer.post(f"/orgs/{HOST_ORG}/invitations", asked)
    assert made.json()["token"] is None, "the officer is not to be the second person beside themselves"
    accepted = accept(officer, by_letter(officer)).json()
    assert not accepted["waits_for_county"]
    login = {"login": accepted["login"], "password": PASSWORD}
    assert officer.request("POST", "/sessions", json=login).status_code == 201
    assert ApiClient(sqlite_client.parts, sqlite_client.http).get("/me").json()["host_ids"] == ["h01"]
    sqlite_client.http.cookies.clear()
    assert sees_of_appointments(manager) == sees_of_appointments(officer) == ["manager-appointed"]
    other = {"role": "lab_manager", "host_id": "h02", "email": "m@host.example"}
    assert code(manager.post(f"/orgs/{HOST_ORG}/invitations", other)) == (403, "forbidden")
    assert code(officer.post(f"/orgs/{HOST_ORG}/invitations", other)) == (422, "host_of_another_org")
    assert code(officer.post(f"/orgs/{FIRM}/invitations", other)) == (422, "role_does_not_fit")
    unbound = {"role": "lab_manager", "email": "m@host.example"}
    assert code(officer.post(f"/orgs/{HOST_ORG}/invitations", unbound)) == (422, "role_needs_host")


def test_one_person_cannot_be_both_managers_of_a_host(sqlite_client: ApiClient) -> None:
    """What a manager prepares another one may approve; so who makes up a colleague does not make them a manager."""
    add_orgs(sqlite_client)
    manager = sqlite_client.signed_in(Role.LAB_MANAGER, org_id=HOST_ORG, host_id="h01")
    officer, another = (sqlite_client.signed_in(Role.COUNTY_OFFICER) for _ in range(2))
    invite, role = f"/orgs/{HOST_ORG}/invitations", {"role": "lab_manager", "host_id": "h01"}
    made = manager.post(invite, role | {"email": "m@host.example"})
    assert (made.status_code, made.json()["token"]) == (201, None)
    proposed = accept(manager, by_letter(manager)).json()
    assert proposed["waits_for_county"]
    colleague = client_as(sqlite_client, proposed["person_id"])
    assert colleague.get("/me").json()["roles"] == []
    assert sees_of_appointments(officer) == ["manager-proposed"]
    puppet = accept(manager, manager.post(invite, {"role": "sme", "email": "p@host.example"}).json()["token"]).json()
    for person in (proposed, puppet):
        refused = manager.post(f"/people/{person['person_id']}/roles", role)
        assert (code(refused), refused.json()["facts"]["roles"]) == ((403, "forbidden"), "admin, county_officer")
    offer = manager.post(invite, role | {"login": puppet["login"]}).json()["token"]
    puppets = client_as(sqlite_client, puppet["person_id"])
    assert puppets.post("/me/invitations", {"token": offer}).json()["waits_for_county"]
    assert puppets.get("/me").json()["host_ids"] == []
    assert officer.post(f"/people/{proposed['person_id']}/roles", role).status_code == 201
    assert colleague.get("/me").json()["host_ids"] == ["h01"]
    assert sees_of_appointments(another)[-1] == sees_of_appointments(manager)[-1] == "manager-appointed"
    theirs = accept(officer, officer.post(invite, {"role": "sme", "email": "o@host.example"}).json()["token"]).json()
    assert code(officer.post(f"/people/{theirs['person_id']}/roles", role)) == (403, "forbidden")
    assert another.post(f"/people/{theirs['person_id']}/roles", role).status_code == 201


@pytest.mark.parametrize("role", [Role.COUNTY_OFFICER, Role.FINANCE, Role.AUDITOR, Role.ADMIN])
def test_nobody_but_an_admin_invites_to_the_county(sqlite_firm: ApiClient, role: Role) -> None:
    asked = {"role": role.value, "email": "x@county.example"}
    officer, admin = sqlite_firm.signed_in(Role.COUNTY_OFFICER), sqlite_firm.signed_in(Role.ADMIN)
    assert officer.post("/orgs/org-test/invitations", asked).status_code == 403
    assert sqlite_firm.post(f"/orgs/{FIRM}/invitations", asked).status_code == 403
    assert admin.post("/orgs/org-test/invitations", asked).status_code == 201
    assert code(admin.post(f"/orgs/{FIRM}/invitations", asked)) == (422, "role_does_not_fit")


def test_an_existing_person_accepts_signed_in_and_nobody_else_can(sqlite_client: ApiClient) -> None:
    add_orgs(sqlite_client)
    officer = sqlite_client.signed_in(Role.COUNTY_OFFICER)
    colleague = sqlite_client.signed_in(Role.SME, org_id=HOST_ORG, login="zhao")
    stranger = sqlite_client.signed_in(Role.SME, org_id=FIRM, login="qian")
    asked = {"role": "lab_manager", "host_id": "h01", "login": "Zhao"}
    token = officer.post(f"/orgs/{HOST_ORG}/invitations", asked).json()["token"]
    assert code(accept(officer, token)) == (409, "for_an_account")
    assert code(stranger.post("/me/invitations", {"token": token})) == (403, "forbidden")
    accepted = colleague.post("/me/invitations", {"token": token})
    assert (accepted.status_code, accepted.json()["waits_for_county"]) == (201, False)
    assert colleague.get("/me").json()["roles"] == ["lab_manager", "sme"]
    elsewhere = officer.post(f"/orgs/{HOST_ORG}/invitations", asked | {"login": "qian"}).json()["token"]
    assert code(stranger.post("/me/invitations", {"token": elsewhere})) == (409, "member_elsewhere")
    unknown = officer.post(f"/orgs/{HOST_ORG}/invitations", asked | {"login": "nobody-here"})
    assert unknown.status_code == 201, "whether a login exists is not said"


def test_an_invitation_ends_when_it_is_withdrawn_expires_or_its_author_may_no_more(sqlite_firm: ApiClient) -> None:
    def fresh() -> dict:
        return sqlite_firm.post(f"/orgs/{FIRM}/invitations", {"role": "sme", "email": "li@firm.example"}).json()

    withdrawn, expired, orphan, used = fresh(), fresh(), fresh(), fresh()
    for _ in range(2):
        gone = sqlite_firm.request("DELETE", f"/invitations/{withdrawn['invitation_id']}")
        assert gone.json()["withdrawn_at"] is not None
    assert code(accept(sqlite_firm, withdrawn["token"])) == (422, "token_not_valid")
    with sqlite_firm.parts.database.write() as session:
        ends = sqlite_firm.parts.real_now() - timedelta(seconds=1)
        session.execute(
            update(OneTimeToken).where(OneTimeToken.subject_id == expired["invitation_id"]).values(expires_at=ends)
        )
    assert code(accept(sqlite_firm, expired["token"])) == (422, "token_not_valid")
    assert accept(sqlite_firm, used["token"]).status_code == 201
    late = sqlite_firm.request("DELETE", f"/invitations/{used['invitation_id']}")
    assert code(late) == (409, "invitation_accepted")
    with sqlite_firm.parts.database.write() as session:
        session.execute(update(Person).where(Person.person_id == sqlite_firm.person_id).values(active=False))
    assert code(accept(sqlite_firm, orphan["token"])) == (422, "token_not_valid")
    with sqlite_firm.parts.database.read() as session:
        assert session.get_one(Invitation, orphan["invitation_id"]).accepted_at is None


def test_invitations_of_another_organisation_are_not_seen(sqlite_firm: ApiClient) -> None:
    made = sqlite_firm.post(f"/orgs/{FIRM}/invitations", {"role": "sme", "email": "li@firm.example"}).json()
    stranger = sqlite_firm.signed_in(Role.SME, org_id=HOST_ORG)
    assert stranger.get(f"/orgs/{FIRM}/invitations").status_code == 403
    assert stranger.request("DELETE", f"/invitations/{made['invitation_id']}").status_code == 404
    assert stranger.post(f"/orgs/{FIRM}/invitations", {"role": "sme", "email": "a@b.example"}).status_code == 404
    for both in ({"email": "a@b.example", "login": "zhao"}, {}):
        assert code(sqlite_firm.post(f"/orgs/{FIRM}/invitations", {"role": "sme"} | both)) == (422, "one_addressee")


def test_in_a_firm_its_contact_keeps_people_out_and_others_do_not(sqlite_client: ApiClient) -> None:
    add_orgs(sqlite_client)
    first = sqlite_client.signed_in(Role.SME, org_id=FIRM)
    sqlite_client.parts.clock.advance(60_000)  # type: ignore[attr-defined]
    second, third = sqlite_client.signed_in(Role.SME, org_id=FIRM), sqlite_client.signed_in(Role.SME, org_id=FIRM)
    stranger = sqlite_client.signed_in(Role.SME, org_id=HOST_ORG)
    out = {"active": False}
    assert second.edit("PATCH", f"/people/{first.person_id}", 1, out).status_code == 403
    assert stranger.edit("PATCH", f"/people/{first.person_id}", 1, out).status_code == 404
    assert first.edit("PATCH", f"/people/{second.person_id}", 1, out).status_code == 200
    assert second.get("/me").status_code == 401
    assert first.edit("PATCH", f"/people/{third.person_id}", 1, out).status_code == 200
    assert first.edit("PATCH", f"/people/{first.person_id}", 1, out).status_code == 403


def test_in_a_firm_only_its_contact_takes_a_role_back(sqlite_client: ApiClient) -> None:
    add_orgs(sqlite_client)
    contact, member, third = (sqlite_client.signed_in(Role.SME, org_id=FIRM) for _ in range(3))
    with sqlite_client.parts.database.write() as session:
        earlier = sqlite_client.parts.now() - timedelta(days=1)
        session.execute(update(Person).where(Person.person_id == contact.person_id).values(created_at=earlier))
    for person in (contact, third):
        refused = member.request("DELETE", f"/people/{person.person_id}/roles/sme")
        assert code(refused) == (403, "forbidden")
        assert "联系人" in refused.json()["zh"]
    assert contact.request("DELETE", f"/people/{third.person_id}/roles/sme").json()["roles"] == []
    officer = sqlite_client.signed_in(Role.COUNTY_OFFICER)
    assert officer.request("DELETE", f"/people/{contact.person_id}/roles/sme").json()["roles"] == []


def test_roles_are_given_and_taken_by_who_may_at_once(sqlite_client: ApiClient) -> None:
    add_orgs(sqlite_client)
    manager = sqlite_client.signed_in(Role.LAB_MANAGER, org_id=HOST_ORG, host_id="h01")
    colleague = sqlite_client.signed_in(Role.SME, org_id=HOST_ORG)
    path = f"/people/{colleague.person_id}/roles"
    given = sqlite_client.signed_in(Role.COUNTY_OFFICER).post(path, {"role": "lab_manager", "host_id": "h01"})
    assert given.status_code == 201, given.text
    assert colleague.get("/me").json()["host_ids"] == ["h01"]
    assert manager.post(path, {"role": "county_officer"}).json()["facts"]["roles"] == "admin"
    assert manager.request("DELETE", f"{path}/sme").status_code == 200
    assert manager.request("DELETE", f"{path}/lab_manager?host_id=h01").json()["roles"] == []
    assert colleague.get("/me").json()["roles"] == []
    own = manager.request("DELETE", f"/people/{manager.person_id}/roles/lab_manager?host_id=h01")
    assert own.status_code == 403


@pytest.fixture
def served(parts) -> Iterator[ApiClient]:
    with behind_uvicorn(parts) as anonymous:
        yield anonymous


def test_of_two_who_accept_at_once_one_does(served: ApiClient) -> None:
    add_orgs(served)
    member = served.signed_in(Role.SME, org_id=FIRM)
    token = member.post(f"/orgs/{FIRM}/invitations", {"role": "sme", "email": "li@firm.example"}).json()["token"]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda number: accept(served, token, f"li-{number}").status_code, range(4)))
    assert sorted(answers) == [201, 422, 422, 422]
    assert len(member.get(f"/orgs/{FIRM}/people").json()["items"]) == 2
