"""Who may call what: every operation of the application, for every role, tokens without scopes, and nobody."""

import pytest

from api.deps import Access, Mode, writes
from api.openapi import Operation, operations
from store.tables.accounts import Role
from tests.support.api_client import ApiClient

REFUSALS_OF_THE_DOOR = {"forbidden", "scope_missing", "csrf_header_missing", "organisation_not_active"}


def _all(client: ApiClient) -> list[tuple[Operation, Access]]:
    app = client.http.app  # type: ignore[attr-defined]
    return [(each, each.access) for each in operations(app) if each.access is not None]


def _call(client: ApiClient, operation: Operation):
    path = operation.path
    while "{" in path:
        before, _, rest = path.partition("{")
        path = f"{before}1{rest.partition('}')[2]}"
    headers = {"Idempotency-Key": "walk", "If-Match": '"1"'}
    return client.request(operation.method, f"/{path}", headers=headers, json={"walk": "the table"})


def _refused_at_the_door(answer) -> bool:
    return answer.status_code == 403 and "roles" in answer.json()["facts"] and "noun" not in answer.json()["facts"]


def test_every_operation_says_who_may_call_it(sqlite_client: ApiClient) -> None:
    app = sqlite_client.http.app  # type: ignore[attr-defined]
    silent = [
        f"{each.method} {each.path}"
        for each in operations(app)
        if each.in_schema and each.access is None and not each.open_to_all and each.path not in {"/healthz", "/metrics"}
    ]
    assert silent == []
    assert len(_all(sqlite_client)) > 15


def test_nobody_gets_into_anything_that_is_not_public(sqlite_client: ApiClient) -> None:
    for operation, access in _all(sqlite_client):
        answer = _call(sqlite_client, operation)
        assert (answer.status_code == 401) == (not access.public), f"{operation.method} {operation.path}: {answer.text}"


@pytest.mark.parametrize("role", list(Role))
def test_a_role_gets_exactly_where_the_table_says(sqlite_client: ApiClient, role: Role) -> None:
    person = sqlite_client.signed_in(role, host_id="h01" if role is Role.LAB_MANAGER else "")
    for operation, access in _all(sqlite_client):
        if operation.path.endswith(("/sessions/current", "/me/password")):
            continue  # would end the walk
        answer = _call(person, operation)
        assert answer.status_code < 500, f"{operation.method} {operation.path}: {answer.text}"
        assert _refused_at_the_door(answer) == (not access.allows(frozenset({role}))), (
            f"{role} {operation.method} {operation.path}: {answer.text}"
        )


def test_an_auditor_reads_everything_and_writes_only_their_own_sign_in(sqlite_client: ApiClient) -> None:
    auditor = frozenset({Role.AUDITOR})
    own_affairs = {"/api/v1/sessions/current", "/api/v1/tokens", "/api/v1/tokens/{token_id}", "/api/v1/me/password"}
    for operation, access in _all(sqlite_client):
        if access.mode is Mode.READ and operation.method == "GET":
            assert access.allows(auditor), operation.path
        elif access.mode is Mode.WRITE and not access.public:
            assert access.allows(auditor) == (operation.path in own_affairs), operation.path
    with pytest.raises(ValueError, match="auditor"):
        writes(Role.AUDITOR)


def test_changing_methods_change_and_reading_methods_do_not(sqlite_client: ApiClient) -> None:
    for operation, access in _all(sqlite_client):
        if operation.method == "GET":
            assert access.mode is Mode.READ, operation.path
        if access.mode is Mode.READ:
            assert operation.method in {"GET", "POST"}, operation.path  # a POST that reads: a question with a body


def test_a_changing_post_is_safe_to_repeat(sqlite_client: ApiClient) -> None:
    keyless = {"/api/v1/me/password"}  # the old password is not right any more
    missing = [
        operation.path
        for operation, access in _all(sqlite_client)
        if operation.method == "POST" and access.mode is Mode.WRITE and not (operation.once or operation.if_match)
    ]
    assert set(missing) <= keyless


def test_a_token_without_the_scope_is_refused(sqlite_client: ApiClient) -> None:
    reader = sqlite_client.signed_in(Role.COUNTY_OFFICER, scopes="read")
    assert reader.get("/orgs").status_code == 200
    answer = reader.post("/orgs", {})
    assert (answer.status_code, answer.json()["code"]) == (403, "scope_missing")
