"""Fifty firms, one slot: exactly one gets it, and the others hear so soon. On both engines, from threads."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from api.booking.states import BookingAction
from api.errors import Refused
from store.tables.calendar import Booking
from tests.support.builders_booking import FIRM_A, FIRM_B, MANAGER, Office, firm

CONTENDERS = 50
ROUNDS = 3
SLOWEST_LOSER_S = 3.0
"""A second is the goal and is measured where nothing else runs; this catches a storm of deadlocks."""


@dataclass(frozen=True)
class Answer:
    """What one contender heard, and after how long (of real time)."""

    won: bool
    code: str
    seconds: float


def contend(office: Office, start_h: float) -> list[Answer]:
    """Let all contenders ask at once for slots around the same hour."""
    gate = threading.Barrier(CONTENDERS)

    def ask(number: int) -> Answer:
        actor = FIRM_A if number % 2 else FIRM_B
        slot = office.slot(start_h + (number % 5) * 0.1, 1)
        gate.wait()
        began = time.monotonic()
        try:
            office.book(actor, slot)
        except Refused as refused:
            return Answer(False, refused.code, time.monotonic() - began)
        return Answer(True, "", time.monotonic() - began)

    with ThreadPoolExecutor(CONTENDERS) as pool:
        return list(pool.map(ask, range(CONTENDERS)))


def test_fifty_contenders_for_overlapping_slots_leave_exactly_one_booking(office: Office) -> None:
    for number in range(ROUNDS):
        answers = contend(office, 2 + 3 * number)
        assert [answer.won for answer in answers].count(True) == 1
        assert {answer.code for answer in answers if not answer.won} == {"slot_taken"}
        slowest = max(answer.seconds for answer in answers if not answer.won)
        assert slowest < SLOWEST_LOSER_S, f"the slowest loser waited {slowest:.2f} s"
    assert len(office.active_rows()) == ROUNDS == len(office.all_of(Booking))


def test_a_slot_that_is_given_back_is_taken_by_exactly_one(office: Office) -> None:
    booking_id = office.book(firm("a"), office.slot(2, 1))
    office.do(MANAGER, booking_id, BookingAction.CANCEL, reason="fault")
    assert [answer.won for answer in contend(office, 2)].count(True) == 1
