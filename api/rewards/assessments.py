"""The yearly grade of a host: prepared with its evidence by one person, approved by another, corrected by a further
version. Decides and writes, never commits. A grade counts for every run that is prepared after its approval."""

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.charging.access import is_system
from api.errors import conflict, invalid, not_found
from api.pagination import PageAsked, paginate
from api.rewards.access import APPROVERS, PREPARERS, READERS, require_person, require_two_people, same_person
from api.work import Work
from store.tables.accounts import Role
from store.tables.registry import Host
from store.tables.reward_steps import AssessmentDecision, AssessmentProposal
from store.tables.rewards import Assessment, Grade
from wire.ids import new_ulid


@dataclass(frozen=True)
class ProposalSeen:
    """A proposed grade with what was decided about it, None while nobody has."""

    proposal: AssessmentProposal
    decision: AssessmentDecision | None


def propose_assessment(work: Work, host_id: str, year: int, grade: Grade, evidence: str) -> AssessmentProposal:
    """Prepare the grade of a host for a calendar year under the actor's name. It counts for nothing until approved.

    Refused: 403, 404, 422 `evidence_missing`.
    """
    require_person(work, PREPARERS, "编制考核结果", "prepare assessments")
    if work.session.get(Host, host_id) is None:
        raise not_found("依托单位", "host", host_id)
    row = AssessmentProposal(
        proposal_id=new_ulid(),
        host_id=host_id,
        year=year,
        grade=grade.value,
        evidence=_evidence(evidence),
        prepared_by=work.actor.person_id,
        prepared_at=work.now,
    )
    work.session.add(row)
    work.session.flush()
    work.audit(
        "assessment.proposed",
        f"assessment_proposal:{row.proposal_id}",
        host_id=host_id,
        after={"year": year, "grade": grade.value, "evidence": row.evidence},
    )
    return row


def decide_assessment(work: Work, proposal_id: str, approved: bool, note: str = "") -> ProposalSeen:
    """Approve a proposed grade as its second person, so that it is recorded, or refuse it with a note. Once.

    Refused: 403, 404, 409 `same_person`, `already_decided`, `signer_not_entitled`, 422 `note_missing`.
    """
    require_person(work, APPROVERS, "审批考核结果", "decide about assessments")
    proposal = find_assessment_proposal(work.session, proposal_id).proposal
    if work.actor.person_id == proposal.prepared_by:
        raise same_person(proposal.prepared_by)
    if not approved and not note.strip():
        raise invalid("note_missing", "不予批准时请写明理由。", "Say why you refuse it.", field="note")
    # Under the host's lock, which recording takes too, so that one proposal is decided once.
    work.session.execute(select(Host.host_id).where(Host.host_id == proposal.host_id).with_for_update()).first()
    if work.session.get(AssessmentDecision, proposal_id, populate_existing=True) is not None:
        raise conflict(
            "already_decided",
            "该考核结果草案已经审批;请刷新查看。",
            "This proposal has been decided; read it again.",
            proposal_id=proposal_id,
        )
    version = None
    if approved:
        grade = Grade(proposal.grade)
        version = record_assessment(
            work,
            proposal.host_id,
            proposal.year,
            grade,
            proposal.evidence,
            proposal.prepared_by,
            work.actor.person_id,
        ).version
    work.session.add(
        AssessmentDecision(
            proposal_id=proposal_id,
            version=version,
            note=note.strip(),
            prepared_by=proposal.prepared_by,
            decided_by=work.actor.person_id,
            decided_at=work.now,
        )
    )
    work.session.flush()
    work.audit(
        "assessment.approved" if approved else "assessment.refused",
        f"assessment_proposal:{proposal_id}",
        host_id=proposal.host_id,
        after={"version": version, "note": note.strip()},
    )
    return find_assessment_proposal(work.session, proposal_id)


def find_assessment_proposal(session: Session, proposal_id: str) -> ProposalSeen:
    """Return a proposed grade with its decision. Refused 404."""
    proposal = session.get(AssessmentProposal, proposal_id)
    if proposal is None:
        raise not_found("考核结果草案", "proposed assessment", proposal_id)
    return ProposalSeen(proposal, session.get(AssessmentDecision, proposal_id))


def proposals_page(session: Session, page: PageAsked, open_only: bool = False) -> tuple[list[ProposalSeen], str | None]:
    """Return a page of proposed grades, newest first, and the cursor of the next one. `open_only`: those that nobody
    decided about."""
    query = select(AssessmentProposal)
    if open_only:
        query = query.where(AssessmentProposal.proposal_id.not_in(select(AssessmentDecision.proposal_id)))
    keys = (AssessmentProposal.prepared_at, AssessmentProposal.proposal_id)
    rows, cursor = paginate(session, query, keys, page, descending=True)
    ids = [row.proposal_id for row in rows]
    decided = {
        row.proposal_id: row
        for row in session.scalars(select(AssessmentDecision).where(AssessmentDecision.proposal_id.in_(ids)))
    }
    return [ProposalSeen(row, decided.get(row.proposal_id)) for row in rows], cursor


def grades_page(
    work: Work, page: PageAsked, year: int | None = None, host_id: str | None = None
) -> tuple[list[Assessment], str | None]:
    """Return a page of the recorded grades by host, year and version, and the cursor of the next one. The county and
    the system see all, a lab manager the own hosts' alone."""
    query = select(Assessment)
    if not work.actor.has(*READERS, Role.AUDITOR) and not is_system(work.actor):
        query = query.where(Assessment.host_id.in_(sorted(work.actor.host_ids)))
    if year is not None:
        query = query.where(Assessment.year == year)
    if host_id is not None:
        query = query.where(Assessment.host_id == host_id)
    return paginate(work.session, query, (Assessment.host_id, Assessment.year, Assessment.version), page)


def record_assessment(
    work: Work, host_id: str, year: int, grade: Grade, evidence: str, prepared_by: str, approved_by: str
) -> Assessment:
    """Record the grade of a host for a calendar year; a correction is the next version.

    Refused: 403, 404, 409 `same_person`, `signer_not_entitled`, 422 `evidence_missing`.
    """
    work.require(APPROVERS, "登记考核结果", "record assessments")
    require_two_people(work, prepared_by, approved_by)
    # Under the host's lock, so that two corrections get two versions.
    if work.session.execute(select(Host.host_id).where(Host.host_id == host_id).with_for_update()).first() is None:
        raise not_found("依托单位", "host", host_id)
    evidence = _evidence(evidence)
    last = work.session.execute(
        select(Assessment.version)
        .where(Assessment.host_id == host_id, Assessment.year == year)
        .order_by(Assessment.version.desc())
        .limit(1)
    ).scalar_one_or_none()
    row = Assessment(
        host_id=host_id,
        year=year,
        version=1 if last is None else last + 1,
        grade=grade.value,
        evidence=evidence,
        prepared_by=prepared_by,
        approved_by=approved_by,
        recorded_at=work.now,
    )
    work.session.add(row)
    work.session.flush()
    work.audit(
        "assessment.recorded",
        f"assessment:{host_id}:{year}",
        host_id=host_id,
        after={"version": row.version, "grade": grade.value, "prepared_by": prepared_by, "approved_by": approved_by},
    )
    return row


def _evidence(evidence: str) -> str:
    if not evidence.strip():
        raise invalid("evidence_missing", "请写明考核依据。", "Say what the grade rests on.", field="evidence")
    return evidence.strip()
