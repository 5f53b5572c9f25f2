"""A creating request that is repeated is done once, however it is repeated, on both databases."""

import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import func, select

from api.accounts.uscc import make
from api.deps import Parts
from store.tables.accounts import IdempotencyKey, Role
from store.tables.audit import AuditEvent
from store.tables.registry import Org
from tests.support.api_client import ApiClient, behind_uvicorn

ORG = {"uscc": make("91990000123456789"), "kind": "sme", "name_zh": "示例企业 甲"}
OTHER = {"uscc": make("91990000987654321"), "kind": "sme", "name_zh": "示例企业 乙"}


def _count(client: ApiClient, table) -> int:
    with client.parts.database.read() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def test_the_same_request_again_gets_the_same_answer_and_changes_nothing(client: ApiClient) -> None:
    officer = client.signed_in(Role.COUNTY_OFFICER)
    first = officer.post("/orgs", ORG, key="k-1")
    assert first.status_code == 201, first.text
    before = _count(client, Org), _count(client, AuditEvent)
    again = officer.post("/orgs", ORG, key="k-1")
    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers["idempotency-replayed"] == "true"
    assert (_count(client, Org), _count(client, AuditEvent)) == before


def test_the_order_of_the_fields_does_not_make_another_request(client: ApiClient) -> None:
    officer = client.signed_in(Role.COUNTY_OFFICER)
    officer.post("/orgs", ORG, key="k-1")
    assert officer.post("/orgs", dict(reversed(ORG.items())), key="k-1").status_code == 201


def test_the_same_key_with_another_body_is_409(client: ApiClient) -> None:
    officer = client.signed_in(Role.COUNTY_OFFICER)
    officer.post("/orgs", ORG, key="k-1")
    answer = officer.post("/orgs", OTHER, key="k-1")
    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_key_reused")


def test_a_key_belongs_to_one_person_and_one_address(client: ApiClient) -> None:
    one, two = client.signed_in(Role.COUNTY_OFFICER), client.signed_in(Role.COUNTY_OFFICER)
    assert one.post("/orgs", ORG, key="k-1").status_code == 201
    assert two.post("/orgs", OTHER, key="k-1").status_code == 201
    assert one.post("/tokens", {"name": "report"}, key="k-1").status_code == 201


def test_without_a_key_nothing_is_created(client: ApiClient) -> None:
    officer = client.signed_in(Role.COUNTY_OFFICER)
    before = _count(client, Org)
    answer = officer.request("POST", "/orgs", json=ORG)
    assert (answer.status_code, answer.json()["code"]) == (400, "idempotency_key_missing")
    assert _count(client, Org) == before


def test_a_refused_request_is_judged_anew_when_it_comes_again(client: ApiClient) -> None:
    officer = client.signed_in(Role.COUNTY_OFFICER)
    for _ in range(2):
        answer = officer.post("/orgs", ORG | {"uscc": "91990000123456789X"}, key="k-1")
        assert (answer.status_code, answer.json()["code"]) == (422, "uscc_invalid")
    assert _count(client, IdempotencyKey) == 0
    assert officer.post("/orgs", ORG, key="k-1").status_code == 201


@pytest.fixture
def served(parts: Parts) -> Iterator[ApiClient]:
    with behind_uvicorn(parts) as anonymous:
        yield anonymous


def test_many_repeats_at_once_create_one_and_all_get_its_answer(served: ApiClient) -> None:
    officer = served.signed_in(Role.COUNTY_OFFICER)
    before = _count(served, Org)
    answers: list[tuple[int, str]] = []

    def send() -> None:
        answer = officer.post("/orgs", ORG, key="k-1")
        answers.append((answer.status_code, answer.text))

    threads = [threading.Thread(target=send) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(answers) == 16
    assert {status for status, _ in answers} == {201}
    assert len({text for _, text in answers}) == 1
    assert _count(served, Org) == before + 1
