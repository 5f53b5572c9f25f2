"""The OpenAPI document is complete, and says what the code does."""

import pytest

from api.problems import MEDIA_TYPE
from tests.support.api_client import ApiClient


@pytest.fixture
def document(sqlite_client: ApiClient) -> dict:
    answer = sqlite_client.get("/openapi.json")
    assert answer.status_code == 200
    return answer.json()


def _operations(document: dict) -> list[tuple[str, dict]]:
    return [
        (f"{method.upper()} {path}", operation)
        for path, item in document["paths"].items()
        for method, operation in item.items()
    ]


def test_every_operation_has_a_summary_and_a_description(document: dict) -> None:
    for name, operation in _operations(document):
        assert operation.get("summary"), name
        assert operation.get("description"), name
        assert operation.get("tags"), name


def test_every_operation_describes_what_it_gives(document: dict) -> None:
    for name, operation in _operations(document):
        good = {status: each for status, each in operation["responses"].items() if status.startswith("2")}
        assert good, name
        for status, each in good.items():
            if status == "204" or name == "GET /metrics":
                continue
            contents = each.get("content", {})
            assert contents, name
            for media_type, content in contents.items():
                if media_type == "application/json":
                    assert content["schema"], f"{name} does not say what its answer looks like"


def test_every_problem_is_described_as_a_problem(document: dict) -> None:
    for name, operation in _operations(document):
        bad = {status: each for status, each in operation["responses"].items() if status[0] in "45"}
        assert "500" in bad, name
        for status, each in bad.items():
            if name == "GET /readyz" and status == "503":
                continue  # answers which part is not ready, in the shape of its 200
            assert MEDIA_TYPE in each["content"], f"{name} {status}"
            assert each["content"][MEDIA_TYPE]["schema"] == {"$ref": "#/components/schemas/Problem"}, f"{name} {status}"


def test_who_may_call_is_in_the_document(document: dict) -> None:
    for name, operation in _operations(document):
        assert operation["x-roles"], name
        assert ("401" in operation["responses"]) == bool(operation["security"]) or name == "POST /api/v1/sessions", name


def test_money_is_described_with_its_text_beside_it(document: dict) -> None:
    detail = document["components"]["schemas"]["InstrumentDetail"]["properties"]
    assert detail["original_value_fen"]["type"] == "integer"
    assert detail["original_value_yuan"]["type"] == "string"


def test_no_framework_error_shape_is_left(document: dict) -> None:
    assert "HTTPValidationError" not in str(document)
