"""Whatever is sent to any operation, in the form that the OpenAPI document describes: no 5xx, and every answer has the
form that the document promises. With real names half of the time, so that requests get past the first look-up."""

import warnings
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import openapi as openapi_schemas
from sqlalchemy import inspect

from api.openapi import operations
from store.database import Base, Database
from store.tables.accounts import Role
from tests.api.charging.building import FIRM, HOST
from tests.api.rewards.building import RewardCounty, build_rewards
from tests.support.api_client import ApiClient, in_process, test_parts
from wire.clock import ManualClock, to_ms

# These end the sign-in that the others are sent with, or lock the sender out.
ENDS_THE_WALK = ("/sessions/current", "/sessions/revocation", "/me/password", "/sign-ins", "/orgs/{org_id}/standing")
ORDER = (Role.COUNTY_OFFICER, Role.LAB_MANAGER, Role.SME, Role.FINANCE, Role.ADMIN, Role.AUDITOR)


@pytest.fixture
def county(sqlite_database: Database, tmp_path: Path) -> Iterator[RewardCounty]:
    """A county with a charge that was billed, paid, rewarded and exported."""
    built = build_rewards(sqlite_database, tmp_path)
    built.paid(minutes=80)
    built.prepare()
    yield built
    built.series.close()


@pytest.fixture
def nobody(county: RewardCounty) -> Iterator[ApiClient]:
    parts = test_parts(county.database, county.series, ManualClock(to_ms(county.now + timedelta(minutes=1))))
    with in_process(parts) as client:
        yield client


def known_names(database: Database) -> dict[str, list[Any]]:
    """What stands in the key columns of all tables, by the name of the column."""
    names: dict[str, set[Any]] = {}
    with database.read() as session:
        for table in Base.metadata.sorted_tables:
            for column in inspect(table).primary_key:
                names.setdefault(column.name, set()).update(
                    session.scalars(table.select().with_only_columns(column).limit(3))
                )
    return {name: sorted(values, key=str) for name, values in names.items()}


def walk(nobody: ApiClient, database: Database, examples: int) -> int:
    """Send `examples` requests to every operation, as somebody who may call it; return how many were sent."""
    app = nobody.http.app  # type: ignore[attr-defined]
    access = {(each.method, each.path): each.access for each in operations(app)}
    people = {role: _signed_in(nobody, role) for role in ORDER}
    names = known_names(database)
    sent = 0
    for found in openapi_schemas.from_asgi("/api/v1/openapi.json", app).get_all_operations():
        operation = found.ok()
        allowed = access[operation.method.upper(), operation.path]
        who = [people[role] for role in ORDER if allowed is not None and allowed.allows(frozenset({role}))]
        if not any(part in operation.path for part in ENDS_THE_WALK):
            sent += send(operation, who[:2] or [nobody], names, examples)
    return sent


def send(operation: Any, senders: list[ApiClient], names: dict[str, list[Any]], examples: int) -> int:
    """Send generated requests to one operation; return how many."""
    name = f"{operation.method.upper()} {operation.path}"
    sent = 0

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        derandomize=True,
    )
    @given(case=operation.as_strategy(), sender=st.sampled_from(senders), chance=st.randoms(use_true_random=False))
    def try_it(case: Any, sender: ApiClient, chance: Any) -> None:
        nonlocal sent
        for parameter in case.path_parameters or {}:
            if names.get(parameter) and chance.random() < 0.7:
                case.path_parameters[parameter] = chance.choice(names[parameter])
        asked = case.as_transport_kwargs(base_url="http://testserver")
        headers = {**asked.get("headers", {}), **({"Authorization": f"Bearer {sender.token}"} if sender.token else {})}
        body = {part: asked[part] for part in ("params", "json", "data", "files") if asked.get(part) is not None}
        answer = sender.http.request(asked["method"], asked["url"], headers=dict(headers), **body)
        sent += 1
        # Readiness says 503 in its own form where a part is away.
        assert answer.status_code < 500 or name == "GET /readyz", f"{name}: {answer.status_code} {answer.text}"

    with warnings.catch_warnings():
        # Schemathesis warns of what it cannot generate well; what it does generate is enough here.
        warnings.simplefilter("ignore")
        try_it()
    return sent


def _signed_in(nobody: ApiClient, role: Role) -> ApiClient:
    org_id = {Role.SME: FIRM, Role.LAB_MANAGER: "org-h01"}.get(role, "org-test")
    return nobody.signed_in(role, org_id=org_id, host_id=HOST if role is Role.LAB_MANAGER else "")


@pytest.mark.parametrize("examples", [2, pytest.param(40, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_no_request_to_any_operation_ends_in_a_fault_of_the_server(
    nobody: ApiClient, county: RewardCounty, examples: int
) -> None:
    assert walk(nobody, county.database, examples) > 100 * examples
