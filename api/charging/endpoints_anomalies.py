"""HTTP of anomalies: what looked wrong, and what somebody decided. Each endpoint calls one service function."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from api.charging import anomalies
from api.charging import schemas as s
from api.deps import Once, reads, writes
from api.pagination import WantedPage, paginate
from api.problems import problems
from api.schemas import Page
from api.work import Work
from store.tables.accounts import Role
from store.tables.audit import Anomaly

router = APIRouter(tags=["charging"])

_READERS = (Role.LAB_MANAGER, Role.COUNTY_OFFICER, Role.FINANCE, Role.ADMIN)


@router.get("/anomalies", summary="What looked wrong, newest first")
def list_anomalies(
    work: Annotated[Work, reads(*_READERS)],
    page: WantedPage,
    host_id: Annotated[str | None, Query(max_length=64)] = None,
    rule: Annotated[str | None, Query(max_length=64)] = None,
    open_only: Annotated[bool, Query(description="Only those that nobody decided")] = False,
) -> Page[s.AnomalyAnswer]:
    """A lab manager sees the own host's, the county all. An open one keeps what it is about out of every reward."""
    seen = anomalies.anomalies_seen(work.actor, host_id, rule, open_only)
    rows, cursor = paginate(work.session, seen, (Anomaly.found_at, Anomaly.anomaly_id), page, descending=True)
    items = [s.AnomalyAnswer.of(row, anomalies.decision_on(work.session, row.anomaly_id)) for row in rows]
    return Page[s.AnomalyAnswer](items=items, next_cursor=cursor)


@router.get("/anomalies/{anomaly_id}", summary="An anomaly and the decision on it", responses=problems(404))
def read_anomaly(anomaly_id: str, work: Annotated[Work, reads(*_READERS)]) -> s.AnomalyAnswer:
    """404 also for one of another host."""
    found = anomalies.find_visible(work, anomaly_id)
    return s.AnomalyAnswer.of(found, anomalies.decision_on(work.session, anomaly_id))


@router.post(
    "/anomalies/{anomaly_id}/decision",
    status_code=201,
    response_model=s.AnomalyAnswer,
    summary="Decide an anomaly, once",
    responses=problems(404),
)
def decide(
    anomaly_id: str, asked: s.DecisionAsked, work: Annotated[Work, writes(Role.COUNTY_OFFICER)], once: Once
) -> Response:
    """`cleared`: there is an explanation. `confirmed`: the charge stays out of every reward. A session that is held
    back (`second_source`) is matched where that is cleared and stays unbilled where it is confirmed; 409 `told_twice`
    while the same time counts by another source."""

    def produce() -> s.AnomalyAnswer:
        decision = anomalies.decide_anomaly(work, anomaly_id, asked.verdict, asked.note)
        return s.AnomalyAnswer.of(anomalies.find_anomaly(work.session, anomaly_id), decision)

    return once(produce)
