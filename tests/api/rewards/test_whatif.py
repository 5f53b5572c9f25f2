"""What-if: any policy over any past period, beside what is in force or was granted, and not a row is written."""

import json
from pathlib import Path

import pytest
from sqlalchemy import func, select, text
from typer.testing import CliRunner

from api.charging.reversal import reverse_charge
from api.rewards.commands import app
from api.rewards.policy_body import canonical_policy, parse_policy, policy_document
from api.rewards.whatif import Asked, WhatIf, what_if
from store.canonical import sha256_hex
from store.periods import PeriodKind
from store.tables import metadata
from store.tables.rewards import Grade
from tests.api.charging.building import CUSTOMER, FINANCE, HOST, MANAGER, OFFICER
from tests.api.rewards.building import DAY, FLAT10, YEAR, RewardCounty
from tests.api.rewards.test_steps import refused
from tests.support.usage import NINE

pytestmark = pytest.mark.slow_on_postgresql

KIND = PeriodKind.YEAR
DRAFT = parse_policy(
    policy_document(FLAT10) | {"budget_fen": 5_000, "tiers": [{"from_fen": 0, "to_fen": None, "rate_bp": 1500}]}
)


def tried(county: RewardCounty, **asked: object) -> WhatIf:
    """Ask in a transaction that can write nothing, and see that nothing was written."""
    before = rows(county)
    with county.database.read() as session:
        if county.database.engine.dialect.name == "sqlite":
            session.execute(text("PRAGMA query_only = ON"))
        try:
            found = what_if(county.work(session, OFFICER), Asked(KIND, YEAR, **asked))  # type: ignore[arg-type]
        finally:
            if county.database.engine.dialect.name == "sqlite":
                session.execute(text("PRAGMA query_only = OFF"))
    assert rows(county) == before
    return found


def rows(county: RewardCounty) -> dict[str, int]:
    """How many rows each table has."""
    with county.database.read() as session:
        counted = {table.name: select(func.count()).select_from(table) for table in metadata.sorted_tables}
        return {name: session.execute(count).scalar_one() for name, count in counted.items()}


def test_a_draft_is_held_against_the_newest_locked_run_and_writes_nothing(county: RewardCounty) -> None:
    county.paid()
    run = county.lock(county.prepare())
    left_out = county.tested(NINE + DAY, 30)
    found = tried(county, body=DRAFT)
    asked, against = found.asked, found.against
    assert (asked.kind, asked.body_sha256, asked.run_id) == ("draft", sha256_hex(canonical_policy(DRAFT)), None)
    assert (against.kind, against.run_id, against.policy_id, against.reward_fen) == ("run", run.run_id, "FLAT10", 4_000)
    assert (asked.base_fen, asked.reward_fen, asked.budget_fen, asked.shortfall_fen) == (40_000, 6_000, 5_000, 1_000)
    assert [(one.reason, one.count, one.amount_fen) for one in asked.left_out] == [("unpaid", 1, 20_000)]
    [host] = found.hosts
    assert (host.host_id, host.reward_before_fen, host.reward_fen, host.difference_fen) == (HOST, 4_000, 6_000, 2_000)
    assert (found.winners, found.losers) == (1, 0)
    # What changed since the run is known to the question, and is no part of what the run granted.
    [charge] = [key for key, reason in county.reasons(run).items() if reason == "eligible"]
    county.do(reverse_charge, charge, "wrong meter", who=OFFICER)
    later = tried(county, body=DRAFT)
    assert (later.losers, later.hosts[0].difference_fen, later.asked.reward_fen) == (1, -4_000, 0)
    assert left_out not in county.reasons(run)


def test_any_stored_version_is_tried_against_what_is_in_force(county: RewardCounty) -> None:
    county.publish("STEP", from_month=202601)
    county.publish("STEP", from_month=202602, host_cap_fen=1_000)
    county.paid()
    found = tried(county, policy_id="STEP", version=2)
    assert (found.asked.version, found.asked.reward_fen) == (2, 1_000)
    assert (found.against.kind, found.against.version, found.against.reward_fen) == ("policy", 1, 4_000)
    other = tried(county, policy_id="FLAT20", against_policy="FLAT10")
    assert (other.asked.reward_fen, other.against.reward_fen, other.winners) == (8_000, 4_000, 1)
    alone = tried(county, body=DRAFT)
    assert (alone.against.kind, alone.against.reward_fen, alone.hosts[0].difference_fen) == ("none", 0, 6_000)


