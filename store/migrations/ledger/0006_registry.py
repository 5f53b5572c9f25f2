"""What an instrument can do, when it is open and where it stands; and how the catalogue hears of changes."""

import sqlalchemy as sa
from alembic import op

from store.database import is_write_locked_per_database

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_TEXT, _COUNT, _MOMENT = "VARCHAR NOT NULL DEFAULT ''", "BIGINT NOT NULL DEFAULT", "BIGINT"
_CONTACT = dict.fromkeys(("address", "contact_name", "contact_phone", "contact_email"), _TEXT)
# Written out in SQL that both engines read: a check that belongs to one column comes and goes with it, on both.
COLUMNS = {
    "host": {**_CONTACT, "retired_at": _MOMENT},
    "lab": {
        "town_zh": _TEXT,
        "town_en": _TEXT,
        "latitude_e6": "BIGINT CONSTRAINT ck_lab_latitude_in_range CHECK (latitude_e6 BETWEEN -90000000 AND 90000000)",
        "longitude_e6": "BIGINT CONSTRAINT ck_lab_longitude_in_range CHECK (longitude_e6 BETWEEN -180000000 AND 180000000)",
        **_CONTACT,
        "retired_at": _MOMENT,
    },
    "instrument": {
        "self_operated": "BOOLEAN NOT NULL DEFAULT TRUE",
        "takes_samples": "BOOLEAN NOT NULL DEFAULT TRUE",
        "open_hours": "VARCHAR NOT NULL DEFAULT '1-7 00:00-24:00'",
        "lead_minutes": f"{_COUNT} 0 CONSTRAINT ck_instrument_lead_not_negative CHECK (lead_minutes >= 0)",
        "horizon_days": f"{_COUNT} 366 CONSTRAINT ck_instrument_horizon_positive CHECK (horizon_days >= 1)",
        "min_slot_minutes": f"{_COUNT} 0 CONSTRAINT ck_instrument_min_slot_not_negative CHECK (min_slot_minutes >= 0)",
        "step_minutes": f"{_COUNT} 0 CONSTRAINT ck_instrument_step_in_a_day CHECK (step_minutes BETWEEN 0 AND 1440)",
        **dict.fromkeys(("inner_code", "manufacturer", "country", "source", "fund_source", "start_date"), _TEXT),
        **dict.fromkeys(("technical", "function", "subject_areas", "address", "open_rule", "service_url"), _TEXT),
        "gs1_code": _TEXT,
        "customs_duty_free": "BOOLEAN NOT NULL DEFAULT FALSE",
    },
    "test_item": {
        **dict.fromkeys(("parameter_zh", "parameter_en", "sample_form_zh", "sample_form_en"), _TEXT),
        "turnaround_days": f"{_COUNT} 0 CONSTRAINT ck_test_item_turnaround_not_negative CHECK (turnaround_days >= 0)",
        "report_type": "VARCHAR NOT NULL DEFAULT 'internal' CONSTRAINT ck_test_item_report_type_known"
        " CHECK (report_type IN ('cma', 'cnas', 'internal'))",
        "retired_at": _MOMENT,
    },
    "certificate": {"withdrawn_at": _MOMENT},
}

# What changes of which table mean for the catalogue: which instruments show something else.
_ONE, _OF = "SELECT NEW.instrument_id", "SELECT instrument_id FROM instrument WHERE"
WATCHED = {
    "instrument": (("INSERT", "UPDATE"), _ONE),
    "test_item": (("INSERT", "UPDATE"), _ONE),
    "lab": (("UPDATE",), f"{_OF} lab_id = NEW.lab_id"),
    "host": (("UPDATE",), f"{_OF} host_id = NEW.host_id"),
    "org": (("UPDATE",), f"{_OF} host_id IN (SELECT host_id FROM host WHERE org_id = NEW.org_id)"),
    "tariff_version": (("INSERT",), "SELECT instrument_id FROM tariff WHERE tariff_id = NEW.tariff_id"),
    # No instrument shows another text, but all may be open at other times.
    "special_day": (("INSERT", "UPDATE", "DELETE"), ""),
}


