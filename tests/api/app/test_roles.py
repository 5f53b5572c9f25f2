"""Who may call what: every operation of the application, for every role, tokens without scopes, and nobody."""

import pytest
from sqlalchemy import update

from api.deps import Access, Mode, writes
from api.openapi import Operation, operations
from store.tables.accounts import Role
from store.tables.registry import Org, OrgState
from tests.support.api_client import ApiClient

OWN_AFFAIRS = {"me", "sessions", "tokens", "inbox", "notices", "feeds"}
"""First words of the addresses where everybody signed in may change what is their own; all others name roles."""
ENDS_THE_WALK = ("/sessions/current", "/sessions/revocation", "/me/password")


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
        if operation.path.endswith(ENDS_THE_WALK):
            continue
        answer = _call(person, operation)
        assert answer.status_code < 500, f"{operation.method} {operation.path}: {answer.text}"
        assert _refused_at_the_door(answer) == (not access.allows(frozenset({role}))), (
            f"{role} {operation.method} {operation.path}: {answer.text}"
        )


def test_whose_organisation_is_not_active_changes_their_own_affairs_only(sqlite_client: ApiClient) -> None:
    person = sqlite_client.signed_in(Role.SME)
    with sqlite_client.parts.database.write() as session:
        session.execute(update(Org).values(state=OrgState.PENDING.value))
    for operation, access in _all(sqlite_client):
        if access.mode is Mode.READ or access.public or operation.path.endswith(ENDS_THE_WALK):
            continue
        kept_out = _call(person, operation).json()["code"] == "organisation_not_active"
        assert kept_out == (not access.inactive_too), operation.path
        assert not access.inactive_too or _is_own_affair(operation), operation.path


def _is_own_affair(operation: Operation) -> bool:
    return operation.path.removeprefix("/api/v1/").split("/")[0] in OWN_AFFAIRS


def test_an_auditor_reads_everything_and_writes_only_their_own_affairs(sqlite_client: ApiClient) -> None:
    auditor = frozenset({Role.AUDITOR})
    for operation, access in _all(sqlite_client):
        if access.mode is Mode.READ and operation.method == "GET":
            assert access.allows(auditor), operation.path
        elif access.mode is Mode.WRITE and not access.public:
            assert access.allows(auditor) == (not access.roles), operation.path
            assert access.roles or _is_own_affair(operation), f"{operation.path} changes more than one's own affairs"
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
