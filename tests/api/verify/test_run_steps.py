"""The way of a run and its money, tampered with by somebody who switched the database's guards off."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from api.rewards.marks import decide_mark, propose_mark
from api.rewards.payments import record_reward_payments, return_payment
from api.verify.checks import all_checks, verify
from store.periods import SHANGHAI
from store.tables.rewards import MarkCode
from tests.api.charging.building import FINANCE, HOST, NINE
from tests.api.rewards.building import DAY, OFFICER, RewardCounty, build_rewards, drop_guards
from tests.support.databases import DatabaseServers, opened


@dataclass(frozen=True)
class Paid:
    """A ledger with a run of 40 yuan that was locked and paid, after a transfer came back; and a mark of a booking."""

    county: RewardCounty
    run_id: str
    mark_id: str

    def named(self, *statements: str) -> list[tuple[str, str]]:
        """Table and key of what verification names after these changes, which leave no trace behind."""
        with self.county.database.engine.connect() as connection:
            raw = connection.connection.driver_connection
            connection.rollback()
            assert raw is not None
            for pragma in ("foreign_keys=OFF", "ignore_check_constraints=ON"):
                raw.execute(f"PRAGMA {pragma}")
            for statement in statements:
                connection.execute(text(statement))
            with Session(connection) as session:
                outcomes = list(verify(session, all_checks()))
            connection.rollback()
            for pragma in ("foreign_keys=ON", "ignore_check_constraints=OFF"):
                raw.execute(f"PRAGMA {pragma}")
        found = [one.finding for one in outcomes if one.finding is not None]
        return [(one.table, one.key.replace(self.run_id, "RUN").replace(self.mark_id, "MARK")) for one in found]


@pytest.fixture(scope="module")
def paid(database_servers: DatabaseServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Paid]:
    """One ledger for all tests here, without the guards of its tables."""
    with database_servers.fresh_url("sqlite") as url, opened(url) as database:
        county = build_rewards(database, tmp_path_factory.mktemp("paid"))
        county.paid()
        county.later()
        run = county.lock(county.prepare())
        today = county.now.astimezone(SHANGHAI).date()
        county.do(record_reward_payments, run.run_id, {HOST: 4_000}, today, "BANK-R1", who=FINANCE)
        county.do(return_payment, run.run_id, HOST, 1_500, today, "BANK-R2", "wrong account", who=FINANCE)
        county.do(record_reward_payments, run.run_id, {HOST: 1_500}, today, "BANK-R3", who=FINANCE)
        row = county.do(propose_mark, MarkCode.BULK, "x", county.tested(NINE + DAY), who=OFFICER)
        county.do(decide_mark, row.mark_id, True, who=FINANCE)
        with database.engine.begin() as connection:
            drop_guards(connection)
        yield Paid(county, run.run_id, row.mark_id)
        county.series.close()


OFFICER_OF = "(SELECT prepared_by FROM reward_run)"
CHANGES: dict[str, tuple[str, tuple[str, str]]] = {
    "a step left out": ("DELETE FROM reward_step WHERE step_no = 2", ("reward_step", "RUN/3")),
    "no check": ("DELETE FROM reward_step WHERE step_no = 1", ("reward_step", "RUN/2")),
    "a step that leads elsewhere": (
        "UPDATE reward_step SET to_stage = 'locked' WHERE step_no = 3",
        ("reward_step", "RUN/3"),
    ),
    "the preparer approves": (
        f"UPDATE reward_step SET done_by = {OFFICER_OF} WHERE step_no = 3",
        ("reward_step", "RUN/3"),
    ),
    "another preparer": ("UPDATE reward_step SET prepared_by = 'x' WHERE step_no = 4", ("reward_step", "RUN/4")),
    "a shorter notice": (
        "UPDATE reward_step SET notice_until = notice_until - 86400000 WHERE step_no = 2",
        ("reward_step", "RUN/2"),
    ),
    "an approval during the notice": (
        "UPDATE reward_step SET done_at = done_at - 172800000 WHERE step_no = 3",
        ("reward_step", "RUN/3"),
    ),
    "a lock before the approval": (
        "UPDATE reward_step SET done_at = done_at - 1 WHERE step_no = 4",
        ("reward_step", "RUN/4"),
    ),
    "an objection nobody answered": (
        "INSERT INTO reward_objection SELECT 'o1', run_id, 1, NULL, 'org-firm', 'no', 'x', 1 FROM reward_run",
        ("reward_step", "RUN/3"),
    ),
    "a lock that a step does not know": ("UPDATE reward_run SET closed_by = 'x'", ("reward_run", "RUN")),
    "a run that is open again": ("UPDATE reward_run SET state = 'prepared'", ("reward_run", "RUN")),
    "more paid than granted": (
        "UPDATE reward_payment SET amount_fen = 4001 WHERE payment_no = 1",
        ("reward_payment", f"RUN/{HOST}/1"),
    ),
    "more back than was paid": (
        "UPDATE reward_payment SET amount_fen = -4001 WHERE payment_no = 2",
        ("reward_payment", f"RUN/{HOST}/2"),
    ),
    "less paid than the last step says": (
        "UPDATE reward_payment SET amount_fen = 1499 WHERE payment_no = 3",
        ("reward_step", "RUN/7"),
    ),
    "a return that is a payment": (
        "UPDATE reward_payment SET step_no = 6 WHERE payment_no = 3",
        ("reward_payment", f"RUN/{HOST}/3"),
    ),
    "a line of no run": (
        "INSERT INTO reward_input VALUES ('r0', 'c0', 'h', 1, 0, 'unpaid')",
        ("reward_input", "r0/c0"),
    ),
    "a line of no charge": (
        "INSERT INTO reward_input SELECT run_id, 'c0', 'h', 1, 0, 'unpaid' FROM reward_run",
        ("reward_input", "RUN/c0"),
    ),
    "a mark of one person": (
        "UPDATE reward_mark_decision SET decided_by = prepared_by",
        ("reward_mark_decision", "MARK"),
    ),
    "a withdrawal of what is not there": ("UPDATE reward_mark SET withdraws = 'x'", ("reward_mark", "MARK")),
}


def test_a_run_that_was_paid_holds(paid: Paid) -> None:
    assert paid.named() == []


@pytest.mark.parametrize("what", CHANGES)
def test_a_way_a_payment_or_a_mark_that_could_not_be_is_named(paid: Paid, what: str) -> None:
    statement, key = CHANGES[what]
    assert key in paid.named(statement)
