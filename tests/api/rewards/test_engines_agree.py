"""The same facts give the same bytes on SQLite and on PostgreSQL: inputs, results, exports."""

from pathlib import Path

import pytest
from sqlalchemy import delete, insert, select

from api.charging.reversal import reverse_charge
from api.exports.rows import content_sha256, reward_rows
from api.rewards.marks import decide_mark, propose_mark
from store.database import Database
from store.tables import metadata
from store.tables.rewards import Grade, MarkCode, RewardRun
from tests.api.charging.building import FINANCE, NINE, OFFICER
from tests.api.rewards.building import DAY, RewardCounty, build_rewards
from tests.support.databases import DatabaseServers, opened


@pytest.mark.parametrize("policy", ["FLAT10", "XC-DEMO", "MORE"])
def test_both_engines_come_to_the_same_bytes(database_servers: DatabaseServers, tmp_path: Path, policy: str) -> None:
    with (
        database_servers.fresh_url("sqlite") as one,
        database_servers.fresh_url("postgresql") as other,
        opened(one) as sqlite,
        opened(other) as postgresql,
    ):
        county = build_rewards(sqlite, tmp_path)
        _fill(county)
        _copy(sqlite, postgresql)
        twin = RewardCounty(postgresql, county.series, county.now)
        first = [_run(county, policy), _run(twin, policy)]
        for place in (county, twin):
            place.later()
        second = [_run(county, policy), _run(twin, policy)]
        county.series.close()
    for ours, theirs in (first, second):
        assert ours == theirs
    assert first[0] != second[0]


def _fill(county: RewardCounty) -> None:
    county.assess(Grade.EXCELLENT)
    county.paid()
    charge = county.paid(NINE + DAY, 45)
    taken_back = county.tested(NINE + 2 * DAY)
    county.do(reverse_charge, taken_back, "twice", who=OFFICER)
    mark = county.do(propose_mark, MarkCode.BULK, "order", charge, who=OFFICER)
    county.do(decide_mark, mark.mark_id, True, who=FINANCE)
    county.publish(
        "MORE",
        exclusions=["affiliated", "bulk", "no_session", "out_of_area"],
        area_codes=["919900", "990000"],
        instrument_fee_cap_fen=40_050,
    )
    # Ids that collations of languages sort otherwise than code points do.
    for number, charge_id in enumerate(("a-1", "B-1", "_", "a1", "Ä", "A.1", "试验")):
        county.copied(charge, charge_id=charge_id, total_fen=100 + number)


def _copy(source: Database, target: Database) -> None:
    with source.read() as read, target.write() as write:
        for table in metadata.sorted_tables:
            rows = [dict(row._mapping) for row in read.execute(select(table))]
            if rows:
                write.execute(delete(table))  # what the migrations put there
                write.execute(insert(table), rows)


def _run(county: RewardCounty, policy: str) -> tuple[str, str, int, str]:
    run = county.lock(county.prepare(policy))
    with county.database.read() as session:
        stored = session.get_one(RewardRun, run.run_id)
        rows = list(reward_rows(session, run.run_id))
        # The run's own number is made at random; everything else must agree.
        content = content_sha256(rows[1:])
        return stored.input_sha256, stored.result_sha256, stored.payable_fen, content
