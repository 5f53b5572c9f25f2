"""What is edited with If-Match says its version where it is read: as the ETag of the one, or in each row of a list."""

from typing import Any

from api.accounts import registrations
from api.accounts.uscc import make
from api.openapi import operations
from api.work import system_actor
from store.tables.accounts import Role
from store.tables.registry import Instrument, OrgKind
from tests.support.api_client import ApiClient, client_as
from tests.support.builders_booking import FIRM_A, open_office

READ_ELSEWHERE = {
    "PATCH /people/{person_id}": "/orgs/{org_id}/people",
    "PATCH /orgs/{org_id}/standing": "/orgs",
    "POST /use-claims/{claim_id}/answer": "/use-claims",
    "POST /use-claims/{claim_id}/withdraw": "/use-claims",
    "POST /proposals/{proposal_id}/answer": "/bookings/{booking_id}/proposals",
    "POST /proposals/{proposal_id}/withdraw": "/bookings/{booking_id}/proposals",
    "DELETE /feeds/{feed_id}": "/feeds",
    "DELETE /special-days/{special_day_id}": "/special-days",
    "PUT /test-items/{test_item_id}": "/test-items/{test_item_id}/record",
}
"""Where the version of what has no address of its own, or none by that name, is read."""


def document(client: ApiClient) -> dict[str, Any]:
    return dict(client.get("/openapi.json").json())


def reads_with_etag(client: ApiClient) -> set[str]:
    app = client.http.app  # type: ignore[attr-defined]
    found = {each.path.removeprefix("/api/v1") for each in operations(app) if each.method == "GET" and each.versioned}
    paths = document(client)["paths"]
    for path in found:
        assert "ETag" in paths[f"/api/v1{path}"]["get"]["responses"]["200"]["headers"], path
    return found


def test_every_edit_with_a_version_has_a_place_where_the_version_is_read(sqlite_client: ApiClient) -> None:
    """The table over all operations: an ETag at its own address (or the one it is a step of), or rows that say it."""
    app, told = sqlite_client.http.app, document(sqlite_client)  # type: ignore[attr-defined]
    with_etag = reads_with_etag(sqlite_client)
    edits = {f"{op.method} {op.path.removeprefix('/api/v1')}" for op in operations(app) if op.if_match}
    assert set(READ_ELSEWHERE) <= edits
    for edit in sorted(edits):
        path = edit.partition(" ")[2]
        if path in with_etag or path.rpartition("/")[0] in with_etag or f"{path}/record" in with_etag:
            continue
        answer = told["paths"][f"/api/v1{READ_ELSEWHERE.get(edit, path)}"]["get"]["responses"]["200"]
        shown = answer["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        schema = told["components"]["schemas"][shown]["properties"]
        row = schema["items"]["items"]["$ref"].rpartition("/")[2] if "items" in schema else shown
        assert "row_version" in told["components"]["schemas"][row]["properties"], edit


def test_every_read_that_promises_an_etag_sends_the_version_of_its_row(sqlite_client: ApiClient) -> None:
    office = open_office(sqlite_client.parts.database, sqlite_client.parts.clock)  # type: ignore[arg-type]
    officer = sqlite_client.signed_in(Role.COUNTY_OFFICER, Role.ADMIN)
    item = {"test_item_id": "t-1", "instrument_id": office.instrument, "name_zh": "拉伸", "typical_session_minutes": 30}
    assert officer.post("/test-items", item).status_code == 201
    with office.work(system_actor("public")) as work:
        firm = registrations.Firm(make("91990000123456789"), OrgKind.SME, "示例甲", "", "")
        said = {"login": "wang", "name": "王某", "email": "w@firm.test", "language": "zh", "password_hash": "x"}
        asked, person = registrations.submit(work, firm, **said)
        asked_id, applicant_id = asked.registration_id, person.person_id
        lab_id = work.session.get_one(Instrument, office.instrument).lab_id
    applicant = client_as(sqlite_client, applicant_id)
    names = {
        "booking_id": office.book(FIRM_A),
        "instrument_id": office.instrument,
        "host_id": "h01",
        "lab_id": lab_id,
        "test_item_id": "t-1",
        "registration_id": asked_id,
    }
    for path in sorted(reads_with_etag(sqlite_client)):
        answer = (applicant if path.startswith("/me/") else officer).get(path.format(**names))
        assert answer.status_code == 200, f"{path}: {answer.text}"
        assert answer.headers.get("etag") == f'"{answer.json()["row_version"]}"', path
