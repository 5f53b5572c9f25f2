"""Every refusal is problem+json with a stable code, a sentence in two languages and the facts."""

from collections.abc import Iterator

import pytest

from api.deps import Parts
from api.schemas import Problem
from store.tables.accounts import Role
from tests.support.api_client import ApiClient, in_process, test_parts

KEYS = {"type", "title", "status", "code", "detail", "zh", "en", "facts"}


def _problem(answer, status: int, code: str) -> dict:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert set(body) == KEYS
    assert (body["status"], body["code"], body["type"]) == (status, code, f"urn:openlab:problem:{code}")
    assert body["zh"]
    assert body["en"]
    Problem.model_validate(body)
    return body


def test_an_unknown_address_is_a_404_problem(sqlite_client: ApiClient) -> None:
    _problem(sqlite_client.get("/no-such-thing"), 404, "no_such_address")


def test_an_unknown_method_is_a_405_problem_that_lists_the_allowed_ones(sqlite_client: ApiClient) -> None:
    answer = sqlite_client.request("PUT", "/hosts")
    _problem(answer, 405, "method_not_allowed")
    assert "GET" in answer.headers["allow"]


def test_an_unknown_instrument_is_a_404_that_names_it(sqlite_client: ApiClient) -> None:
    body = _problem(sqlite_client.get("/instruments/xc-h99-01"), 404, "not_found")
    assert body["facts"] == {"noun": "instrument", "key": "xc-h99-01"}
    assert "xc-h99-01" in body["zh"]


def test_the_detail_is_in_the_language_asked_for(sqlite_client: ApiClient) -> None:
    body = sqlite_client.get("/instruments/nope", headers={"Accept-Language": "en-GB,en"}).json()
    assert body["detail"] == body["en"]
    assert sqlite_client.get("/instruments/nope").json()["detail"] == body["zh"]


def test_a_bad_field_is_named_and_its_value_is_not_repeated(sqlite_client: ApiClient) -> None:
    answer = sqlite_client.post("/sessions", {"login": "somebody", "password": "x" * 300})
    body = _problem(answer, 422, "invalid_request")
    assert [field["field"] for field in body["facts"]["fields"]] == ["body.password"]
    assert "xxx" not in answer.text


def test_a_misspelt_field_is_refused_and_not_ignored(sqlite_client: ApiClient) -> None:
    answer = sqlite_client.post("/sessions", {"login": "somebody", "password": "x", "remember": True})
    assert _problem(answer, 422, "invalid_request")["facts"]["fields"][0]["field"] == "body.remember"


def test_a_nul_character_is_refused_wherever_it_stands(client: ApiClient) -> None:
    _problem(client.get("/instruments?host=%00"), 422, "nul_in_address")
    _problem(client.get("/instruments/x%00y"), 422, "nul_in_address")
    _problem(client.post("/sessions", {"login": "a\0b", "password": "secret enough"}), 422, "invalid_request")
    _problem(client.post("/password-resets", {"login": "\0"}), 422, "invalid_request")


def test_a_broken_cursor_and_too_large_a_page_are_refused(sqlite_client: ApiClient) -> None:
    for cursor in ("!!!", "e30", "WzEsMl0", "W251bGxd", "x" * 999):
        _problem(sqlite_client.get("/instruments", params={"cursor": cursor}), 422, "bad_cursor")
    _problem(sqlite_client.get("/instruments", params={"limit": 201}), 422, "invalid_request")


def test_nobody_gets_401_and_the_way_to_sign_in(sqlite_client: ApiClient) -> None:
    answer = sqlite_client.get("/me")
    _problem(answer, 401, "not_signed_in")
    assert answer.headers["www-authenticate"] == "Bearer"
    for header in ("Bearer nonsense", "Basic dXNlcjpwYXNz", "Bearer "):
        _problem(sqlite_client.get("/me", headers={"Authorization": header}), 401, "not_signed_in")


@pytest.fixture
def narrow(sqlite_parts: Parts) -> Iterator[ApiClient]:
    """An API with tight limits."""
    parts = test_parts(
        sqlite_parts.database, sqlite_parts.series, sqlite_parts.clock, write_limit="3/minute", body_bytes_max=2000
    )
    with in_process(parts) as client:
        yield client


def test_too_many_writes_of_one_person_are_429_and_say_when_to_come_back(narrow: ApiClient) -> None:
    officer, other = narrow.signed_in(Role.COUNTY_OFFICER), narrow.signed_in(Role.COUNTY_OFFICER)
    for _ in range(3):
        assert officer.post("/orgs", {}).status_code == 422
    answer = officer.post("/orgs", {})
    body = _problem(answer, 429, "too_many_requests")
    assert 1 <= body["facts"]["retry_after_s"] <= 61
    assert answer.headers["retry-after"] == str(body["facts"]["retry_after_s"])
    assert other.post("/orgs", {}).status_code == 422


def test_a_body_above_the_limit_is_413_also_without_a_length(narrow: ApiClient) -> None:
    officer = narrow.signed_in(Role.COUNTY_OFFICER)
    _problem(officer.post("/orgs", {"name_zh": "x" * 3000}), 413, "body_too_large")
    chunks = (b"x" * 500 for _ in range(10))
    answer = officer.request(
        "POST", "/orgs", content=chunks, headers={"Idempotency-Key": "k", "Content-Type": "application/json"}
    )
    _problem(answer, 413, "body_too_large")


def test_health_readiness_and_metrics_answer(client: ApiClient) -> None:
    assert client.get("//healthz").json() == {"status": "ok"}
    assert client.get("//readyz").json() == {"status": "ok", "database": "ok", "series": "ok"}
    counted = 'openlab_api_requests_total{method="GET",route="/hosts",status="200"} '
    before = client.get("//metrics").text.partition(counted)[2].partition("\n")[0] or "0"
    client.get("/hosts")
    assert f"{counted}{float(before) + 1}" in client.get("//metrics").text


def test_the_documentation_page_needs_no_other_network(sqlite_client: ApiClient) -> None:
    page = sqlite_client.get("//docs")
    assert page.status_code == 200
    assert "http://" not in page.text.replace("http://testserver", "")
    assert "https://" not in page.text
    script = page.text.partition('src="')[2].partition('"')[0]
    assert sqlite_client.get(f"/{script}").status_code == 200
