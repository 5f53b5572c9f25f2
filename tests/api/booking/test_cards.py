"""Cards at a reader: whose they are, what a reading does to a booking, and what nobody can know from it."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from api.booking import cards
from api.booking.card_readings import SKEW_MOST, when_held
from api.booking.due import ensure_due
from api.errors import Refused
from api.worker import Worker
from store.database import APPEND_ONLY_MARK
from store.ledger import check_usage_chain, refold
from store.series import SeriesStore
from store.tables.audit import Anomaly
from store.tables.calendar import BookingState, BookingUse, DueKind, UnbookedUse
from store.tables.cards import AccessCard, CardReading, ReadingOutcome
from store.tables.usage import Alert
from tests.support.builders_booking import FIRM_A, FIRM_B, HOUR, MANAGER, MINUTE, OFFICER, OTHER_MANAGER, Office
from tests.support.usage import NINE, StreamWriter
from wire.clock import from_ms
from wire.messages import ClockQuality, PowerState, RecordKind, timestamp

CARD_A, CARD_B, NOBODYS = "a" * 64, "b" * 64, "0" * 64
R, S = ReadingOutcome, BookingState
NTP, RTC, UNSET = ClockQuality.NTP, ClockQuality.RTC, ClockQuality.UNSET


class Reader:
    """A reader beside the office's instrument, with the stream of its agent; cards are held to it as time goes."""

    def __init__(self, office: Office) -> None:
        self.office = office
        self.writer = StreamWriter(office.instrument, start_ms=office.clock.now_ms())

    def hold(self, card: str | None, said: str = "tap", quality: ClockQuality = NTP, **fields: Any) -> None:
        """Hold a card to it, now; the ledger has it at once."""
        self.writer.card(card, said, self.office.clock.now_ms(), quality, **fields)
        self.deliver()

    def deliver(self) -> None:
        self.office.record(self.writer)


def issue(office: Office, card: str = CARD_A, person: str = "p-a", host: str | None = "h01", **more: Any) -> AccessCard:
    actor = more.pop("actor", MANAGER)
    with office.work(actor) as work:
        return cards.issue(work, card, person, host, more.pop("label", ""), more.pop("valid_to", None))


def refusal(office: Office, actor: Any, call: Any, *given: Any) -> Refused:
    with pytest.raises(Refused) as told, office.work(actor) as work:
        call(work, *given)
    return told.value


def outcomes(office: Office) -> list[tuple[str, str | None]]:
    return [(row.outcome, row.booking_id) for row in sorted(office.all_of(CardReading), key=lambda row: row.seq)]


@pytest.fixture
def one(sqlite_office: Office, api_series: SeriesStore) -> tuple[Office, Reader, Worker]:
    """An office on SQLite whose instrument needs a check-in, its reader, its worker, and a card of each firm."""
    return furnished(sqlite_office, api_series)


def furnished(office: Office, series: SeriesStore) -> tuple[Office, Reader, Worker]:
    office.change_instrument(use_detection="power+checkin")
    issue(office)
    issue(office, CARD_B, "p-b")
    return office, Reader(office), Worker(office.database, series, office.clock, chores=())


Desk = tuple[Office, Reader, Worker]


def test_a_card_checks_in_and_out_and_decides_what_is_billed(office: Office, api_series: SeriesStore) -> None:
    office, reader, worker = furnished(office, api_series)
    booking = office.book(FIRM_A, office.slot(0, 2))
    writer = reader.writer
    writer.open(0)
    writer.tick(PowerState.RUNNING, 600)
    office.advance(10 * MINUTE)
    reader.hold(CARD_A)
    writer.tick(PowerState.RUNNING, 1800)
    office.advance(30 * MINUTE)
    reader.hold(CARD_A)
    writer.tick(PowerState.RUNNING, 300)
    writer.close(0)
    office.advance(5 * MINUTE)
    reader.deliver()
    worker.run_once()
    stored = office.booking(booking)
    assert (stored.checked_in_at, stored.checked_out_at) == (from_ms(NINE) + 10 * MINUTE, from_ms(NINE) + 40 * MINUTE)
    assert outcomes(office) == [(R.CHECKED_IN, booking), (R.CHECKED_OUT, booking)]
    office.advance(timedelta(seconds=2))
    worker.run_once()
    [use] = office.all_of(BookingUse)
    assert (use.booking_id, use.running_ms) == (booking, 1_800_000)
    assert sorted(row.running_ms for row in office.all_of(UnbookedUse)) == [300_000, 600_000]
    assert office.booking(booking).state in (S.COMPLETED, S.IN_USE)
    # The cards changed nothing of what the meter said.
    with office.database.read() as session:
        assert check_usage_chain(session, writer.agent, writer.stream) is None
        assert list(refold(session, writer.agent, writer.stream)) == []
    assert [alert.rule for alert in office.all_of(Alert)] == []


