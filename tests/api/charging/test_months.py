"""Closing a month: nothing left open, sealed for ever, and what comes late goes into the next open one."""

import threading
from datetime import UTC, datetime, timedelta

import pytest

from api.charging.anomalies import decide_anomaly
from api.charging.months import Seal, close_month, compute_seal
from api.charging.months_checklist import checklist
from api.charging.reversal import reverse_charge
from api.charging.statements import finalize_statement, prepare_statement
from api.errors import Refused
from store.database import Database
from store.ledger import commit_usage
from store.tables.audit import Verdict
from store.tables.calendar import Booking, BookingState
from store.tables.charging import Charge, PostingPeriod
from tests.api.charging.building import FINANCE, FIRM, HOST, INSTRUMENT, MANAGER, MINUTE, OFFICER, County
from tests.support.usage import NINE, StreamWriter
from wire.messages import PowerState

MARCH = 202603
APRIL_2 = datetime(2026, 4, 2, tzinfo=UTC)


def close(county: County, who=FINANCE, now=APRIL_2, month=MARCH, host: str | None = HOST):
    return county.do(close_month, host, month, who=who, now=now)


def clean_charge(county: County, start_ms: int = NINE) -> str:
    booking_id = county.book(start_ms)
    county.use(booking_id, 30, start_ms)
    charge_id = county.charge(booking_id).charge_id
    assert charge_id is not None
    return charge_id


def bill(county: County) -> None:
    draft = county.do(prepare_statement, HOST, FIRM, MARCH, who=MANAGER)
    county.do(finalize_statement, draft.statement_id, who=MANAGER)


def open_points(county: County) -> dict[str, int]:
    with county.database.read() as session:
        return {point.what: point.count for point in checklist(session, HOST, MARCH)}


def test_a_month_with_nothing_open_is_locked_with_its_seal(county):
    clean_charge(county)
    bill(county)
    [closed] = close(county)
    assert (closed.seal.count, closed.seal.sum_fen, closed.already) == (1, 20_000, False)
    with county.database.read() as session:
        row = session.get_one(PostingPeriod, (HOST, MARCH))
        assert (row.state, row.locked_by) == ("locked", "finance")
        assert row.seal is not None
        assert Seal.parse(row.seal) == compute_seal(session, HOST, MARCH)
    [again] = close(county)
    assert (again.already, again.seal) == (True, closed.seal)


def test_everything_that_is_open_is_listed_and_nothing_is_locked(county):
    county.book(NINE)
    county.charged(80, NINE + 300 * MINUTE)
    writer = StreamWriter(INSTRUMENT, start_ms=NINE + 900 * MINUTE)
    writer.open(0)
    writer.tick(PowerState.RUNNING, 60)
    with county.database.write() as session:
        commit_usage(session, writer.arrivals(), writer.now_ms, "gateway:test")
    county.do(prepare_statement, HOST, FIRM, MARCH, who=MANAGER)
    county.charged(20, NINE + 600 * MINUTE)
    expected = {
        "uncharged_bookings": 1,
        "open_sessions": 1,
        "undecided_anomalies": 2,
        "draft_statements": 1,
        "unbilled_charges": 1,
    }
    assert open_points(county) == expected
    with pytest.raises(Refused) as caught:
        close(county, host=None)
    assert caught.value.code == "month_not_done"
    assert {point["what"]: point["count"] for point in caught.value.facts["open"][HOST]} == expected
    with county.database.read() as session:
        row = session.get(PostingPeriod, (HOST, MARCH))
        assert row is None or row.state == "open"


def test_a_decided_anomaly_no_longer_holds_the_month(county):
    county.charged(80)
    bill(county)
    with county.database.read() as session:
        [point] = checklist(session, HOST, MARCH)
    for anomaly_id in point.subjects:
        county.do(decide_anomaly, anomaly_id, Verdict.CLEARED, "the meter was away", who=OFFICER)
        with pytest.raises(Refused) as caught:
            county.do(decide_anomaly, anomaly_id, Verdict.CONFIRMED, "really", who=OFFICER)
        assert caught.value.code == "already_decided"
    assert close(county)[0].seal.count == 1


def test_late_use_keeps_its_month_of_service_and_is_posted_into_the_next_open_one(county):
    clean_charge(county)
    bill(county)
    close(county)
    late = clean_charge(county, NINE + 300 * MINUTE)
    with county.database.read() as session:
        charge = session.get_one(Charge, late)
        assert (charge.service_month, charge.posting_month) == (MARCH, 202604)
        assert compute_seal(session, HOST, MARCH).count == 1


def test_a_reversal_after_the_lock_is_posted_into_the_open_month(county):
    charge_id = clean_charge(county)
    bill(county)
    [closed] = close(county)
    reversal = county.do(reverse_charge, charge_id, "wrong", who=MANAGER)
    assert (reversal.service_month, reversal.posting_month) == (MARCH, 202604)
    assert close(county)[0].seal == closed.seal


def test_a_month_that_is_not_over_cannot_be_closed(county):
    last_moment = datetime(2026, 3, 31, 15, 59, 59, 999_000, tzinfo=UTC)
    with pytest.raises(Refused) as caught:
        close(county, now=last_moment)
    assert caught.value.code == "month_not_over"
    assert close(county, now=last_moment + timedelta(milliseconds=1))[0].seal.count == 0


@pytest.mark.parametrize(
    ("options", "code"),
    [({"who": MANAGER}, "forbidden"), ({"host": "h99"}, "not_found"), ({"month": 202613}, "bad_month")],
)
def test_a_close_that_makes_no_sense_is_refused(county, options, code):
    with pytest.raises(Refused) as caught:
        close(county, **options)
    assert caught.value.code == code


def test_a_charge_and_the_lock_at_the_same_moment_never_disagree(county, database: Database):
    booking_id = county.book(NINE, state=BookingState.CONFIRMED)
    county.use(booking_id, 30)
    with county.database.write() as session:
        session.get_one(Booking, booking_id).state = "completed"
    start = threading.Barrier(2)
    outcomes: list[str] = []

    def charge() -> None:
        start.wait()
        outcomes.append(county.charge(booking_id).result)

    def lock() -> None:
        start.wait()
        try:
            close(county)
            outcomes.append("locked")
        except Refused as refused:
            outcomes.append(refused.code)

    threads = [threading.Thread(target=charge), threading.Thread(target=lock)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(outcomes) == ["month_not_done", "posted"]
