"""The health page of processes without HTTP of their own."""

from collections.abc import Iterator

import httpx
import pytest

from wire.health_page import HealthPage


@pytest.fixture
def missing() -> list[str]:
    """What is missing; empty while all is well."""
    return []


@pytest.fixture
def base(missing: list[str]) -> Iterator[str]:
    page = HealthPage("127.0.0.1", 0, lambda: missing[0] if missing else None, lambda: b"openlab_up 1\n")
    yield f"http://127.0.0.1:{page.port}"
    page.close()


def test_it_is_alive_whatever_else_is_wrong(base, missing):
    missing.append("not connected to the broker")
    assert httpx.get(f"{base}/healthz").status_code == 200


def test_it_says_what_is_missing_until_it_is_ready(base, missing):
    missing.append("not connected to the broker")
    answer = httpx.get(f"{base}/readyz")
    assert (answer.status_code, answer.text) == (503, "not connected to the broker\n")
    missing.clear()
    assert httpx.get(f"{base}/readyz").status_code == 200


def test_metrics_are_shown_and_other_addresses_name_the_pages_there_are(base):
    assert httpx.get(f"{base}/metrics").text == "openlab_up 1\n"
    nothing = httpx.get(f"{base}/")
    assert nothing.status_code == 404
    assert "/readyz" in nothing.text


def test_it_stops_listening_when_it_is_closed():
    page = HealthPage("127.0.0.1", 0, lambda: None, lambda: b"")
    port = page.port
    page.close()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=2)
