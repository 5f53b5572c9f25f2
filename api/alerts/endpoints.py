"""HTTP of alerts. Each endpoint calls one service function."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from api.alerts import service
from api.alerts.schemas import AlertAnswer, DoneAsked
from api.deps import Once, reads, writes
from api.pagination import WantedPage, paginate
from api.problems import problems
from api.schemas import Page
from api.work import Work
from store.tables.usage import Alert

router = APIRouter(tags=["alerts"])


@router.get("/alerts", summary="What a person should look at, newest first")
def list_alerts(
    work: Annotated[Work, reads(*service.READERS)],
    page: WantedPage,
    state: service.AlertState = service.AlertState.OPEN,
    rule: Annotated[str | None, Query(max_length=128)] = None,
    owner: Annotated[str | None, Query(max_length=64, description="A host; empty for the county's own")] = None,
) -> Page[AlertAnswer]:
    """A lab manager sees those about the own host's instruments and agents, the county all."""
    seen = service.alerts_seen(work.actor, state, rule, owner)
    rows, cursor = paginate(work.session, seen, (Alert.first_at, Alert.alert_id), page, descending=True)
    return Page[AlertAnswer](items=[AlertAnswer.of(row) for row in rows], next_cursor=cursor)


@router.get("/alerts/{alert_id}", summary="One alert", responses=problems(404))
def read_alert(alert_id: str, work: Annotated[Work, reads(*service.READERS)]) -> AlertAnswer:
    """404 also for one of another host."""
    return AlertAnswer.of(service.find_visible(work, alert_id))


@router.post(
    "/alerts/{alert_id}/done",
    status_code=201,
    response_model=AlertAnswer,
    summary="Be done with an alert, once",
    responses=problems(404),
)
def done(alert_id: str, asked: DoneAsked, work: Annotated[Work, writes(*service.READERS)], once: Once) -> Response:
    """The note stands in the audit chain. An alert whose cause is still there is raised anew."""
    return once(lambda: AlertAnswer.of(service.be_done(work, alert_id, asked.note)))
