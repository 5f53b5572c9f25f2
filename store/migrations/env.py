"""Alembic's entry: runs on the connection that store.migrations passes in; there is no configuration file."""

from alembic import context

from store.database import is_write_locked_per_database

config = context.config
if config.attributes.get("history") == "series":
    from store.tables_series import series_metadata as metadata
else:
    from store.tables import metadata

connection = config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    compare_type=True,
    render_as_batch=is_write_locked_per_database(connection),
)
with context.begin_transaction():
    context.run_migrations()
