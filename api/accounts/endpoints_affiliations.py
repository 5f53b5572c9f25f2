"""Affiliation between organisations over HTTP: claims, the second person's decision, and the facts in force."""

from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import Field

from api.accounts import affiliations
from api.accounts.affiliations import Said
from api.deps import Once, reads, writes
from api.errors import forbidden
from api.pagination import WantedPage
from api.problems import problems
from api.schemas import Answer, Instant, Page, Question
from api.work import Work
from store.tables.accounts import AffiliationClaim, AffiliationDecision, AffiliationGround, Role
from store.tables.registry import Affiliation

router = APIRouter()
Recorder = Annotated[Work, writes(*affiliations.RECORDERS)]
COUNTY = (Role.COUNTY_OFFICER, Role.FINANCE, Role.ADMIN)


class ClaimAsked(Question):
    """How a host and another organisation stand to each other in [from_at, until_at), and what shows it."""

    host_org: str
    other_org: str
    state: Affiliation
    ground: AffiliationGround
    from_at: Instant
    until_at: Instant | None = None
    evidence: Annotated[str, Field(min_length=1, max_length=1000, description="Where the proof can be read")]
    evidence_sha256: Annotated[str | None, Field(pattern=r"^[0-9a-f]{64}$", description="Of the file, if any")] = None
    reason: Annotated[str, Field(min_length=1, max_length=500)]


class DecisionAsked(Question):
    """The second person's word."""

    approved: bool
    note: Annotated[str, Field(max_length=500)] = ""


class ClaimAnswer(Answer):
    """A claim with its decision; `approved` is null while it waits."""

    claim_id: str
    host_org: str
    other_org: str
    state: Affiliation
    ground: AffiliationGround
    from_at: Instant
    until_at: Instant | None
    evidence: str
    evidence_sha256: str | None
    reason: str
    proposed_by: str
    proposed_at: Instant
    approved: bool | None
    note: str | None
    decided_by: str | None
    decided_at: Instant | None

    @classmethod
    def of(cls, claim: AffiliationClaim, decision: AffiliationDecision | None) -> "ClaimAnswer":
        """Return a claim as it is shown."""
        of_decision = ("approved", "note", "decided_by", "decided_at")
        said = {name: getattr(claim, name) for name in cls.model_fields if name not in of_decision}
        return cls(**said, **{name: getattr(decision, name, None) for name in of_decision})


class FactAnswer(Answer):
    """A fact in force in [from_at, until_at); without end where no later fact is known."""

    host_org: str
    other_org: str
    state: Affiliation
    from_at: Instant
    until_at: Instant | None
    evidence: str
    recorded_by: str
    recorded_at: Instant


@router.post(
    "/affiliations",
    status_code=201,
    summary="Claim that two organisations are affiliated, or no longer",
    response_model=ClaimAnswer,
    responses=problems(404),
)
def claim(asked: ClaimAsked, once: Once, work: Recorder) -> Response:
    """Counts when another person has agreed. Tests for affiliates earn no reward where the policy says so."""
    return once(lambda: ClaimAnswer.of(affiliations.propose(work, Said(**dict(asked))), None))


@router.get("/affiliations", summary="Claims of affiliation with their decisions")
def list_claims(
    page: WantedPage,
    work: Annotated[Work, reads(*COUNTY)],
    org: Annotated[str | None, Query(description="Only about this organisation")] = None,
) -> Page[ClaimAnswer]:
    """The newest first."""
    rows, next_cursor = affiliations.claims(work.session, org, page)
    return Page(items=[ClaimAnswer.of(*row) for row in rows], next_cursor=next_cursor)


@router.post(
    "/affiliations/{claim_id}/decision",
    status_code=201,
    summary="Agree to somebody else's claim, or turn it down",
    response_model=ClaimAnswer,
    responses=problems(404),
)
def decide(claim_id: str, asked: DecisionAsked, once: Once, work: Recorder) -> Response:
    """Never the proposer. With an agreement the fact counts, and is never edited: a later one ends it."""

    def produce() -> ClaimAnswer:
        decision = affiliations.decide(work, claim_id, asked.approved, asked.note)
        return ClaimAnswer.of(work.session.get_one(AffiliationClaim, claim_id), decision)

    return once(produce)


@router.get("/orgs/{org_id}/affiliations", summary="Who a host was affiliated with, from when to when")
def list_facts(
    org_id: str, page: WantedPage, work: Annotated[Work, reads(Role.LAB_MANAGER, *COUNTY)]
) -> Page[FactAnswer]:
    """By the other organisation, then in time. A lab manager sees those of their own host."""
    if not work.actor.has(Role.AUDITOR, *COUNTY) and org_id != work.actor.org_id:
        raise forbidden(
            "只能查看本单位的关联关系;其他单位的请联系县科技局。",
            "You may see those of your own organisation only; ask the county office about others.",
            org_id=org_id,
        )
    facts, next_cursor = affiliations.history(work.session, org_id, page)
    return Page(items=[FactAnswer.model_validate(fact) for fact in facts], next_cursor=next_cursor)
