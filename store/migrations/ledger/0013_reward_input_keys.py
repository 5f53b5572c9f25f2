"""A run that was locked or withdrawn takes no more lines or results; and on PostgreSQL the lines of a run are held
against runs and charges a statement at a time, not a row at a time.

A foreign key looks up, and locks, one row for each line: of a million lines that was half a run. A trigger after each
statement joins all it inserted with what it names, and refuses with the key's own error. What a key promises besides
holds as well: runs and charges are neither deleted nor renumbered (0002), and here not truncated either. Because of
that no lock is needed: docs/adr/0012. SQLite checks a key for next to nothing and keeps both.

Whoever adds to a run on PostgreSQL holds its row until the end of the transaction: nobody closes it meanwhile.
"""

from alembic import op

from store.database import APPEND_ONLY_MARK, is_write_locked_per_database

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

# column of reward_input, the table that it names by its key of the same name
KEYS = (("run_id", "reward_run"), ("charge_id", "charge"))
# TRUNCATE asks no row, and CASCADE only follows foreign keys.
NEVER_TRUNCATED = ("reward_input", *(table for _, table in KEYS))

# Planned anew each time (EXECUTE): the plan for one line would be kept for a million. By schema, so that no temporary
# table passes for the real one. Sums and no LIMIT, with which the planner prefers what is fast for the first row.
_REFUSE = """
CREATE FUNCTION openlab_refuse_{name}() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    strays bigint;
    missing text;
BEGIN
{checks}
    RETURN NULL;
END $$
"""
# Locked first and looked at then: who waited for somebody closing the run sees it closed.
_REFUSE_CLOSED = f"""
    EXECUTE format('SELECT count(*) FROM (SELECT state FROM %I.reward_run WHERE run_id IN (SELECT run_id FROM added)'
        ' FOR SHARE) named WHERE state <> \'\'prepared\'\'', TG_TABLE_SCHEMA) INTO strays;
    IF strays > 0 THEN
        RAISE EXCEPTION '{APPEND_ONLY_MARK}: reward_run';
    END IF;
"""
_CHECK = """
    EXECUTE format('SELECT count(*), min(added.{column}) FROM added LEFT JOIN %I.{table} known'
        ' ON known.{column} = added.{column} WHERE known.{column} IS NULL', TG_TABLE_SCHEMA) INTO strays, missing;
    IF strays > 0 THEN
        RAISE EXCEPTION '% of the lines added to reward_input name a {column} that is not in {table}', strays
            USING ERRCODE = 'foreign_key_violation', CONSTRAINT = 'fk_reward_input_{column}', TABLE = 'reward_input',
                DETAIL = format('The first is %s.', missing);
    END IF;
"""


TAKE_NO_MORE = ("reward_input", "reward_result")


def upgrade() -> None:
    if is_write_locked_per_database(op.get_bind()):
        for table in TAKE_NO_MORE:
            op.execute(
                f"CREATE TRIGGER openlab_{table}_closed BEFORE INSERT ON {table}"
                " WHEN (SELECT state FROM reward_run WHERE run_id = NEW.run_id) <> 'prepared'"
                f" BEGIN SELECT RAISE(ABORT, '{APPEND_ONLY_MARK}: reward_run'); END"
            )
        return
    for column, _ in KEYS:
        op.drop_constraint(f"fk_reward_input_{column}", "reward_input", type_="foreignkey")
    checks = "".join(_CHECK.format(column=column, table=table) for column, table in KEYS)
    op.execute(_REFUSE.format(name="stray_reward_input", checks=checks + _REFUSE_CLOSED))
    op.execute(_REFUSE.format(name="late_reward_result", checks=_REFUSE_CLOSED))
    op.execute(
        "CREATE TRIGGER openlab_reward_result_closed AFTER INSERT ON reward_result REFERENCING NEW TABLE AS added"
        " FOR EACH STATEMENT EXECUTE FUNCTION openlab_refuse_late_reward_result()"
    )
    op.execute(
        "CREATE TRIGGER openlab_reward_input_refers AFTER INSERT ON reward_input REFERENCING NEW TABLE AS added"
        " FOR EACH STATEMENT EXECUTE FUNCTION openlab_refuse_stray_reward_input()"
    )
    for table in NEVER_TRUNCATED:
        op.execute(
            f"CREATE TRIGGER openlab_{table}_no_truncate BEFORE TRUNCATE ON {table} FOR EACH STATEMENT"
            " EXECUTE FUNCTION openlab_refuse_edit()"
        )


def downgrade() -> None:
    """The keys come back, and look once at all lines that are there."""
    if is_write_locked_per_database(op.get_bind()):
        for table in TAKE_NO_MORE:
            op.execute(f"DROP TRIGGER openlab_{table}_closed")
        return
    for table in NEVER_TRUNCATED:
        op.execute(f"DROP TRIGGER openlab_{table}_no_truncate ON {table}")
    op.execute("DROP TRIGGER openlab_reward_input_refers ON reward_input")
    op.execute("DROP TRIGGER openlab_reward_result_closed ON reward_result")
    for name in ("stray_reward_input", "late_reward_result"):
        op.execute(f"DROP FUNCTION openlab_refuse_{name}()")
    for column, table in KEYS:
        op.create_foreign_key(
            f"fk_reward_input_{column}", "reward_input", table, [column], [column], ondelete="RESTRICT"
        )
