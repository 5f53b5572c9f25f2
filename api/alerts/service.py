"""Who sees an alert, and being done with it. Called by the HTTP endpoints and by `openlab alerts`."""

from enum import StrEnum

from sqlalchemy import ColumnElement, Select, select, true

from api.errors import conflict, not_found
from api.work import Actor, Work
from store.alerts import finish_alert
from store.tables.accounts import Role
from store.tables.usage import Alert
from wire.clock import to_ms

READERS = (Role.LAB_MANAGER, Role.COUNTY_OFFICER, Role.ADMIN)
_SEE_ALL = (Role.COUNTY_OFFICER, Role.ADMIN, Role.AUDITOR)


class AlertState(StrEnum):
    """Which alerts are asked for. `open`: nobody is done with it."""

    OPEN = "open"
    DONE = "done"
    ALL = "all"


def alerts_seen(actor: Actor, state: AlertState, rule: str | None, owner: str | None) -> Select[Alert]:
    """Return the selection of the alerts that the actor may see; `owner` '' are the county's."""
    seen = select(Alert).where(_visible(actor))
    if state is not AlertState.ALL:
        seen = seen.where(Alert.open_slot == 1 if state is AlertState.OPEN else Alert.open_slot.is_(None))
    if rule is not None:
        seen = seen.where(Alert.rule == rule)
    if owner is not None:
        seen = seen.where(Alert.owner == owner)
    return seen


def find_visible(work: Work, alert_id: str) -> Alert:
    """Return an alert that the actor may see. Refused 404, for another host's too."""
    found = work.session.scalars(select(Alert).where(Alert.alert_id == alert_id, _visible(work.actor))).one_or_none()
    if found is None:
        raise not_found("告警", "alert", alert_id)
    return found


def be_done(work: Work, alert_id: str, note: str) -> Alert:
    """Say that an alert has been dealt with, once, with a note that stands in the audit chain of its owner.

    Where its cause is still there it is raised anew, as another alert. Refused: 403, 404, 409 `already_done`.
    """
    work.require(READERS, "处理告警", "be done with an alert")
    alert = find_visible(work, alert_id)
    if not finish_alert(work.session, alert_id, to_ms(work.now), work.actor.person_id):
        raise conflict(
            "already_done",
            "该告警已处理;请刷新列表。",
            "This alert has been dealt with; read the list again.",
            alert_id=alert_id,
        )
    work.session.refresh(alert)
    after = {"rule": alert.rule, "subject": alert.subject, "times": alert.times, "note": note}
    work.audit("alert.done", f"alert:{alert_id}", host_id=alert.owner or None, after=after)
    return alert


def _visible(actor: Actor) -> ColumnElement[bool]:
    """The county and its auditors see all, lab managers their own host's."""
    if actor.is_system or actor.has(*_SEE_ALL):
        return true()
    return Alert.owner.in_(sorted(actor.host_ids)) if actor.has(Role.LAB_MANAGER) else ~true()
