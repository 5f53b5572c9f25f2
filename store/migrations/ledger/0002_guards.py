"""What the database itself refuses: overlapping calendar rows, and edits of what was recorded.

The one place with SQL of its own per engine. Correctness of money does not hang on the append-only triggers (the
hashes do that work); they are a second fence against a slip of the hand.
"""

from alembic import op

from store.database import APPEND_ONLY_MARK, OVERLAP_MARK, is_write_locked_per_database

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

APPEND_ONLY = (
    "usage_entry",
    "usage_conflict",
    "charge",
    "charge_line",
    "charge_evidence",
    "invoice",
    "payment",
    "settlement",
    "tariff_version",
    "reward_policy_version",
    "assessment",
    "reward_input",
    "reward_result",
    "audit_event",
    "booking_event",
    "export_file",
    "anomaly_decision",
    "affiliation_event",
)
# Of a run only the way it ends may change, once: what it computed stands from the moment it is prepared.
_RUN_FACTS = (
    *("run_id", "policy_id", "policy_version", "period_kind", "period_first", "run_no", "engine_version", "watermark"),
    *("charge_count", "base_fen", "payable_fen", "input_sha256", "result_sha256", "prepared_by", "prepared_at"),
)
_RUN_CHANGED = " OR ".join(("OLD.state <> 'prepared'", *(f"NEW.{fact} <> OLD.{fact}" for fact in _RUN_FACTS)))
# table, what may not happen, and to which rows: a tick may go once a digest of it is chained; a draft may be redone.
CONDITIONAL = (
    ("usage_record", "UPDATE", ""),
    ("usage_record", "DELETE", "OLD.kind <> 'tick'"),
    ("statement", "UPDATE", "OLD.state = 'final'"),
    ("statement", "DELETE", "OLD.state = 'final'"),
    ("statement_line", "UPDATE", ""),
    ("reward_run", "UPDATE", _RUN_CHANGED),
    ("reward_run", "DELETE", ""),
)


def upgrade() -> None:
    if is_write_locked_per_database(op.get_bind()):
        _sqlite_up()
    else:
        _postgresql_up()


def downgrade() -> None:
    if is_write_locked_per_database(op.get_bind()):
        for name in ("calendar_insert", "calendar_update", "statement_line_final"):
            op.execute(f"DROP TRIGGER openlab_{name}")
        for table, event, _ in _fences():
            op.execute(f"DROP TRIGGER {_name(table, event)}")
        return
    op.execute("ALTER TABLE calendar_row DROP CONSTRAINT ex_calendar_row_overlap")
    op.execute("DROP TRIGGER openlab_statement_line_final ON statement_line")
    for table, event, _ in _fences():
        op.execute(f"DROP TRIGGER {_name(table, event)} ON {table}")
    op.execute("DROP FUNCTION openlab_refuse_edit()")
    op.execute("DROP FUNCTION openlab_refuse_final_line()")


def _fences() -> list[tuple[str, str, str]]:
    plain = [(table, event, "") for table in APPEND_ONLY for event in ("UPDATE", "DELETE")]
    return plain + list(CONDITIONAL)


def _name(table: str, event: str) -> str:
    return f"openlab_{table}_no_{event.lower()}"


def _sqlite_up() -> None:
    clash = (
        "EXISTS (SELECT 1 FROM calendar_row other WHERE other.instrument_id = NEW.instrument_id AND other.active = 1"
        " AND other.row_id <> NEW.row_id AND other.from_at < NEW.to_at AND NEW.from_at < other.to_at)"
    )
    for event in ("INSERT", "UPDATE"):
        op.execute(
            f"CREATE TRIGGER openlab_calendar_{event.lower()} BEFORE {event} ON calendar_row"
            f" WHEN NEW.active = 1 AND {clash} BEGIN SELECT RAISE(ABORT, '{OVERLAP_MARK}'); END"
        )
    for table, event, condition in _fences():
        when = f" WHEN {condition}" if condition else ""
        op.execute(
            f"CREATE TRIGGER {_name(table, event)} BEFORE {event} ON {table}{when}"
            f" BEGIN SELECT RAISE(ABORT, '{APPEND_ONLY_MARK}: {table}'); END"
        )
    op.execute(
        "CREATE TRIGGER openlab_statement_line_final BEFORE DELETE ON statement_line WHEN EXISTS (SELECT 1 FROM"
        " statement WHERE statement.statement_id = OLD.statement_id AND statement.state = 'final')"
        f" BEGIN SELECT RAISE(ABORT, '{APPEND_ONLY_MARK}: statement_line'); END"
    )


def _postgresql_up() -> None:
    op.execute("CREATE EXTENSION IF NOT EXISTS btree_gist")
    op.execute(
        "ALTER TABLE calendar_row ADD CONSTRAINT ex_calendar_row_overlap"
        " EXCLUDE USING gist (instrument_id WITH =, int8range(from_at, to_at) WITH &&) WHERE (active)"
    )
    op.execute(
        "CREATE FUNCTION openlab_refuse_edit() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN RAISE EXCEPTION '{APPEND_ONLY_MARK}: %', TG_TABLE_NAME; END $$"
    )
    for table, event, condition in _fences():
        when = f" WHEN ({condition})" if condition else ""
        op.execute(
            f"CREATE TRIGGER {_name(table, event)} BEFORE {event} ON {table} FOR EACH ROW{when}"
            " EXECUTE FUNCTION openlab_refuse_edit()"
        )
    op.execute(
        "CREATE FUNCTION openlab_refuse_final_line() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF EXISTS (SELECT 1 FROM statement s WHERE s.statement_id = OLD.statement_id AND s.state = 'final') THEN"
        f" RAISE EXCEPTION '{APPEND_ONLY_MARK}: statement_line'; END IF; RETURN OLD; END $$"
    )
    op.execute(
        "CREATE TRIGGER openlab_statement_line_final BEFORE DELETE ON statement_line FOR EACH ROW"
        " EXECUTE FUNCTION openlab_refuse_final_line()"
    )