def test_what_is_tried_is_what_a_run_then_grants(county: RewardCounty) -> None:
    county.assess(Grade.EXCELLENT)
    county.paid()
    county.tested(NINE + DAY)
    for policy in ("FLAT10", "FLAT20", "XC-DEMO"):
        said = tried(county, policy_id=policy).asked
        run = county.prepare(policy)
        assert (said.reward_fen, said.base_fen, said.charge_count) == (run.payable_fen, run.base_fen, run.charge_count)
        assert said.policy_id == policy


def test_a_short_budget_is_shared_and_hosts_without_a_grade_are_named(county: RewardCounty) -> None:
    county.paid()
    shared = parse_policy(policy_document(DRAFT) | {"on_budget_short": "prorate"})
    side = tried(county, body=shared).asked
    assert (side.wanted_fen, side.reward_fen, side.shortfall_fen) == (6_000, 5_000, 1_000)
    graded = tried(county, policy_id="XC-DEMO").asked
    assert (graded.reward_fen, graded.hosts_without_grade) == (0, (HOST,))


def test_questions_that_make_no_sense_are_refused(county: RewardCounty) -> None:
    county.publish("MONTHLY", period_kind="month")
    county.paid()
    march = county.prepare("MONTHLY", PeriodKind.MONTH, 202603)

    def code(who=OFFICER, first: int = YEAR, **asked: object) -> str:
        return refused(county, what_if, Asked(KIND, first, **asked), who=who).code  # type: ignore[arg-type]

    assert code() == code(body=DRAFT, policy_id="FLAT10") == "one_policy"
    assert code(policy_id="FLAT10", against_run=march.run_id, against_policy="FLAT20") == "one_comparison"
    assert code(policy_id="FLAT10", against_run=march.run_id) == "other_period"
    assert code(policy_id="FLAT10", against_run="NONE") == "not_found"
    assert code(policy_id="NONE") == code(policy_id="FLAT10", version=9) == "not_found"
    assert code(policy_id="MONTHLY") == "other_period_kind"
    assert code(policy_id="FLAT10", first=202701) == "period_not_begun"
    assert code(MANAGER, policy_id="FLAT10") == code(CUSTOMER, policy_id="FLAT10") == "forbidden"
    assert county.do(what_if, Asked(KIND, YEAR, policy_id="FLAT10"), who=FINANCE).asked.reward_fen == 4_000


def test_the_command_says_the_same_for_people_and_for_programs(county: RewardCounty, tmp_path: Path) -> None:
    county.paid()
    draft = tmp_path / "draft.json"
    draft.write_bytes(canonical_policy(DRAFT))
    url = county.database.engine.url.render_as_string(hide_password=False)

    def openlab(*given: str):
        return CliRunner().invoke(app, given, env={"OPENLAB_DATABASE_URL": url, "OPENLAB_DATA_DIR": str(tmp_path)})

    before = rows(county)
    told = openlab("what-if", "2026", "--draft", str(draft), "--against-policy", "FLAT10", "--json")
    assert told.exit_code == 0, told.output
    answer = json.loads(told.stdout)
    assert (answer["difference_yuan"], answer["asked"]["shortfall_fen"], answer["winners"]) == ("20.00", 1_000, 1)
    plain = openlab("what-if", "2026", "--policy", "FLAT20")
    assert "against" in plain.stdout
    assert HOST in plain.stdout
    assert rows(county) == before
    draft.write_text('{"tiers": []}')
    wrong = openlab("what-if", "2026", "--draft", str(draft))
    assert (wrong.exit_code, getattr(wrong.exception, "code", ""), "tiers" in str(wrong.exception)) == (
        1,
        "policy_invalid",
        True,
    )
    draft.write_text("not json")
    assert getattr(openlab("what-if", "2026", "--draft", str(draft)).exception, "code", "") == "draft_unreadable"
