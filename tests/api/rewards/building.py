"""The little county of the charging tests, with two officers, policies in force, and charges that are billed and paid.

Everything goes through the product's own services; only facts that nobody can make yet are written as rows.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import Connection, select, text

from api.charging.payments import record_payment
from api.charging.statements import finalize_statement, prepare_statement
from api.rewards.assessments import record_assessment
from api.rewards.policies import publish_policy, seed_policies
from api.rewards.policy_body import PolicyBody, parse_policy, policy_document, shipped_policies
from api.rewards.service import prepare_run
from api.rewards.steps import approve_run, check_run, lock_run, publish_notice
from api.work import system_actor
from store.canonical import sha256_hex
from store.database import Database
from store.periods import PeriodKind
from store.tables.accounts import Role
from store.tables.charging import Charge, Statement, Tender
from store.tables.registry import Affiliation, AffiliationEvent
from store.tables.rewards import Grade, RewardInput, RewardResult, RewardRun
from tests.api.charging.building import FIRM, HOST, MANAGER, OFFICER, County, _add_person, actor, build
from tests.support.usage import LONG_AGO, NINE
from wire.clock import from_ms
from wire.ids import new_ulid

HOUR = 3_600_000
DAY = 24 * HOUR
MARCH, APRIL, YEAR = 202603, 202604, 202601
SECOND_OFFICER = actor("officer-2", Role.COUNTY_OFFICER)
SEED = system_actor("seed")
FLAT10 = next(policy.body for policy in shipped_policies() if policy.policy_id == "FLAT10")


@dataclass
class RewardCounty(County):
    """The county at noon of 10 April 2026, unless a test moves it."""

    payments: int = 0

    def tested(self, start_ms: int = NINE, minutes: float = 60, *, share: float = 1.0, payer: str = FIRM) -> str:
        """A booking that was used (400 yuan an hour, by the half hour) and charged; return the charge's id."""
        booking = self.book(start_ms, 120, payer=payer)
        self.use(booking, minutes, start_ms, share=share)
        return self.charge_of(booking)

    def charge_of(self, booking: str) -> str:
        """Charge a booking now, as the worker does."""
        outcome = self.charge(booking)
        assert outcome.charge_id is not None, outcome
        return outcome.charge_id

    def bill(self, payer: str = FIRM, month: int = MARCH) -> Statement:
        """A final statement of what is not billed yet."""
        draft: Statement = self.do(prepare_statement, HOST, payer, month, who=MANAGER)
        final: Statement = self.do(finalize_statement, draft.statement_id, who=MANAGER)
        return final

    def pay(self, statement: Statement, amount_fen: int | None = None, tender: Tender = Tender.CASH) -> None:
        """Record a payment, of the whole statement unless an amount is given."""
        self.payments += 1
        amount = statement.total_fen if amount_fen is None else amount_fen
        self.do(
            record_payment,
            statement.statement_id,
            tender,
            amount,
            f"BANK-{self.payments}",
            self.now,
            who=MANAGER,
        )

    def paid(self, start_ms: int = NINE, minutes: float = 60, month: int = MARCH) -> str:
        """A test that was charged, billed and paid in full."""
        charge = self.tested(start_ms, minutes)
        self.pay(self.bill(month=month))
        return charge

    def copied(self, charge_id: str, /, **columns: object) -> str:
        """A further charge like this one, under a booking of its own, with some columns changed."""
        booking = self.book(NINE + 30 * DAY)
        with self.database.write() as session:
            original = session.get_one(Charge, charge_id)
            values = {column.key: getattr(original, column.key) for column in Charge.__mapper__.column_attrs}
            new = {"charge_id": new_ulid(), "booking_id": booking} | columns
            values |= new | {"row_hash": sha256_hex(str(new).encode())}
            session.add(Charge(**values))
        return str(values["charge_id"])

    def relate(self, state: Affiliation, effective_at: datetime = LONG_AGO, other: str = FIRM) -> None:
        """Record how host and firm stand to each other from an instant on."""
        with self.database.write() as session:
            session.add(
                AffiliationEvent(
                    host_org="org-h01",
                    other_org=other,
                    effective_at=effective_at,
                    state=state.value,
                    evidence="register",
                    recorded_by="officer",
                    recorded_at=self.now,
                )
            )

    def assess(self, grade: Grade, year: int = 2026) -> None:
        """Record the host's grade under two names."""
        self.do(record_assessment, HOST, year, grade, "minutes of the panel", "officer", "officer-2", who=SEED)

    def publish(self, policy_id: str, from_month: int = 202401, **fields: object) -> PolicyBody:
        """Publish FLAT10 with other terms under another name."""
        body = parse_policy(policy_document(FLAT10) | fields)
        self.do(publish_policy, policy_id, body, from_month, "officer", "officer-2", who=SEED)
        return body

    def prepare(self, policy: str = "FLAT10", kind: PeriodKind = PeriodKind.YEAR, first: int = YEAR) -> RewardRun:
        """The first officer prepares."""
        run: RewardRun = self.do(prepare_run, policy, kind, first, who=OFFICER)
        return run

    def notice(self, run: RewardRun) -> RewardRun:
        """The second officer checks what was prepared, the first announces it."""
        self.do(check_run, run.run_id, run.result_sha256, who=SECOND_OFFICER)
        announced: RewardRun = self.do(publish_notice, run.run_id, who=OFFICER)
        return announced

    def approve(self, run: RewardRun) -> RewardRun:
        """Announced for its seven days, then approved by the second officer."""
        self.notice(run)
        self.later(8)
        approved: RewardRun = self.do(approve_run, run.run_id, run.result_sha256, who=SECOND_OFFICER)
        return approved

    def lock(self, run: RewardRun) -> RewardRun:
        """All steps from the check to the lock; a little more than a week passes."""
        self.approve(run)
        locked: RewardRun = self.do(lock_run, run.run_id, run.result_sha256, who=SECOND_OFFICER)
        return locked

    def later(self, days: int = 1) -> None:
        """Let days pass."""
        self.now += timedelta(days=days)

    def result(self, run: RewardRun, host: str = HOST) -> RewardResult:
        """What a host got out of a run."""
        with self.database.read() as session:
            return session.get_one(RewardResult, (run.run_id, host))

    def reasons(self, run: RewardRun) -> dict[str, str]:
        """Charge -> reason."""
        with self.database.read() as session:
            rows = session.execute(
                select(RewardInput.charge_id, RewardInput.reason).where(RewardInput.run_id == run.run_id)
            )
            return {row.charge_id: row.reason for row in rows}

    def tamper(self, statement: str, **values: object) -> None:
        """Change a row as an administrator of the database can: the append-only guards are dropped first."""
        with self.database.engine.begin() as connection:
            drop_guards(connection)
            connection.execute(text(statement), values)


def build_rewards(database: Database, folder: Path) -> RewardCounty:
    """Put the county into an empty database, with the shipped policies in force."""
    plain = build(database, folder)
    county = RewardCounty(database, plain.series, from_ms(NINE) + timedelta(days=39, hours=3))
    with database.write() as session:
        _add_person(session, SECOND_OFFICER)
    county.do(seed_policies, "officer", "officer-2", who=SEED)
    return county


def drop_guards(connection: Connection) -> None:
    """Take every trigger away."""
    if connection.dialect.name == "sqlite":
        found = connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'trigger'"))
        for name in found.scalars().all():
            connection.execute(text(f"DROP TRIGGER {name}"))
        return
    for table in Charge.metadata.sorted_tables:
        connection.execute(text(f"ALTER TABLE {table.name} DISABLE TRIGGER USER"))