def test_a_reading_is_judged_once_however_often_it_is_due(one: Desk) -> None:
    office, reader, worker = one
    booking = office.book(FIRM_A, office.slot(0, 1))
    reader.hold(CARD_A)
    worker.run_once()
    came = office.booking(booking).checked_in_at
    office.advance(10 * MINUTE)
    record = reader.writer.records[0]
    subject = f"{reader.writer.agent}/{record.stream}/{record.seq}"
    with office.database.write() as session:
        ensure_due(session, DueKind.CHECKIN, subject, office.now)
    worker.run_once()
    assert outcomes(office) == [(R.CHECKED_IN, booking)]
    stored = office.booking(booking)
    assert (stored.checked_in_at, stored.checked_out_at) == (came, None)


def test_the_next_partys_check_in_ends_a_forgotten_one(one: Desk) -> None:
    office, reader, worker = one
    first = office.book(FIRM_A, office.slot(0, 1))
    second = office.book(FIRM_B, office.slot(1, 1))
    reader.hold(CARD_A)
    worker.run_once()
    office.advance(62 * MINUTE)
    reader.hold(CARD_B)
    worker.run_once()
    assert office.booking(first).checked_out_at == office.booking(second).checked_in_at == office.now
    [anomaly] = office.all_of(Anomaly)
    assert (anomaly.rule, anomaly.subject_id) == ("forgotten_check_out", first)


def test_what_fits_nothing_changes_nothing_and_the_host_is_told(one: Desk) -> None:
    office, reader, worker = one
    booking = office.book(FIRM_A, office.slot(0, 1))
    reader.hold(NOBODYS)
    reader.hold(CARD_B)
    reader.hold(CARD_A, "out")
    reader.hold(CARD_A, "in", UNSET)
    reader.hold(CARD_A, "in", NTP, ts=timestamp(office.clock.now_ms() + 120_000))
    reader.hold(CARD_A, "sideways")
    reader.hold(None, "in")
    reader.hold(CARD_A, "in", inst="_")
    for _ in range(9):
        worker.run_once()
        office.advance(timedelta(seconds=1))
    found = [outcome for outcome, _ in outcomes(office)]
    assert found == [R.UNKNOWN_CARD, R.NO_BOOKING, R.NO_BOOKING, *[R.CLOCK_NOT_TRUSTED] * 2, *[R.BAD_RECORD] * 3]
    assert office.booking(booking).state == S.CONFIRMED
    assert {(alert.rule, alert.owner) for alert in office.all_of(Alert)} == {
        (f"reading_{name}", "h01") for name in ("unknown_card", "no_booking", "clock_not_trusted", "bad_record")
    }
    assert all(NOBODYS not in alert.detail for alert in office.all_of(Alert))


def test_a_reading_that_waited_in_the_spool_counts_for_when_it_was(one: Desk) -> None:
    office, reader, worker = one
    booking = office.book(FIRM_A, office.slot(0, 1))
    held = office.clock.now_ms()
    office.advance(40 * MINUTE)
    reader.hold(CARD_A, "in", NTP, ts=timestamp(held))
    worker.run_once()
    assert office.booking(booking).checked_in_at == from_ms(held)


@pytest.mark.parametrize("proof", ["a later record", "nothing", "another boot", "a clock that was set"])
def test_a_clock_of_its_own_is_believed_late_once_a_later_record_proves_it(one: Desk, proof: str) -> None:
    office, reader, worker = one
    booking = office.book(FIRM_A, office.slot(0, 1))
    held = office.clock.now_ms()
    office.advance(40 * MINUTE)
    reader.hold(CARD_A, "in", RTC, ts=timestamp(held))
    worker.run_once()
    assert outcomes(office) == []
    reader.writer.now_ms = office.clock.now_ms()
    if proof == "a clock that was set":
        reader.writer.card(None, "step", office.clock.now_ms(), RTC, kind=RecordKind.CLOCK, inst="_")
    if proof != "nothing":
        reader.writer.boot = "boot-2" if proof == "another boot" else reader.writer.boot
        reader.writer.tick(PowerState.OFF, 0)
    reader.deliver()
    office.advance(MINUTE)
    worker.run_once()
    if proof == "a later record":
        assert outcomes(office) == [(R.CHECKED_IN, booking)]
        assert office.booking(booking).checked_in_at == from_ms(held)
    else:
        assert outcomes(office) == []
        office.advance(10 * MINUTE)
        worker.run_once()
        assert outcomes(office) == [(R.CLOCK_NOT_TRUSTED, None)]


