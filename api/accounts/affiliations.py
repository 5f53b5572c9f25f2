"""Affiliation between a host and another organisation: dated facts with evidence, each by two people.

Money hangs on them both ways (tests for affiliates earn no reward, and may be priced apart), and they may be recorded
long after they began. So one officer claims, with ground, dates, evidence and reason, and another decides; only then is
it written to `affiliation_event`, which booking and rewards read. Nothing is edited: a later fact ends an earlier one.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from api.errors import conflict, forbidden, invalid, not_found
from api.pagination import PageAsked, paginate
from api.work import Work
from store.tables.accounts import AffiliationClaim, AffiliationDecision, AffiliationGround, Role
from store.tables.registry import Affiliation, AffiliationEvent, Host, Org
from wire.clock import to_ms
from wire.ids import new_ulid

RECORDERS = (Role.COUNTY_OFFICER, Role.ADMIN)


@dataclass(frozen=True)
class Said:
    """A claim: how two organisations stand to each other in [from_at, until_at); without end until a later fact."""

    host_org: str
    other_org: str
    state: Affiliation
    ground: AffiliationGround
    from_at: datetime
    until_at: datetime | None
    evidence: str
    evidence_sha256: str | None
    reason: str


@dataclass(frozen=True)
class Fact:
    """A fact in force from an instant until the next one of the same two organisations, if there is one."""

    host_org: str
    other_org: str
    state: Affiliation
    from_at: datetime
    until_at: datetime | None
    evidence: str
    recorded_by: str
    recorded_at: datetime


def propose(work: Work, said: Said) -> AffiliationClaim:
    """Put a claim before a second person. Changes nothing by itself.

    Raises 403, 404 for an unknown organisation, 422 `not_a_host`, `same_organisation`, `ends_before_it_starts`, and
    409 as `decide` where it could not be written as it stands.
    """
    work.require(RECORDERS, "登记关联关系", "record affiliations")
    if said.host_org == said.other_org:
        raise invalid(
            "same_organisation",
            "关联关系须在两个单位之间;请核对 host_org 和 other_org。",
            "It takes two organisations; name another one as other_org.",
            field="other_org",
        )
    for org_id in (said.host_org, said.other_org):
        if work.session.get(Org, org_id) is None:
            raise not_found("单位", "organisation", org_id)
    if not _is_host(work.session, said.host_org):
        raise invalid(
            "not_a_host",
            "该单位不是依托单位;请核对,或将两个单位对调。",
            "That organisation opens no labs; check it, or give the two the other way round.",
            field="host_org",
        )
    if said.until_at is not None and (said.until_at <= said.from_at or said.state is not Affiliation.AFFILIATED):
        raise invalid(
            "ends_before_it_starts",
            "截止时间须晚于开始时间,且仅用于关联关系;请更正 until_at 或留空。",
            "An affiliation ends after it starts; independence has no end of its own; correct until_at or"
            " leave it out.",
            field="until_at",
        )
    _require_room(work.session, said.host_org, said.other_org, said.from_at, said.until_at)
    claim = AffiliationClaim(
        claim_id=new_ulid(),
        host_org=said.host_org,
        other_org=said.other_org,
        state=said.state.value,
        ground=said.ground.value,
        from_at=said.from_at,
        until_at=said.until_at,
        evidence=said.evidence,
        evidence_sha256=said.evidence_sha256,
        reason=said.reason,
        proposed_by=work.actor.person_id,
        proposed_at=work.now,
    )
    work.session.add(claim)
    work.session.flush()
    work.audit("affiliation_claimed", f"org:{said.other_org}", host_id=None, after=_shown(claim))
    return claim


def decide(work: Work, claim_id: str, approved: bool, note: str) -> AffiliationDecision:
    """Agree to somebody else's claim, which writes its facts (from the other side too, if that is a host), or turn it
    down. Raises 403 for the proposer, 404, 409 `claim_decided`, `affiliation_same_instant`, `affiliation_overlaps`."""
    work.require(RECORDERS, "审核关联关系", "decide on affiliations")
    claim = work.session.get(AffiliationClaim, claim_id, with_for_update=True)
    if claim is None:
        raise not_found("关联关系申报", "affiliation claim", claim_id)
    if work.session.get(AffiliationDecision, claim_id) is not None:
        raise conflict(
            "claim_decided",
            "该申报已处理;请查看处理结果,如仍需登记请重新申报。",
            "This claim has been decided; read the decision, and make a new claim if one is still wanted.",
        )
    if claim.proposed_by == work.actor.person_id:
        raise forbidden(
            "申报人与审核人须为不同人员;请由另一位经办人审核。",
            "The second person is somebody else than the proposer; ask a colleague to decide.",
        )
    decision = AffiliationDecision(
        claim_id=claim_id,
        approved=approved,
        note=note,
        proposed_by=claim.proposed_by,
        decided_by=work.actor.person_id,
        decided_at=work.now,
    )
    work.session.add(decision)
    work.session.flush()
    if approved:
        _write(work, claim, claim.host_org, claim.other_org)
        if _is_host(work.session, claim.other_org):
            _write(work, claim, claim.other_org, claim.host_org)
    after = _shown(claim) | {"approved": int(approved), "note": note}
    work.audit("affiliation_decided", f"org:{claim.other_org}", host_id=None, after=after)
    return decision


def claims(
    session: Session, org_id: str | None, page: PageAsked
) -> tuple[list[tuple[AffiliationClaim, AffiliationDecision | None]], str | None]:
    """Return a page of claims (about an organisation, or all), the newest first, each with its decision."""
    wanted = select(AffiliationClaim)
    if org_id is not None:
        wanted = wanted.where(or_(AffiliationClaim.host_org == org_id, AffiliationClaim.other_org == org_id))
    rows, next_cursor = paginate(session, wanted, (AffiliationClaim.claim_id,), page, descending=True)
    ids = [row.claim_id for row in rows]
    decided = {
        each.claim_id: each
        for each in session.scalars(select(AffiliationDecision).where(AffiliationDecision.claim_id.in_(ids)))
    }
    return [(row, decided.get(row.claim_id)) for row in rows], next_cursor


def history(session: Session, host_org: str, page: PageAsked) -> tuple[list[Fact], str | None]:
    """Return a page of the facts about a host, by the other organisation and then in time; each ends where the next
    begins, also where that one is on the next page."""
    wanted = select(AffiliationEvent).where(AffiliationEvent.host_org == host_org)
    keys = (AffiliationEvent.other_org, AffiliationEvent.effective_at)
    rows, next_cursor = paginate(session, wanted, keys, page)
    following: list[AffiliationEvent | None] = [*rows[1:], None][: len(rows)]
    if next_cursor is not None:
        last = rows[-1]
        of_pair = (AffiliationEvent.other_org == last.other_org, AffiliationEvent.effective_at > last.effective_at)
        later = wanted.where(*of_pair).order_by(AffiliationEvent.effective_at)
        following[-1] = session.scalars(later.limit(1)).one_or_none()
    facts = [
        Fact(
            row.host_org,
            row.other_org,
            Affiliation(row.state),
            row.effective_at,
            after.effective_at if after is not None and after.other_org == row.other_org else None,
            row.evidence,
            row.recorded_by,
            row.recorded_at,
        )
        for row, after in zip(rows, following, strict=True)
    ]
    return facts, next_cursor


def _write(work: Work, claim: AffiliationClaim, host_org: str, other_org: str) -> None:
    _require_room(work.session, host_org, other_org, claim.from_at, claim.until_at)
    starts = [(claim.from_at, claim.state)]
    if claim.until_at is not None:
        # What stood before goes on: a ground that ends does not end another one.
        starts.append((claim.until_at, _stood_before(work.session, host_org, other_org, claim.from_at)))
    digest = f" sha256:{claim.evidence_sha256}" if claim.evidence_sha256 else ""
    for at, state in starts:
        work.session.add(
            AffiliationEvent(
                host_org=host_org,
                other_org=other_org,
                effective_at=at,
                state=state,
                evidence=f"{claim.ground}: {claim.evidence}{digest} (claim {claim.claim_id})",
                recorded_by=work.actor.person_id,
                recorded_at=work.now,
            )
        )
    work.session.flush()


def _stood_before(session: Session, host_org: str, other_org: str, at: datetime) -> str:
    """How two organisations stood to each other up to an instant; independent where nothing is known."""
    event = AffiliationEvent
    pair = (event.host_org == host_org, event.other_org == other_org, event.effective_at < at)
    found = session.scalars(select(event.state).where(*pair).order_by(event.effective_at.desc()).limit(1)).one_or_none()
    return Affiliation.INDEPENDENT.value if found is None else found


def _require_room(
    session: Session, host_org: str, other_org: str, from_at: datetime, until_at: datetime | None
) -> None:
    pair = (AffiliationEvent.host_org == host_org, AffiliationEvent.other_org == other_org)
    known = set(session.scalars(select(AffiliationEvent.effective_at).where(*pair)))
    if from_at in known:
        raise conflict(
            "affiliation_same_instant",
            "该时间点已有登记;事实不可修改,请用更晚的时间登记。",
            "There is a fact of that very instant; nothing is edited, so record one of a later instant.",
            at_ms=to_ms(from_at),
        )
    clash = [at for at in known if until_at is not None and from_at < at <= until_at]
    if clash:
        raise conflict(
            "affiliation_overlaps",
            "该时段内已有登记;请按已有时间点分段登记。",
            "There is another fact in that time; record the stretches before and after it.",
            at_ms=to_ms(min(clash)),
        )


def _is_host(session: Session, org_id: str) -> bool:
    return session.scalar(select(Host.host_id).where(Host.org_id == org_id)) is not None


def _shown(claim: AffiliationClaim) -> dict[str, str | int | None]:
    return {
        "claim_id": claim.claim_id,
        "host_org": claim.host_org,
        "other_org": claim.other_org,
        "state": claim.state,
        "ground": claim.ground,
        "from_ms": to_ms(claim.from_at),
        "until_ms": None if claim.until_at is None else to_ms(claim.until_at),
        "evidence": claim.evidence,
        "evidence_sha256": claim.evidence_sha256,
        "reason": claim.reason,
    }
