"""What concerns people about a booking: the one place where steps become notices.

`record_event` (history.py) hands every event of a booking in here, in the transaction that makes it; api/notices keeps
it for each person in the same transaction. Decides which side is concerned, sends nothing.
"""

from enum import StrEnum
from typing import Any

from api.booking.states import BookingAction, Party
from api.notices import keeping
from api.work import Work
from store.tables.calendar import Booking


class Happening(StrEnum):
    """Events of a booking that are no step of its state machine."""

    BOOK = "book"
    PROPOSED = "proposed"
    PROPOSAL_ACCEPTED = "proposal-accepted"
    PROPOSAL_DECLINED = "proposal-declined"
    PROPOSAL_WITHDRAWN = "proposal-withdrawn"
    PROPOSAL_EXPIRED = "proposal-expired"
    USE_CLAIMED = "use-claimed"
    DISCOUNT = "discount"
    STRIKE_LIFTED = "strike-lifted"


_C, _M = Party.CUSTOMER, Party.MANAGER
_A, _H = BookingAction, Happening

CONCERNS: dict[str, frozenset[Party]] = {
    _H.BOOK: frozenset({_C, _M}),
    _A.CONFIRM: frozenset({_C, _M}),
    _A.REJECT: frozenset({_C}),
    _A.CANCEL: frozenset({_C, _M}),
    _A.EXPIRE: frozenset({_C, _M}),
    _A.MISS: frozenset({_C, _M}),
    _A.SHORTEN: frozenset({_C, _M}),
    _A.MOVE: frozenset({_C, _M}),
    _A.DISPLACE: frozenset({_C, _M}),
    _A.RECEIVE: frozenset({_C}),
    _A.SCHEDULE: frozenset({_C}),
    _A.UNSCHEDULE: frozenset({_C, _M}),
    _A.CONFIRM_RESULTS: frozenset({_C}),
    _A.REPORT: frozenset({_C}),
    _H.PROPOSED: frozenset({_C, _M}),
    _H.PROPOSAL_ACCEPTED: frozenset({_C, _M}),
    _H.PROPOSAL_DECLINED: frozenset({_C, _M}),
    _H.PROPOSAL_WITHDRAWN: frozenset({_C, _M}),
    _H.PROPOSAL_EXPIRED: frozenset({_C, _M}),
    _H.USE_CLAIMED: frozenset({_C, _M}),
    _H.DISCOUNT: frozenset({_C}),
    _H.STRIKE_LIFTED: frozenset({_C}),
}
"""Whom an event of a booking concerns. What is not listed concerns nobody who was not there: check-in, use found."""


def gather(work: Work, booking: Booking, kind: str, event_no: int, facts: dict[str, Any]) -> None:
    """Tell whom an event concerns; written in the transaction of the event, sent by nobody here."""
    concerned = CONCERNS.get(kind)
    if concerned:
        keeping.tell(work, booking, kind, event_no, concerned, facts)
