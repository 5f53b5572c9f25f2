"""Lines of a charge may also price packages, surcharges, sample preparation, reports and discounts.

SQLite cannot change a check, so the table is copied there; its triggers are made again as they were.
"""

import re

import sqlalchemy as sa
from alembic import op

from store.database import is_write_locked_per_database

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

OLD = ("setup", "time", "sample", "item", "minimum", "cancellation", "no_show", "manual")
NEW = (
    "setup",
    "time",
    "sample",
    "item",
    "package",
    "minimum",
    "surcharge",
    "preparation",
    "report",
    "discount",
    "cancellation",
    "no_show",
    "manual",
)
_NAME = "ck_charge_line_component_known"
_CHECK = re.compile(r"CONSTRAINT \"?" + _NAME + r"\"? CHECK \(component IN \([^)]*\)\)")
_CREATE = re.compile(r"CREATE TABLE \"?charge_line\"?")


def upgrade() -> None:
    _know(NEW)


def downgrade() -> None:
    """Refused by the database where a line already uses a new component."""
    _know(OLD)


def _know(components: tuple[str, ...]) -> None:
    condition = "component IN ({})".format(", ".join(f"'{each}'" for each in components))
    if is_write_locked_per_database(op.get_bind()):
        _copy_table(f"CONSTRAINT {_NAME} CHECK ({condition})")
        return
    op.drop_constraint(op.f(_NAME), "charge_line", type_="check")
    op.create_check_constraint(op.f(_NAME), "charge_line", condition)


def _copy_table(check: str) -> None:
    bind = op.get_bind()
    stored = "SELECT sql FROM sqlite_master WHERE tbl_name = 'charge_line' AND sql IS NOT NULL AND type "
    [table] = bind.execute(sa.text(stored + "= 'table'")).scalars()
    others = list(bind.execute(sa.text(stored + "IN ('index', 'trigger') ORDER BY name")).scalars())
    changed, count = _CHECK.subn(lambda _: check, table)
    if count != 1:
        raise RuntimeError(f"charge_line has {count} checks called {_NAME}")
    op.execute(_CREATE.sub("CREATE TABLE charge_line_new", changed, count=1))
    op.execute("INSERT INTO charge_line_new SELECT * FROM charge_line")
    op.execute("DROP TABLE charge_line")
    op.execute("ALTER TABLE charge_line_new RENAME TO charge_line")
    for sql in others:
        bind.exec_driver_sql(sql)