def upgrade() -> None:
    for table, columns in COLUMNS.items():
        for name, kind in columns.items():
            op.execute(f"ALTER TABLE {table} ADD COLUMN {name} {kind}")
    _create_tables()
    op.create_index(
        "ix_calendar_row_busy",
        "calendar_row",
        ["to_at", "from_at", "instrument_id"],
        sqlite_where=sa.text("active = 1"),
        postgresql_where=sa.text("active"),
    )
    op.execute("INSERT INTO catalogue_head (head_id, seq) VALUES ('catalogue', 1)")
    op.execute("INSERT INTO catalogue_change (instrument_id, seq) SELECT instrument_id, 1 FROM instrument")
    for table, (events, which) in WATCHED.items():
        _watch(table, events, which)


def downgrade() -> None:
    of_engine = is_write_locked_per_database(op.get_bind())
    for table, (events, _) in WATCHED.items():
        for event in events:
            op.execute(f"DROP TRIGGER {_name(table, event)}" + ("" if of_engine else f" ON {table}"))
        if not of_engine:
            op.execute(f"DROP FUNCTION openlab_catalogue_{table}()")
    op.drop_index("ix_calendar_row_busy", "calendar_row")
    for table in ("catalogue_change", "catalogue_head", "special_day"):
        op.drop_table(table)
    for table, columns in COLUMNS.items():
        for name in columns:
            op.execute(f"ALTER TABLE {table} DROP COLUMN {name}")


def _name(table: str, event: str) -> str:
    return f"openlab_catalogue_{table}_{event.lower()}"


def _watch(table: str, events: tuple[str, ...], which: str) -> None:
    """Counting and naming happen only where an instrument is concerned: most organisations are no hosts."""
    body = (
        "UPDATE catalogue_head SET seq = seq + 1;"
        if not which
        else (
            f"UPDATE catalogue_head SET seq = seq + 1 WHERE EXISTS ({which});"
            f" INSERT INTO catalogue_change (instrument_id, seq) SELECT changed.instrument_id, head.seq"
            f" FROM ({which.replace('SELECT NEW.instrument_id', 'SELECT NEW.instrument_id AS instrument_id')}) changed"
            " CROSS JOIN catalogue_head head WHERE head.head_id = 'catalogue'"
            " ON CONFLICT (instrument_id) DO UPDATE SET seq = excluded.seq;"
        )
    )
    if is_write_locked_per_database(op.get_bind()):
        for event in events:
            op.execute(f"CREATE TRIGGER {_name(table, event)} AFTER {event} ON {table} BEGIN {body} END")
        return
    op.execute(
        f"CREATE FUNCTION openlab_catalogue_{table}() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN {body} RETURN NULL; END $$"
    )
    for event in events:
        op.execute(
            f"CREATE TRIGGER {_name(table, event)} AFTER {event} ON {table} FOR EACH ROW"
            f" EXECUTE FUNCTION openlab_catalogue_{table}()"
        )


def _create_tables() -> None:
    op.create_table(
        "special_day",
        sa.Column("special_day_id", sa.String(), nullable=False),
        sa.Column("host_id", sa.String(), nullable=True),
        sa.Column("day", sa.String(), nullable=False),
        sa.Column("like_weekday", sa.BigInteger(), nullable=True),
        sa.Column("name_zh", sa.String(), nullable=False),
        sa.Column("name_en", sa.String(), nullable=False),
        sa.Column("recorded_by", sa.String(), nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.Column("row_version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("like_weekday BETWEEN 1 AND 7", name=op.f("ck_special_day_weekday_known")),
        sa.CheckConstraint("length(day) = 10", name=op.f("ck_special_day_day_is_a_date")),
        sa.ForeignKeyConstraint(
            ["host_id"], ["host.host_id"], name=op.f("fk_special_day_host_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("special_day_id", name=op.f("pk_special_day")),
    )
    op.create_index("ix_special_day_host_id", "special_day", ["host_id"])
    op.create_index("ix_special_day_day", "special_day", ["day"])
    op.create_table(
        "catalogue_head",
        sa.Column("head_id", sa.String(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("head_id", name=op.f("pk_catalogue_head")),
    )
    op.create_table(
        "catalogue_change",
        sa.Column("instrument_id", sa.String(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["instrument_id"],
            ["instrument.instrument_id"],
            name=op.f("fk_catalogue_change_instrument_id"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("instrument_id", name=op.f("pk_catalogue_change")),
    )
    op.create_index("ix_catalogue_change_seq", "catalogue_change", ["seq"])
