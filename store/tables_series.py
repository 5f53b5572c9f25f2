"""The tables of the SQLite time-series file. It is a database of its own, so telemetry never holds the ledger's lock.

Used by the migrations of that file and by `store.series_sqlite`. WITHOUT ROWID keeps an instrument's samples side by
side on disk: half the size and a quarter of the scan time of a table with a separate index.
"""

from sqlalchemy import BigInteger, CheckConstraint, Column, Double, MetaData, String, Table

from store.database import NAMING

series_metadata = MetaData(naming_convention=NAMING)

sample = Table(
    "sample",
    series_metadata,
    Column("instrument_id", String, primary_key=True),
    Column("at_ms", BigInteger, primary_key=True, autoincrement=False),
    Column("power_mw", BigInteger, nullable=False),
    Column("state", BigInteger, nullable=False),
    Column("energy_mwh", BigInteger),
    CheckConstraint("state BETWEEN 0 AND 3", name="state_known"),
    sqlite_with_rowid=False,
)

sample_hour = Table(
    "sample_hour",
    series_metadata,
    Column("instrument_id", String, primary_key=True),
    Column("hour_ms", BigInteger, primary_key=True, autoincrement=False),
    Column("samples", BigInteger, nullable=False),
    Column("power_avg_mw", BigInteger, nullable=False),
    Column("power_max_mw", BigInteger, nullable=False),
    Column("off_ms", BigInteger, nullable=False),
    Column("standby_ms", BigInteger, nullable=False),
    Column("running_ms", BigInteger, nullable=False),
    Column("unknown_ms", BigInteger, nullable=False),
    CheckConstraint("hour_ms % 3600000 = 0", name="full_hour"),
    CheckConstraint("off_ms + standby_ms + running_ms + unknown_ms BETWEEN 1 AND 3600000", name="within_the_hour"),
    sqlite_with_rowid=False,
)

# What meters show beside power and energy. The key in this order keeps a curve of one quantity together.
reading = Table(
    "reading",
    series_metadata,
    Column("instrument_id", String, primary_key=True),
    Column("quantity", String, primary_key=True),
    Column("at_ms", BigInteger, primary_key=True, autoincrement=False),
    Column("value", Double, nullable=False),
    sqlite_with_rowid=False,
)

# One row a fact about the file itself; `expired_before` is the hour before which raw samples are gone.
series_mark = Table(
    "series_mark",
    series_metadata,
    Column("name", String, primary_key=True),
    Column("value_ms", BigInteger, nullable=False),
)
