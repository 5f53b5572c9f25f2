"""Use that is known only after its booking was charged: the whole charge is posted anew, exactly once, and marked."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import delete, select

from api.booking.matching_service import match_session
from api.charging.anomalies import decide_anomaly
from api.charging.disputes import raise_dispute, withdraw_dispute
from api.charging.months import close_month, compute_seal
from api.charging.payments import record_payment
from api.charging.reversal import reverse_charge
from api.charging.service import Charged, charge_booking
from api.charging.settled import settled_fen
from api.charging.statement_files import is_late
from api.charging.statements import finalize_statement, prepare_statement
from api.verify.checks import all_checks, verify
from api.worker import Worker
from store.database import Database
from store.ledger import commit_usage
from store.series import open_series
from store.tables.audit import Anomaly, Verdict
from store.tables.calendar import Booking, BookingState, CalendarKind, CalendarRow, Due, DueKind
from store.tables.charging import Charge, ChargeEvidence, Statement, Tender
from tests.api.charging.building import (
    CUSTOMER,
    FINANCE,
    FIRM,
    HOST,
    INSTRUMENT,
    MANAGER,
    MINUTE,
    OFFICER,
    County,
    build,
)
from tests.support.usage import NINE, StreamWriter
from wire.clock import ManualClock, to_ms
from wire.ids import new_ulid

MARCH, APRIL = 202603, 202604
IN_APRIL = timedelta(days=34)
LATE_MS = NINE + 60 * MINUTE


@pytest.fixture
def lone(sqlite_database: Database, tmp_path) -> Iterator[County]:
    built = build(sqlite_database, tmp_path)
    yield built
    built.series.close()


def charged_booking(county: County) -> str:
    """A booking with a place in the calendar, used for half an hour and charged."""
    booking_id = county.book(NINE, 120)
    with county.database.write() as session:
        booking, row_id = session.get_one(Booking, booking_id), new_ulid()
        session.add(
            CalendarRow(
                row_id=row_id,
                instrument_id=INSTRUMENT,
                kind=CalendarKind.BOOKING.value,
                from_at=booking.slot_from,
                to_at=booking.slot_to,
                active=True,
                note="",
                created_by="test",
                created_at=booking.created_at,
            )
        )
        session.flush()
        booking.calendar_row_id = row_id
    county.use(booking_id, 30)
    assert county.charge(booking_id).result is Charged.POSTED
    return booking_id


def comes_late(county: County) -> str:
    """Twenty more minutes of the same booking reach the ledger now; return the session."""
    writer = StreamWriter(INSTRUMENT, start_ms=LATE_MS)
    name = writer.run(20, standby_s=0)
    county.sample(LATE_MS, LATE_MS + 20 * MINUTE)
    with county.database.write() as session:
        commit_usage(session, writer.arrivals(), to_ms(county.now), "gateway:test")
    return name


def work_off(county: County) -> None:
    """The worker does what is due."""
    Worker(county.database, county.series, ManualClock(to_ms(county.now)), chores=()).run_once()


def dies_before_commit(county: County, booking_id: str) -> None:
    """A worker that has done everything and committed nothing."""
    with county.database.write() as session:
        assert charge_booking(county.work(session), booking_id, county.series).result is Charged.POSTED
        raise KeyboardInterrupt


def charges(county: County) -> list[tuple[int, int, int]]:
    """Revision, amount and posting month of every charge."""
    with county.database.read() as session:
        rows = session.scalars(select(Charge).order_by(Charge.revision))
        return [(row.revision, row.total_fen, row.posting_month) for row in rows]


def findings(county: County) -> list[object]:
    with county.database.read() as session:
        return [outcome.finding for outcome in verify(session, all_checks()) if outcome.finding is not None]


def bill(county: County, month: int) -> str:
    draft = county.do(prepare_statement, HOST, FIRM, month, who=MANAGER)
    return str(county.do(finalize_statement, draft.statement_id, who=MANAGER).statement_id)


def test_before_the_month_is_sealed_the_whole_charge_is_posted_anew_once_whoever_dies_meanwhile(county: County):
    booking_id = charged_booking(county)
    name = comes_late(county)
    gone = open_series(f"sqlite:///{county.series.path}")
    gone.close()
    # The series is away after the reversal: neither of the two is posted, and the work stays.
    Worker(county.database, gone, ManualClock(to_ms(county.now)), chores=()).run_once()
    assert charges(county) == [(1, 20_000, MARCH)]
    with pytest.raises(KeyboardInterrupt):
        dies_before_commit(county, booking_id)
    assert charges(county) == [(1, 20_000, MARCH)]
    county.now += timedelta(minutes=1)
    work_off(county)
    work_off(county)
    assert county.charge(booking_id).result is Charged.ALREADY
    assert charges(county) == [(1, 20_000, MARCH), (2, -20_000, MARCH), (3, 40_000, MARCH)]
    with county.database.read() as session:
        posted = session.scalars(select(Charge).where(Charge.revision == 3)).one()
        assert name in posted.reason
        assert posted.metered_ms == 50 * MINUTE
        kept = session.scalars(select(ChargeEvidence).where(ChargeEvidence.charge_id == posted.charge_id)).all()
        assert {row.kind: row.item_count for row in kept} == {"samples": 3_000, "records": 4}
        assert session.scalars(select(Due).where(Due.kind != DueKind.CHORE.value)).all() == []
    assert findings(county) == []


def test_after_the_month_is_sealed_both_go_into_the_open_one_marked_and_nothing_sealed_changes(county: County):
    booking_id = charged_booking(county)
    first = bill(county, MARCH)
    county.do(record_payment, first, Tender.CASH, 20_000, "B1", county.now, who=FINANCE)
    county.now += IN_APRIL
    with county.database.read() as session:
        open_ones = list(session.scalars(select(Anomaly.anomaly_id)))
    for anomaly_id in open_ones:
        county.do(decide_anomaly, anomaly_id, Verdict.CLEARED, "fine", who=OFFICER)
    [closed] = county.do(close_month, HOST, MARCH, who=FINANCE)
    comes_late(county)
    work_off(county)
    assert charges(county) == [(1, 20_000, MARCH), (2, -20_000, APRIL), (3, 40_000, APRIL)]
    second = bill(county, APRIL)
    with county.database.read() as session:
        assert compute_seal(session, HOST, MARCH) == closed.seal
        old, new = session.get_one(Statement, first), session.get_one(Statement, second)
        assert (old.total_fen, new.total_fen, new.line_count) == (20_000, 20_000, 2)
        rows = session.scalars(select(Charge).order_by(Charge.revision)).all()
        assert [is_late(row, new) for row in rows[1:]] == [True, True]
        assert {row.service_month for row in rows} == {MARCH}
        # What had been paid for the reversed charge pays for the new one.
        assert [settled_fen(session, row.charge_id) for row in rows] == [0, 0, 20_000]
        assert session.get_one(Booking, booking_id).state == BookingState.CLOSED.value
    assert findings(county) == []


def test_a_disputed_charge_waits_for_its_answer_before_late_use_changes_it(lone: County):
    charged_booking(lone)
    with lone.database.read() as session:
        charge_id = session.scalars(select(Charge.charge_id)).one()
    dispute = lone.do(raise_dispute, charge_id, "not ours", who=CUSTOMER)
    comes_late(lone)
    work_off(lone)
    assert len(charges(lone)) == 1
    # Nobody has forgotten it: what waits is due, and verification sees no leak.
    assert findings(lone) == []
    lone.do(withdraw_dispute, dispute.dispute_id, "it was ours", who=CUSTOMER)
    lone.now += timedelta(minutes=1)
    work_off(lone)
    assert [total for _, total, _ in charges(lone)] == [20_000, -20_000, 40_000]


def test_a_charge_that_was_taken_back_stays_so_whatever_comes_late(lone: County):
    charged_booking(lone)
    with lone.database.read() as session:
        charge_id = session.scalars(select(Charge.charge_id)).one()
    lone.do(reverse_charge, charge_id, "samples were spoilt", who=OFFICER)
    comes_late(lone)
    work_off(lone)
    assert [total for _, total, _ in charges(lone)] == [20_000, -20_000]


def test_late_use_that_nothing_is_due_for_is_found(lone: County):
    charged_booking(lone)
    comes_late(lone)
    with lone.database.write() as session:
        for row in session.scalars(select(Due)).all():
            match_session(lone.work(session), row.subject_id)
        session.execute(delete(Due))
    assert ["came late" in str(each) for each in findings(lone)] == [True]
