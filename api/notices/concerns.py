"""What concerns people besides bookings: the one table of audit events that become notices, and for whom.

Every such event is in an audit chain already, in the transaction that makes it; `Work.audit` hands it to matters.py,
which looks here. What is not listed tells nobody.
"""

from collections.abc import Mapping
from typing import Any

from api.booking.matching_service import SESSION_WITHOUT_BOOKING
from api.charging.anomalies import DISPUTED
from store.tables.notices import NoticeParty

_C, _M, _O, _P = NoticeParty.CUSTOMER, NoticeParty.MANAGER, NoticeParty.COUNTY, NoticeParty.PERSON

MATTERS: dict[str, frozenset[NoticeParty]] = {
    "charge-posted": frozenset({_C}),
    "statement-issued": frozenset({_C}),
    "statement-final": frozenset({_C, _M}),
    "statement-overdue": frozenset({_C, _M}),
    "invoice-recorded": frozenset({_C}),
    "dispute-raised": frozenset({_C, _M}),
    "correction-proposed": frozenset({_C, _M}),
    "correction-decided": frozenset({_C, _M}),
    "dispute-ended": frozenset({_C, _M}),
    "unbooked-use": frozenset({_M}),
    "anomaly-found": frozenset({_M, _O}),
    "use-claim-asked": frozenset({_C}),
    "use-claim-confirmed": frozenset({_M}),
    "use-claim-refused": frozenset({_M}),
    "use-claim-withdrawn": frozenset({_C}),
    "use-claim-expired": frozenset({_C, _M}),
    "tariff-proposed": frozenset({_M, _O}),
    "tariff-published": frozenset({_M, _P}),
    "certificate-expiring": frozenset({_M}),
    "qualification-expiring": frozenset({_M, _P}),
    "registration-pending": frozenset({_O}),
    "registration-decided": frozenset({_P}),
    "invitation-accepted": frozenset({_P}),
    "manager-proposed": frozenset({_O}),
    "manager-appointed": frozenset({_M, _O}),
    "reward-noticed": frozenset({_M}),
    "reward-objection": frozenset({_O}),
    "reward-objection-answered": frozenset({_P}),
    "reward-approved": frozenset({_M}),
    "reward-paid": frozenset({_M}),
}
"""Whom a matter concerns, in the order in which the kinds are shown."""

INBOX_ONLY = frozenset({"registration-decided"})
"""Never mailed as a notice: a letter of accounts says it."""

_KINDS = {
    "charge.posted": "charge-posted",
    "statement.issued": "statement-issued",
    "statement.finalized": "statement-final",
    "statement.overdue": "statement-overdue",
    "invoice.recorded": "invoice-recorded",
    "dispute.raised": "dispute-raised",
    "correction.proposed": "correction-proposed",
    "correction.decided": "correction-decided",
    "dispute.ended": "dispute-ended",
    "anomaly.found": "anomaly-found",
    "use_claim.claimed": "use-claim-asked",
    "use_claim.confirmed": "use-claim-confirmed",
    "use_claim.refused": "use-claim-refused",
    "use_claim.withdrawn": "use-claim-withdrawn",
    "use_claim.expired": "use-claim-expired",
    "tariff.proposed": "tariff-proposed",
    "tariff.published": "tariff-published",
    "certificate.expiring": "certificate-expiring",
    "qualification.expiring": "qualification-expiring",
    "registration_submitted": "registration-pending",
    "registration_decided": "registration-decided",
    "invitation_accepted": "invitation-accepted",
    "role_proposed": "manager-proposed",
    "role_granted": "manager-appointed",
    "reward_run.noticed": "reward-noticed",
    "reward_objection.raised": "reward-objection",
    "reward_objection.answered": "reward-objection-answered",
    "reward_run.approved": "reward-approved",
    "reward_run.paid": "reward-paid",
}


def matter_kind(action: str, after: Mapping[str, Any]) -> str | None:
    """Return the kind of notice that an audit event becomes, None where it tells nobody."""
    kind = _KINDS.get(action)
    if kind == "manager-appointed" and "appointed_by" not in after:  # another role, or the first ones of all
        return None
    if kind == "anomaly-found":
        rule = str(after["rule"])
        if rule == SESSION_WITHOUT_BOOKING:
            return "unbooked-use"
        if rule.startswith(DISPUTED):  # `dispute.raised` says it
            return None
    return kind
