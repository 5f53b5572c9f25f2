"""Shapes of alerts as the API gives and takes them."""

from typing import Annotated

from pydantic import Field

from api.alerts.meanings import meaning_of
from api.alerts.service import AlertState
from api.schemas import Answer, Instant, Question
from store.tables.usage import Alert


class AlertAnswer(Answer):
    """Something a person should look at. `owner` is a host, '' for the county; `done_by` a person or `system`."""

    alert_id: str
    rule: str
    subject: str
    owner: str
    state: AlertState
    detail: str
    means_zh: str
    means_en: str
    times: int
    first_at: Instant
    last_at: Instant
    done_by: str | None

    @staticmethod
    def of(found: Alert) -> "AlertAnswer":
        zh, en = meaning_of(found.rule)
        return AlertAnswer(
            alert_id=found.alert_id,
            rule=found.rule,
            subject=found.subject,
            owner=found.owner,
            state=AlertState.OPEN if found.open_slot == 1 else AlertState.DONE,
            detail=found.detail,
            means_zh=zh,
            means_en=en,
            times=found.times,
            first_at=found.first_at,
            last_at=found.last_at,
            done_by=found.done_by,
        )


class DoneAsked(Question):
    """What was found and done about it."""

    note: Annotated[str, Field(min_length=1, max_length=1000)]
