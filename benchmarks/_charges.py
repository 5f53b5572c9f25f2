"""A ledger with any number of charges, for the reward benchmark: rows that a year of billing leaves, made by counting.

Loaded past the keys that refer to tables which a run does not read (there are no bookings), on either engine; what a
run reads or refers to is all there: charges, statements with lines and invoices, payments, affiliations, anomalies.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from store.database import Base, Database, insert_many
from store.tables.accounts import Person, Role, RoleGrant
from store.tables.audit import Anomaly, AnomalyDecision
from store.tables.charging import Charge, Invoice, Payment, Settlement, Statement, StatementLine
from store.tables.registry import AffiliationEvent, Host, Org
from store.types import UtcDateTime
from wire.clock import from_ms

PEOPLE = ("officer-1", "officer-2")
HOSTS, FIRMS, LINES_A_STATEMENT = 20, 1_000, 4
YEAR_FIRST = 202501
NEW_YEAR_MS = 1_735_660_800_000
MONTH_MS = 30 * 24 * 3_600_000
WATERMARK = from_ms(NEW_YEAR_MS + 14 * MONTH_MS)
_AT_ONCE = 20_000
Rows = Iterable[dict[str, Any]]


def fill(database: Database, charges: int) -> None:
    """Load so many charges of 2025 and what belongs to them."""
    with unchecked(database) as session:
        for table, rows in (
            (Org, _orgs()),
            (Host, _hosts()),
            (Person, (_whole(Person, _person(name)) for name in PEOPLE)),
            (RoleGrant, (_whole(RoleGrant, _grant(name)) for name in PEOPLE)),
            (AffiliationEvent, _affiliations()),
            (Charge, (_charge(n) for n in range(charges))),
            (Statement, (_statement(n) for n in range(-(-charges // LINES_A_STATEMENT)))),
            (StatementLine, (_line(n) for n in range(charges))),
            (Invoice, (_invoice(n) for n in range(-(-charges // LINES_A_STATEMENT)))),
            (Payment, (_payment(n) for n in range(-(-charges // LINES_A_STATEMENT)))),
            (Settlement, (_settlement(n) for n in range(charges) if _is_settled(n))),
            (Anomaly, (_anomaly(n) for n in range(0, charges, 300))),
            (AnomalyDecision, (_decision(n) for n in range(0, charges, 900))),
        ):
            _load(session, table, iter(rows))
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE"))


@contextmanager
def unchecked(database: Database) -> Iterator[Session]:
    """One transaction that does not look at foreign keys, by each engine's own switch."""
    is_file = database.engine.dialect.name == "sqlite"
    with database.engine.connect() as connection:
        if is_file:
            connection.connection.driver_connection.execute("PRAGMA foreign_keys=OFF")  # type: ignore[union-attr]
        with connection.begin(), Session(bind=connection) as session:
            if not is_file:
                session.execute(text("SET LOCAL session_replication_role = replica"))
            yield session
            session.flush()
        if is_file:
            connection.connection.driver_connection.execute("PRAGMA foreign_keys=ON")  # type: ignore[union-attr]


def _load(session: Session, table: type[Base], rows: Iterator[dict[str, Any]]) -> None:
    while some := list(islice(rows, _AT_ONCE)):
        insert_many(session, table, some)


def charge_id(number: int) -> str:
    """Return the id of a charge."""
    return f"01J{number:023d}"


def _statement_id(number: int) -> str:
    return f"01S{number:023d}"


def _payment_id(number: int) -> str:
    return f"01P{number:023d}"


def _host_of(statement: int) -> int:
    return statement % HOSTS


def _firm_of(statement: int) -> int:
    return statement * 7 % FIRMS


def _month_of(number: int) -> int:
    return number // 3 % 12


def _is_reversal(number: int) -> bool:
    return number % 200 == 1


def _is_settled(number: int) -> bool:
    return number % 33 != 0 and number % 200 not in (0, 1)


def _total(number: int) -> int:
    total = 10_000 + number * 7919 % 90_000
    return -_total(number - 1) if _is_reversal(number) else total


def _person(name: str) -> dict[str, Any]:
    return {"person_id": name, "login": name, "name": name, "org_id": "org-h00", "language": "zh", "active": True}


def _grant(name: str) -> dict[str, Any]:
    return {"person_id": name, "role": Role.COUNTY_OFFICER.value, "host_scope": ""}


def _orgs() -> Iterator[dict[str, Any]]:
    for n in range(HOSTS):
        yield _org(f"org-h{n:02d}", "host", n)
    for n in range(FIRMS):
        yield _org(f"o-sme{n:04d}", "sme", 100 + n)


def _org(org_id: str, kind: str, number: int) -> dict[str, Any]:
    fields = {
        "org_id": org_id,
        "uscc": f"91990000{number:09d}X",
        "kind": kind,
        "state": "active",
        "name_zh": "示例",
        "name_en": "Example",
    }
    return _whole(Org, fields)


def _hosts() -> Iterator[dict[str, Any]]:
    for n in range(HOSTS):
        yield _whole(Host, {"host_id": f"h{n:02d}", "org_id": f"org-h{n:02d}"})


def _affiliations() -> Iterator[dict[str, Any]]:
    for n in range(0, FIRMS, 25):
        for state, month in (("affiliated", 2), ("independent", 9)):
            yield _whole(
                AffiliationEvent,
                {
                    "host_org": f"org-h{n % HOSTS:02d}",
                    "other_org": f"o-sme{n:04d}",
                    "effective_at": from_ms(NEW_YEAR_MS + month * MONTH_MS),
                    "state": state,
                    "recorded_at": from_ms(NEW_YEAR_MS),
                },
            )


