"""Claims of use that the firm does not answer: after so many days each lapses, and the use is the manager's question
again. A chore of the worker. Silence bills nobody."""

from collections.abc import Callable
from datetime import timedelta

from sqlalchemy import select

from api.booking import repository
from api.work import Work
from store.tables.booking_rules import ClaimState, UseClaim
from wire.clock import to_ms

BITE = 200


def expire_claims(days: int) -> Callable[[Work], None]:
    """Return the chore for claims that nobody answered within `days`."""

    def expire(work: Work) -> None:
        """Take back each claim that waited too long, in the name of the system, at most BITE of them; tell both."""
        late = (UseClaim.state == ClaimState.OPEN.value, UseClaim.proposed_at <= work.now - timedelta(days=days))
        # In the order of their instruments: whoever locks several does so in that order.
        wanted = select(UseClaim).where(*late).order_by(UseClaim.instrument_id, UseClaim.claim_id).limit(BITE)
        for claim in work.session.scalars(wanted).all():
            repository.instrument_row(work.session, claim.instrument_id, lock=True)
            work.session.refresh(claim)
            if claim.state == ClaimState.OPEN.value:
                _lapse(work, claim, f"{days} 天内未答复 / no answer within {days} days")

    return expire


def _lapse(work: Work, claim: UseClaim, note: str) -> None:
    claim.state, claim.answer_note = ClaimState.WITHDRAWN.value, note
    claim.answered_by, claim.answered_at = work.actor.person_id, work.now
    claim.row_version += 1
    work.session.flush()
    work.audit(
        "use_claim.expired",
        f"use_claim:{claim.claim_id}",
        host_id=claim.host_id,
        after={"session": claim.session_id, "from_ms": to_ms(claim.from_at), "payer": claim.payer_org, "note": note},
    )
