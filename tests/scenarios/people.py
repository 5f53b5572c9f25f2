"""The people of the stories, as their browsers see the platform: sign in with a password, then ask and change."""

from typing import Any
from uuid import uuid4

import httpx
from fastapi import FastAPI
from fastapi.testclient import TestClient

PASSWORD = "correct horse battery staple"


class Someone:
    """One person with a browser of their own."""

    def __init__(self, app: FastAPI, login: str) -> None:
        self._browser = TestClient(app, base_url="http://127.0.0.1")
        answer = self._browser.post("/api/v1/sessions", json={"login": login, "password": PASSWORD})
        assert answer.status_code == 201, answer.text

    def sees(self, path: str, **query: Any) -> Any:
        """What a page shows: the JSON of a successful GET."""
        answer = self.asks(path, **query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def asks(self, path: str, **query: Any) -> httpx.Response:
        """A GET, whatever comes of it."""
        return self._browser.get(f"/api/v1{path}", params=query)

    def does(self, path: str, **said: Any) -> Any:
        """A change that succeeds: the JSON of its answer."""
        answer = self.tries(path, **said)
        assert answer.status_code in (200, 201), answer.text
        return answer.json()

    def tries(self, path: str, **said: Any) -> httpx.Response:
        """A change, whatever comes of it."""
        return self._browser.post(f"/api/v1{path}", json=said, headers={"Idempotency-Key": uuid4().hex})
