"""Charges entered by hand: proposed by one person with a reason, posted when a second person approves.

A proposal is an event of the host's audit chain, like a proposed price list: nobody can change it afterwards. A booking
has at most one live manual charge; to add to it, reverse it and propose the whole anew.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.charging.access import require_host_role
from api.charging.posting import post_without_use
from api.charging.rating_types import ManualItem, RatingInput
from api.charging.repository import last_charge, take_booking
from api.charging.reversal import require_reason
from api.charging.tariff_body import UserCategory
from api.charging.tariffs import pinned_tariff
from api.errors import conflict, invalid, not_found
from api.schemas import FEN_MAX
from api.work import Work
from store.money import yuan
from store.tables.accounts import Role
from store.tables.audit import AuditEvent
from store.tables.calendar import Booking, BookingMode, UsePurpose
from store.tables.charging import Charge, ChargePurpose
from wire.ids import new_ulid

_PROPOSED, _APPROVED = "manual_charge.proposed", "manual_charge.approved"


@dataclass(frozen=True)
class ManualProposal:
    """Items that somebody wants to charge on a booking. `decided`: it has been approved and posted."""

    proposal_id: str
    booking_id: str
    host_id: str
    items: tuple[ManualItem, ...]
    reason: str
    prepared_by: str
    prepared_at: datetime
    decided: bool

    @property
    def total_fen(self) -> int:
        """What it comes to, VAT included."""
        return sum(item.quantity * item.unit_fen for item in self.items)


def propose_manual_charge(work: Work, booking_id: str, items: Sequence[ManualItem], reason: str) -> ManualProposal:
    """Record items to charge under the actor's name. Nothing is charged by it.

    Refused: 404, 403, 422 `reason_missing`, `no_items`, `item_twice`, `bad_amount` (more than any amount here may be),
    409 `not_a_customers` booking.
    """
    require_reason(reason)
    booking = work.session.get(Booking, booking_id)
    if booking is None:
        raise not_found("预约", "booking", booking_id)
    require_host_role(work, booking.host_id, (Role.COUNTY_OFFICER,), "编制人工收费", "prepare a manual charge")
    _check(booking, items)
    proposal_id = new_ulid()
    work.audit(
        _PROPOSED,
        f"manual_charge:{proposal_id}",
        host_id=booking.host_id,
        after={
            "booking_id": booking_id,
            "host_id": booking.host_id,
            "items": [dict(vars(item)) for item in items],
            "reason": reason.strip(),
        },
    )
    return find_manual_proposal(work.session, proposal_id)


def find_manual_proposal(session: Session, proposal_id: str) -> ManualProposal:
    """Return a proposal as it stands in the audit chain. Refused 404."""
    events = {
        event.action: event
        for event in session.scalars(select(AuditEvent).where(AuditEvent.subject == f"manual_charge:{proposal_id}"))
    }
    event = events.get(_PROPOSED)
    if event is None:
        raise not_found("人工收费草案", "proposed manual charge", proposal_id)
    fields = json.loads(event.body)["after"]
    return ManualProposal(
        proposal_id,
        fields["booking_id"],
        fields["host_id"],
        tuple(ManualItem(**item) for item in fields["items"]),
        fields["reason"],
        event.actor,
        event.at,
        _APPROVED in events,
    )


def approve_manual_charge(work: Work, proposal_id: str) -> Charge:
    """Post a proposal with the actor as the second person.

    Refused: 404, 403, 409 `same_person`, 409 `already_decided`, 409 `charge_is_live` while another one stands.
    """
    proposal = find_manual_proposal(work.session, proposal_id)
    require_host_role(work, proposal.host_id, (Role.COUNTY_OFFICER,), "批准人工收费", "approve a manual charge")
    if work.actor.person_id == proposal.prepared_by:
        raise conflict(
            "same_person",
            "人工收费须由一人编制、另一人批准;请由另一位有权人员批准。",
            "A manual charge is prepared by one person and approved by another; ask a colleague to approve.",
            prepared_by=proposal.prepared_by,
        )
    booking = take_booking(work.session, proposal.booking_id)
    if find_manual_proposal(work.session, proposal_id).decided:
        raise conflict(
            "already_decided",
            "该草案已批准;请查看所生成的收费。",
            "This proposal has been approved already; read its charge.",
            proposal_id=proposal_id,
        )
    charge = _post(work, booking, proposal)
    work.audit(
        _APPROVED,
        f"manual_charge:{proposal_id}",
        host_id=proposal.host_id,
        after={"charge": charge.charge_id, "prepared_by": proposal.prepared_by},
    )
    return charge


def _post(work: Work, booking: Booking, proposal: ManualProposal) -> Charge:
    body = pinned_tariff(work.session, booking.tariff_id, booking.tariff_version).body
    given = RatingInput(
        body, UserCategory(booking.category), BookingMode(booking.mode), 0, 0, 0, instead=proposal.items
    )
    service_at = min(work.now, booking.slot_to - timedelta(milliseconds=1))
    charge = post_without_use(work, booking, ChargePurpose.MANUAL, given, service_at, proposal.reason)
    if charge is None:
        live = last_charge(work.session, booking.booking_id, ChargePurpose.MANUAL.value)
        raise conflict(
            "charge_is_live",
            "该预约已有人工收费;请先冲销,再一并重新编制。",
            "This booking has a manual charge already; reverse it and propose the whole anew.",
            charge_id="" if live is None else live.charge_id,
        )
    return charge


def _check(booking: Booking, items: Sequence[ManualItem]) -> None:
    if booking.purpose != UsePurpose.CUSTOMER.value:
        raise conflict(
            "not_a_customers",
            "内部使用和维护不计费;请核对预约编号。",
            "Internal use and maintenance are not charged; check the booking.",
            purpose=booking.purpose,
        )
    if not items:
        raise invalid("no_items", "请至少填写一项。", "Give at least one item.", field="items")
    if sum(item.quantity * item.unit_fen for item in items) > FEN_MAX:
        raise invalid(
            "bad_amount",
            f"合计超过 {yuan(FEN_MAX)} 元;请核对数量和单价。",
            f"It comes to more than {yuan(FEN_MAX)} yuan; check quantities and prices.",
            field="items",
        )
    if len({item.code for item in items}) != len(items):
        raise invalid(
            "item_twice",
            "每个代码只能出现一次;请合并重复项。",
            "Each code stands there once; add the two up.",
            field="items",
        )