def test_readings_are_judged_in_the_order_of_their_stream(one: Desk) -> None:
    """Ten comes after nine, however their names sort; the tenth, on time, proves the clock of the ninth."""
    office, reader, worker = one
    booking = office.book(FIRM_A, office.slot(0, 1))
    for _ in range(8):
        reader.writer.tick(PowerState.OFF, 1)
    held = office.clock.now_ms()
    office.advance(40 * MINUTE)
    reader.writer.card(CARD_A, "tap", held, RTC)
    reader.hold(CARD_A, "tap", NTP)
    left = office.now
    worker.run_once()
    assert outcomes(office) == [(R.CHECKED_IN, booking)]
    office.advance(timedelta(seconds=1))
    worker.run_once()
    assert outcomes(office) == [(R.CHECKED_IN, booking), (R.CHECKED_OUT, booking)]
    stored = office.booking(booking)
    assert (stored.checked_in_at, stored.checked_out_at) == (from_ms(held), left)


def test_a_card_counts_from_when_it_was_issued_until_it_was_taken_back(one: Desk) -> None:
    office, reader, worker = one
    [card] = [row for row in office.all_of(AccessCard) if row.card_sha256 == CARD_A]
    assert refusal(office, MANAGER, cards.issue, CARD_A, "p-b", "h01", "", None).code == "card_in_use"
    assert refusal(office, OTHER_MANAGER, cards.issue, NOBODYS, "p-b", "h01", "", None).code == "forbidden"
    assert refusal(office, MANAGER, cards.issue, NOBODYS, "p-b", None, "", None).code == "forbidden"
    assert refusal(office, OTHER_MANAGER, cards.revoke, card.card_id, "lost").code == "not_found"
    booking = office.book(FIRM_A, office.slot(0, 3))
    office.advance(MINUTE)
    with office.work(MANAGER) as work:
        cards.revoke(work, card.card_id, "lost")
    assert refusal(office, MANAGER, cards.revoke, card.card_id, "lost").code == "card_revoked"
    reader.hold(CARD_A, "in")
    worker.run_once()
    assert outcomes(office) == [(R.CARD_NOT_VALID, None)]
    issue(office, CARD_A, "p-a", None, actor=OFFICER, valid_to=office.now + HOUR)
    office.advance(MINUTE)
    reader.hold(CARD_A, "in")
    worker.run_once()
    assert outcomes(office)[-1] == (R.CHECKED_IN, booking)
    issue(office, CARD_A, "p-b")
    assert sorted((row.host_scope, row.issue_no, row.person_id) for row in office.all_of(AccessCard)) == [
        ("", 1, "p-a"),
        ("h01", 1, "p-a"),
        ("h01", 1, "p-b"),
        ("h01", 2, "p-b"),
    ]


@pytest.mark.parametrize("table", ["access_card", "card_reading"])
def test_cards_and_readings_are_never_changed(one: Desk, table: str) -> None:
    office, reader, worker = one
    reader.hold(NOBODYS)
    worker.run_once()
    for statement in (f"UPDATE {table} SET card_sha256 = 'x'", f"DELETE FROM {table}"):
        with pytest.raises(Exception, match=APPEND_ONLY_MARK), office.database.write() as session:
            session.execute(text(statement))


@given(
    held_s=st.integers(-200, 200_000),
    quality=st.sampled_from(list(ClockQuality)),
)
def test_no_reading_lies_after_its_arrival_and_no_unset_clock_is_believed(held_s: int, quality: ClockQuality) -> None:
    received = from_ms(NINE)
    record = StreamWriter("xc-h01-01").card(CARD_A, "in", NINE - held_s * 1000, quality)
    at = when_held(record, received)
    if quality is UNSET or held_s < -60:
        assert at is None
    elif quality in (NTP, ClockQuality.HOLDOVER):
        assert at == min(received, from_ms(NINE - held_s * 1000))
    else:
        assert (at is None) == (held_s > SKEW_MOST.total_seconds())
    assert at is None or at <= received
