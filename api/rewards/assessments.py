"""The yearly grade of a host: recorded with its evidence under two names, corrected by a further version."""

from sqlalchemy import select

from api.errors import invalid, not_found
from api.rewards.access import APPROVERS, require_two_people
from api.work import Work
from store.tables.registry import Host
from store.tables.rewards import Assessment, Grade


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
    if not evidence.strip():
        raise invalid("evidence_missing", "请写明考核依据。", "Say what the grade rests on.", field="evidence")
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
        evidence=evidence.strip(),
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
