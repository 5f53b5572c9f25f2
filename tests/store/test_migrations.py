"""The migrations: up, down and up again on both engines, and no difference from the models."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, inspect, text

from store.database import Database
from store.errors import SchemaOutdated
from store.migrations import History, current, downgrade, require_current, upgrade
from store.tables import metadata
from store.tables_series import series_metadata
from tests.support.databases import ENGINES, DatabaseServers, opened

KEYS_BY_TRIGGER: dict[str, set[str]] = {
    "sqlite": set(),
    "postgresql": {"fk_reward_input_run_id", "fk_reward_input_charge_id"},
}
"""Keys of the models for which a trigger stands: docs/adr/0012, tried in test_reward_lines.py."""


@pytest.fixture(params=ENGINES)
def empty(request: pytest.FixtureRequest, database_servers: DatabaseServers) -> Iterator[Database]:
    """A database without any table, on each engine in turn."""
    with database_servers.unmigrated_url(request.param) as url, opened(url) as database:
        yield database


def _guards(database: Database) -> list[str]:
    """What the second migration adds besides tables: triggers, functions and the exclusion constraint."""
    wanted = {
        "sqlite": "SELECT name FROM sqlite_master WHERE type = 'trigger'",
        "postgresql": "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal"
        " UNION ALL SELECT proname FROM pg_proc WHERE proname LIKE 'openlab%'"
        " UNION ALL SELECT conname FROM pg_constraint WHERE contype = 'x'",
    }
    with database.engine.connect() as connection:
        return sorted(connection.execute(text(wanted[connection.dialect.name])).scalars())


def test_up_makes_what_the_models_say_down_takes_it_away_and_up_makes_it_again(empty: Database) -> None:
    upgrade(empty.engine)
    tables, guards = set(inspect(empty.engine).get_table_names()), _guards(empty)
    assert set(metadata.tables) == tables - {"alembic_version"}
    assert len(guards) > 20
    downgrade(empty.engine)
    assert set(inspect(empty.engine).get_table_names()) <= {"alembic_version"}
    assert _guards(empty) == []
    upgrade(empty.engine)
    assert set(inspect(empty.engine).get_table_names()) == tables
    assert _guards(empty) == guards


def test_the_models_ask_for_nothing_that_the_migrations_do_not_make(empty: Database) -> None:
    upgrade(empty.engine)
    with empty.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        differences = compare_metadata(context, metadata)
    wanted = KEYS_BY_TRIGGER[empty.engine.dialect.name]
    assert {(what, each.name) for what, each in differences} == {("add_fk", name) for name in wanted}
    inspector = inspect(empty.engine)
    # Alembic compares no check constraints, so they are counted here by name.
    for name, table in metadata.tables.items():
        checks = {str(each.name) for each in table.constraints if each.__class__.__name__ == "CheckConstraint"}
        assert checks <= {each["name"] for each in inspector.get_check_constraints(name)}, name
    downgrade(empty.engine, revision="0012")
    keys = {key["name"]: key["options"]["ondelete"] for key in inspect(empty.engine).get_foreign_keys("reward_input")}
    assert keys == {"fk_reward_input_run_id": "RESTRICT", "fk_reward_input_charge_id": "RESTRICT"}


def test_migrating_what_is_migrated_changes_nothing(empty: Database) -> None:
    upgrade(empty.engine)
    before = current(empty.engine)
    upgrade(empty.engine)
    assert current(empty.engine) == before
    require_current(empty.engine)


def test_a_database_of_another_version_is_refused_with_the_command_that_mends_it(empty: Database) -> None:
    with pytest.raises(SchemaOutdated, match=r"at revision none.*openlab migrate"):
        require_current(empty.engine)
    upgrade(empty.engine, revision="0001")
    with pytest.raises(SchemaOutdated, match="at revision 0001"):
        require_current(empty.engine)


def test_a_migration_that_fails_half_way_leaves_the_database_as_it_was(empty: Database) -> None:
    upgrade(empty.engine, revision="0001")
    with empty.engine.begin() as connection:
        connection.execute(text("ALTER TABLE charge RENAME TO charge_in_the_way"))
    with pytest.raises(Exception, match="charge"):
        upgrade(empty.engine)
    assert current(empty.engine) == "0001"
    assert _guards(empty) == []


def test_the_series_file_goes_up_down_and_up_and_matches_its_tables(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'series.db'}")
    try:
        for _ in range(2):
            upgrade(engine, History.SERIES)
            require_current(engine, History.SERIES)
            with engine.connect() as connection:
                context = MigrationContext.configure(connection, opts={"compare_type": True})
                assert compare_metadata(context, series_metadata) == []
            downgrade(engine, History.SERIES)
            assert set(inspect(engine).get_table_names()) <= {"alembic_version"}
    finally:
        engine.dispose()
