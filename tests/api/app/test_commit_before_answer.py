"""The answer tells the truth about the commit. With a real server: a test client may hide the order."""

import threading
from collections.abc import Iterator
from typing import Annotated

import pytest
from fastapi import APIRouter, FastAPI
from sqlalchemy import event, select
from sqlalchemy.orm import Session

from api import app as app_module
from api.deps import Parts, reads, writes
from api.work import Work
from store.tables.accounts import Role
from store.tables.charging import NumberSeries
from tests.support.api_client import ApiClient, behind_uvicorn


def _application(parts: Parts) -> FastAPI:
    router = APIRouter()

    @router.post("/probe")
    def probe(work: Annotated[Work, writes(Role.ADMIN)]) -> dict[str, str]:
        work.session.add(NumberSeries(series="probe", last_no=1))
        work.session.flush()
        return {"said": "done"}

    @router.post("/failing-commit")
    def failing_commit(work: Annotated[Work, writes(Role.ADMIN)]) -> dict[str, str]:
        work.session.add(NumberSeries(series="failing", last_no=1))

        @event.listens_for(work.session, "before_commit")
        def disk_full(session: Session) -> None:
            raise OSError("no space left on device")

        return {"said": "done"}

    @router.get("/probe")
    def look(work: Annotated[Work, reads(Role.ADMIN)]) -> list[str]:
        return list(work.session.scalars(select(NumberSeries.series).order_by(NumberSeries.series)))

    app = app_module.create_app(parts)
    app.include_router(router, prefix="/api/v1")
    return app


@pytest.fixture
def admin(parts: Parts) -> Iterator[ApiClient]:
    with behind_uvicorn(parts, _application(parts)) as anonymous:
        yield anonymous.signed_in(Role.ADMIN)


def test_what_was_answered_with_200_is_committed(admin: ApiClient) -> None:
    assert admin.post("/probe").json() == {"said": "done"}
    with admin.parts.database.read() as session:
        assert session.get(NumberSeries, "probe") is not None
    assert admin.get("/probe").json() == ["probe"]


def test_a_commit_that_fails_is_answered_with_500_and_leaks_nothing(admin: ApiClient) -> None:
    answer = admin.post("/failing-commit")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "internal_error"
    assert "no space" not in answer.text
    assert len(answer.json()["facts"]["incident"]) == 12
    assert admin.get("/probe").json() == []


def test_a_row_that_is_there_already_is_409_and_not_500(admin: ApiClient) -> None:
    admin.post("/probe")
    answer = admin.post("/probe")
    assert (answer.status_code, answer.json()["code"]) == (409, "already_there")


def test_many_writers_at_once_all_get_their_answer(admin: ApiClient) -> None:
    """More waiting requests than worker threads: the one that holds the lock still finds a thread to go on."""
    statuses: list[int] = []

    def knock() -> None:
        statuses.append(admin.post("/probe").status_code)

    threads = [threading.Thread(target=knock) for _ in range(90)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(statuses) == [200] + [409] * 89
