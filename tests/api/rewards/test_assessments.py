"""The yearly grade: prepared with its evidence by one person, decided by another, and what a run makes of it."""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from api.rewards.assessments import decide_assessment, propose_assessment
from store.errors import AppendOnly
from store.tables.reward_steps import AssessmentDecision
from store.tables.rewards import Grade
from tests.api.charging.building import FINANCE, HOST, MANAGER, OFFICER
from tests.api.rewards.building import SECOND_OFFICER, RewardCounty
from tests.api.rewards.test_steps import refused


def test_a_grade_counts_once_a_second_person_has_approved_it(county: RewardCounty) -> None:
    county.paid()
    proposal = county.do(propose_assessment, HOST, 2026, Grade.GOOD, " minutes of the panel ", who=OFFICER)
    assert proposal.evidence == "minutes of the panel"
    assert refused(county, decide_assessment, proposal.proposal_id, True, who=OFFICER).code == "same_person"
    assert refused(county, decide_assessment, proposal.proposal_id, True, who=MANAGER).status == 403
    assert refused(county, decide_assessment, proposal.proposal_id, False, who=FINANCE).code == "note_missing"
    seen = county.do(decide_assessment, proposal.proposal_id, True, who=FINANCE)
    assert (seen.decision.version, seen.decision.decided_by) == (1, "finance")
    again = refused(county, decide_assessment, proposal.proposal_id, False, "no", who=SECOND_OFFICER)
    assert again.code == "already_decided"
    assert county.result(county.prepare("XC-DEMO")).grade == "good"


def test_a_refused_grade_counts_for_nothing_and_a_correction_is_the_next_version(county: RewardCounty) -> None:
    first = county.do(propose_assessment, HOST, 2026, Grade.EXCELLENT, "a first look", who=OFFICER)
    seen = county.do(decide_assessment, first.proposal_id, False, "the minutes say otherwise", who=SECOND_OFFICER)
    assert (seen.decision.version, seen.decision.note) == (None, "the minutes say otherwise")
    for version, grade in ((1, Grade.PASS), (2, Grade.GOOD)):
        proposal = county.do(propose_assessment, HOST, 2026, grade, "minutes", who=SECOND_OFFICER)
        assert county.do(decide_assessment, proposal.proposal_id, True, who=OFFICER).decision.version == version


def test_what_is_proposed_without_a_host_or_evidence_is_refused(county: RewardCounty) -> None:
    assert refused(county, propose_assessment, "h99", 2026, Grade.GOOD, "minutes").status == 404
    assert refused(county, propose_assessment, HOST, 2026, Grade.GOOD, " ").code == "evidence_missing"
    assert refused(county, propose_assessment, HOST, 2026, Grade.GOOD, "minutes", who=FINANCE).status == 403
    assert refused(county, decide_assessment, "NONE", True).status == 404


def test_the_database_wants_two_people_and_no_edits(county: RewardCounty) -> None:
    proposal = county.do(propose_assessment, HOST, 2026, Grade.GOOD, "minutes", who=OFFICER)
    with pytest.raises(IntegrityError, match="two_people"), county.database.write() as session:
        session.add(
            AssessmentDecision(
                proposal_id=proposal.proposal_id,
                version=1,
                note="",
                prepared_by="officer",
                decided_by="officer",
                decided_at=county.now,
            )
        )
    county.do(decide_assessment, proposal.proposal_id, True, who=FINANCE)
    for statement in ("UPDATE assessment_proposal SET grade = 'fail'", "DELETE FROM assessment_decision"):
        with pytest.raises(AppendOnly), county.database.write() as session:
            session.execute(text(statement))
