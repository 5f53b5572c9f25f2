"""The tables of the time series"""

import sqlalchemy as sa
from alembic import op

revision = "s0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "sample",
        sa.Column("instrument_id", sa.String(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("power_mw", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.BigInteger(), nullable=False),
        sa.Column("energy_mwh", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("state BETWEEN 0 AND 3", name=op.f("ck_sample_state_known")),
        sa.PrimaryKeyConstraint("instrument_id", "at_ms", name=op.f("pk_sample")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "sample_hour",
        sa.Column("instrument_id", sa.String(), nullable=False),
        sa.Column("hour_ms", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("samples", sa.BigInteger(), nullable=False),
        sa.Column("power_avg_mw", sa.BigInteger(), nullable=False),
        sa.Column("power_max_mw", sa.BigInteger(), nullable=False),
        sa.Column("off_ms", sa.BigInteger(), nullable=False),
        sa.Column("standby_ms", sa.BigInteger(), nullable=False),
        sa.Column("running_ms", sa.BigInteger(), nullable=False),
        sa.Column("unknown_ms", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("hour_ms % 3600000 = 0", name=op.f("ck_sample_hour_full_hour")),
        sa.CheckConstraint(
            "off_ms + standby_ms + running_ms + unknown_ms BETWEEN 1 AND 3600000",
            name=op.f("ck_sample_hour_within_the_hour"),
        ),
        sa.PrimaryKeyConstraint("instrument_id", "hour_ms", name=op.f("pk_sample_hour")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "series_mark",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("value_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_series_mark")),
    )


def downgrade() -> None:
    op.drop_table("series_mark")
    op.drop_table("sample_hour")
    op.drop_table("sample")
