"""Chores: what a worker does again and again is planned once, put off when it is done, forgotten when it is gone."""

from datetime import timedelta

import pytest

from api.chores import CHORES, Chore, do_chore
from api.work import Work, system_actor
from api.worker import Worker
from store.database import Database
from store.series import SeriesStore
from store.tables.calendar import Due, DueKind
from store.tables.registry import Instrument, RunStatus
from store.tables.usage import Alert
from tests.support.builders_booking import BY_THE_SAMPLE, Office, add_tariff, open_office
from wire.clock import ManualClock, from_ms


@pytest.fixture
def office(database: Database, clock: ManualClock) -> Office:
    return open_office(database, clock)


def open_alerts(office: Office) -> list[str]:
    return sorted(alert.subject for alert in office.all_of(Alert) if alert.open_slot == 1 and alert.rule == "no_tariff")


def look(office: Office) -> list[str]:
    """Watch the prices once; return for which instruments somebody is told that there is none."""
    with office.work(system_actor("worker")) as work:
        assert do_chore(work, "watch_prices") == work.now + timedelta(hours=1)
    return open_alerts(office)


def add_unpriced(office: Office) -> str:
    """Set up another instrument like the first one, without prices."""
    with office.database.write() as session:
        first = session.get_one(Instrument, office.instrument)
        columns = {column.name: getattr(first, column.name) for column in Instrument.__table__.columns}
        session.add(Instrument(**columns | {"instrument_id": "xc-h01-77", "code": "XC-H01-77"}))
    return "xc-h01-77"


def test_an_instrument_without_a_price_list_is_told_once_and_cleared_when_it_has_one(office: Office) -> None:
    assert look(office) == []
    new = add_unpriced(office)
    assert look(office) == look(office) == [new]
    (alert,) = office.all_of(Alert)
    assert (alert.owner, alert.times) == ("h01", 1)
    with office.database.write() as session:
        add_tariff(session, new, BY_THE_SAMPLE, valid_from=office.now + timedelta(hours=2))
    assert look(office) == [new]
    office.advance(timedelta(hours=2))
    assert look(office) == []


def test_a_retired_instrument_needs_no_price_list(office: Office) -> None:
    new = add_unpriced(office)
    with office.database.write() as session:
        session.get_one(Instrument, new).run_status = RunStatus.RETIRED.value
    assert look(office) == []


def test_workers_plan_a_chore_once_do_it_when_it_is_due_and_drop_one_that_no_version_knows(
    sqlite_database: Database, api_series: SeriesStore, clock: ManualClock
) -> None:
    done: list[str] = []

    def note(work: Work) -> None:
        done.append(work.actor.person_id)

    chore = Chore("sweep", timedelta(hours=1), note)
    hands = [
        Worker(
            sqlite_database,
            api_series,
            clock,
            name=name,
            handlers={DueKind.CHORE: lambda work, subject: do_chore(work, subject, (chore,))},
            chores=(chore,),
        )
        for name in ("w1", "w2")
    ]
    with sqlite_database.write() as session:
        session.add(
            Due(
                kind=DueKind.CHORE.value,
                subject_id="long gone",
                due_at=from_ms(clock.now_ms()),
                attempts=0,
                last_error="",
            )
        )
    for hand in hands:
        hand.plan()
        hand.run_once()
    clock.advance(3_600_000)
    hands[1].plan()
    hands[1].run_once()
    assert done == ["system:w1", "system:w2"]
    with sqlite_database.read() as session:
        assert [row.subject_id for row in session.query(Due)] == ["sweep"]


def test_chores_have_names_of_their_own() -> None:
    assert len({chore.name for chore in CHORES}) == len(CHORES)
