"""A query parameter that an operation does not know, or takes once, is refused: nobody gets another list than asked."""

from typing import Any

from api.openapi import operations
from store.tables.accounts import Role
from tests.support.api_client import ApiClient


def refused(answer: Any) -> tuple[int, str, dict[str, Any]]:
    body = answer.json()
    return answer.status_code, body["code"], body["facts"]


def test_a_slip_in_the_name_of_a_filter_is_refused_with_the_names_there_are(sqlite_client: ApiClient) -> None:
    officer = sqlite_client.signed_in(Role.COUNTY_OFFICER)
    assert officer.get("/registrations?state=pending&limit=5").status_code == 200
    status, code, facts = refused(officer.get("/registrations?stat=pending"))
    assert (status, code) == (422, "unknown_parameter")
    assert (facts["unknown"], facts["known"]) == (["stat"], ["cursor", "limit", "state"])
    text = officer.get("/registrations?stat=pending").json()
    assert all("stat" in text[language] and "state" in text[language] for language in ("zh", "en"))
    assert refused(officer.get("/registrations?state=pending&state=approved"))[1] == "repeated_parameter"
    assert refused(officer.get("/me?x"))[2] == {"field": "x", "unknown": ["x"], "known": []}
    assert refused(officer.post("/orgs?dry=1", {}))[1] == "unknown_parameter"
    assert refused(officer.get("/instruments/i-1/calendar?from_at=2026-01-01T00:00:00Z"))[2]["known"] == ["from", "to"]


def test_what_may_be_given_many_times_may(sqlite_client: ApiClient) -> None:
    assert sqlite_client.get("/catalogue?town=a&town=b").status_code == 200
    assert refused(sqlite_client.get("/catalogue?town=a&q=a&q=b"))[2]["repeated"] == ["q"]


def test_no_operation_passes_over_an_unknown_parameter_but_those_that_say_so(sqlite_client: ApiClient) -> None:
    app = sqlite_client.http.app  # type: ignore[attr-defined]
    paths = sqlite_client.get("/openapi.json").json()["paths"]
    for operation in operations(app):
        if operation.path.startswith("/api/v1/") and operation.in_schema:
            assert operation.judges_input, operation.path
            assert "422" in paths[operation.path][operation.method.lower()]["responses"], operation.path
    assert sqlite_client.get("/calendars/secret.ics?nocache=1").status_code == 404  # calendar programs add their own
    for path in ("//healthz?probe=1", "//readyz?probe=1"):  # and so do supervisors
        assert sqlite_client.get(path).status_code == 200