def _charge(number: int) -> dict[str, Any]:
    statement, total = number // LINES_A_STATEMENT, _total(number)
    is_reversal = _is_reversal(number)
    month = _month_of(statement)
    return {
        "charge_id": charge_id(number),
        "booking_id": f"01B{number - is_reversal:023d}",
        "purpose": "no_show" if number % 70 == 5 else "use",
        "revision": 2 if is_reversal else 1,
        "prev_revision": 1 if is_reversal else None,
        "host_id": f"h{_host_of(statement):02d}",
        "payer_org": f"o-sme{_firm_of(statement):04d}",
        "instrument_id": f"i{number % 82:03d}",
        "category": "sme",
        "tariff_id": "t",
        "tariff_version": 1,
        "calc_version": "2",
        "input": '{"running_ms":3600000,"schema":"openlab.rating-input/2"}',
        "input_sha256": f"{number:064x}",
        "service_at": from_ms(NEW_YEAR_MS + month * MONTH_MS + number % 25 * 86_400_000),
        "service_month": YEAR_FIRST + month,
        "posting_month": YEAR_FIRST + month,
        "total_fen": total,
        "net_fen": total * 100 // 106,
        "line_count": 2,
        "metered_ms": 3_600_000,
        "internal": number % 50 == 7,
        "has_session": number % 100 != 9,
        "certificate_valid": number % 110 != 3,
        "coverage_bp": 9_000 if number % 90 == 4 else 9_500 + number % 501,
        "reason": "wrong meter" if is_reversal else "",
        "recorded_by": "worker",
        "recorded_at": from_ms(NEW_YEAR_MS + (month + 1) * MONTH_MS),
        "row_hash": f"{number:064x}",
    }


def _statement(number: int) -> dict[str, Any]:
    at = from_ms(NEW_YEAR_MS + 13 * MONTH_MS)
    return {
        "statement_id": _statement_id(number),
        "host_id": f"h{_host_of(number):02d}",
        "payer_org": f"o-sme{_firm_of(number):04d}",
        "month": YEAR_FIRST + _month_of(number),
        "kind": "statement",
        "part": number,
        "state": "final",
        "number": f"S-{number}",
        "total_fen": _sum(number),
        "line_count": LINES_A_STATEMENT,
        "content_sha256": "0" * 64,
        "prepared_by": "m",
        "prepared_at": at,
        "finalized_by": "m",
        "finalized_at": at,
        "issued_at": None,
        "dispute_until": None,
    }


def _sum(statement: int) -> int:
    first = statement * LINES_A_STATEMENT
    return sum(_total(n) for n in range(first, first + LINES_A_STATEMENT))


def _line(number: int) -> dict[str, Any]:
    return {
        "statement_id": _statement_id(number // LINES_A_STATEMENT),
        "line_no": number % LINES_A_STATEMENT + 1,
        "line_count": LINES_A_STATEMENT,
        "charge_id": charge_id(number),
        "amount_fen": _total(number),
    }


def _invoice(number: int) -> dict[str, Any]:
    at = from_ms(NEW_YEAR_MS + 13 * MONTH_MS)
    return {
        "invoice_no": f"{number:020d}",
        "statement_id": _statement_id(number),
        "kind": "blue",
        "reverses": None,
        "amount_fen": _sum(number) if number % 40 else 1,
        "issued_at": at,
        "recorded_by": "m",
        "recorded_at": at,
    }


def _payment(number: int) -> dict[str, Any]:
    at = from_ms(NEW_YEAR_MS + 13 * MONTH_MS)
    return {
        "payment_id": _payment_id(number),
        "statement_id": _statement_id(number),
        "tender": "voucher" if number % 12 == 0 else "cash",
        "amount_fen": max(1, _sum(number)),
        "external_ref": f"BANK-{number}",
        "received_at": at,
        "recorded_by": "m",
        "recorded_at": at,
    }


def _settlement(number: int) -> dict[str, Any]:
    return {
        "payment_id": _payment_id(number // LINES_A_STATEMENT),
        "charge_id": charge_id(number),
        "amount_fen": _total(number),
    }


def _anomaly(number: int) -> dict[str, Any]:
    fields = {
        "anomaly_id": f"01A{number:023d}",
        "rule": "round_hours" if number % 600 else "coverage_below_95",
        "subject_kind": "charge",
        "subject_id": charge_id(number + 4),
        "blocks_reward": True,
        "found_at": from_ms(NEW_YEAR_MS + 13 * MONTH_MS),
    }
    return _whole(Anomaly, fields)


def _decision(number: int) -> dict[str, Any]:
    return _whole(
        AnomalyDecision,
        {
            "anomaly_id": f"01A{number:023d}",
            "verdict": "cleared" if number % 1800 else "confirmed",
            "decided_at": from_ms(NEW_YEAR_MS + 13 * MONTH_MS),
        },
    )


def _whole(table: type[Base], given: dict[str, Any]) -> dict[str, Any]:
    """A row with something in every column that must have it."""
    row: dict[str, Any] = {}
    for column in table.__table__.columns:
        if column.name in given:
            row[column.name] = given[column.name]
        elif not column.nullable:
            row[column.name] = _anything(column.type)
    return row


def _anything(kind: Any) -> Any:
    if isinstance(kind, UtcDateTime):
        return from_ms(NEW_YEAR_MS)
    return "x" if kind.python_type is str else kind.python_type()
