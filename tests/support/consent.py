"""Propose, answer and look up proposals as somebody, and take an instrument out of service."""

from typing import Any

import pytest

from api.booking import proposals
from api.booking.outages import OutageOutcome, declare_outage
from api.booking.slots import Interval
from api.errors import Refused
from store.tables.booking_rules import BookingProposal, ProposalState
from tests.support.builders_booking import MANAGER, Office


def propose(
    office: Office, actor: Any, booking_id: str, slot: Interval, reason: str = "delayed", sha256: str = ""
) -> BookingProposal:
    """Propose another slot on the version that is stored."""
    version = office.booking(booking_id).row_version
    with office.work(actor) as work:
        return proposals.propose_slot(work, booking_id, slot, reason, version, sha256)


def answer(
    office: Office, actor: Any, proposal: BookingProposal, accept: bool = True, sha256: str = "", version: int = 1
) -> BookingProposal:
    """Accept or decline."""
    with office.work(actor) as work:
        return proposals.answer(work, proposal.proposal_id, accept, version, "", sha256)


def refused(office: Office, call: Any, *given: Any, **named: Any) -> str:
    """Return the code of the refusal."""
    with pytest.raises(Refused) as told:
        call(office, *given, **named)
    return told.value.code


def the_proposal(office: Office) -> BookingProposal:
    """Return the one proposal that is open."""
    (found,) = [row for row in office.all_of(BookingProposal) if row.state == ProposalState.OPEN]
    return found


def outage(office: Office, window: Interval, actor: Any = MANAGER, *, move: bool = True) -> OutageOutcome:
    """Take the first instrument out of service."""
    with office.work(actor) as work:
        return declare_outage(work, office.instrument, window, "pump broken", move=move)
