"""Limits on guessing hold over several processes, expire by real time, and cost little."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import event, func, select

from api.errors import Refused
from api.limiting import Limiter
from api.parts import open_limiter
from api.settings import Settings
from store.database import Database
from store.tables.accounts import AttemptCount
from tests.support.databases import opened
from wire.clock import ManualClock, SystemClock

MINUTE = 60_000


@pytest.fixture
def real() -> ManualClock:
    return ManualClock(SystemClock().now_ms())


def limiter(database: Database, real: ManualClock, **limits: str) -> Limiter:
    return open_limiter(Settings(**({"login_limit": "1000/minute"} | limits)), database, real)


def tried(one: Limiter, login: str = "kim", address: str = "10.0.0.1") -> str:
    try:
        one.count_attempt(address, login)
    except Refused as refused:
        return refused.code
    return "ok"


def test_five_guesses_are_let_through_however_many_processes_there_are(database_url: str, real: ManualClock) -> None:
    with opened(database_url) as one, opened(database_url) as two:
        hands = [limiter(one, real), limiter(two, real)]
        with ThreadPoolExecutor(6) as pool:
            said = list(pool.map(lambda number: tried(hands[number % 2]), range(12)))
    assert sorted(said) == ["login_locked"] * 7 + ["ok"] * 5


def test_of_a_limit_of_writes_each_of_several_workers_lets_its_part_through(
    sqlite_database: Database, real: ManualClock
) -> None:
    given = Settings(write_limit="5/minute", workers=2)
    one = open_limiter(given, sqlite_database, real)
    for _ in range(3):
        one.count_write("p-a")
    with pytest.raises(Refused):
        one.count_write("p-a")


def test_a_lock_lasts_a_whole_window_from_the_last_guess_and_then_ends(
    sqlite_database: Database, real: ManualClock
) -> None:
    one = limiter(sqlite_database, real)
    for _ in range(5):
        assert tried(one) == "ok"
        real.advance(MINUTE)
    assert tried(one) == "login_locked"
    assert tried(one, "somebody-else") == "ok"
    real.advance(14 * MINUTE - 1)
    assert tried(one) == "login_locked"
    real.advance(2)
    assert [tried(one) for _ in range(6)] == ["ok"] * 5 + ["login_locked"]


def test_a_success_forgives_the_name_but_not_the_address(sqlite_database: Database, real: ManualClock) -> None:
    one = limiter(sqlite_database, real, login_limit="7/minute")
    assert [tried(one) for _ in range(5)] == ["ok"] * 5
    with sqlite_database.write() as session:
        one.forgive(session, "kim")
    assert [tried(one) for _ in range(3)] == ["ok", "ok", "too_many_requests"]
    assert tried(one, address="10.0.0.2") == "ok"
    with sqlite_database.read() as session:
        held = session.scalar(select(AttemptCount.count).where(AttemptCount.kind == "login"))
    assert held == 3, "an address that is held back does not lock names"


def test_what_is_refused_says_how_long_to_wait(sqlite_database: Database, real: ManualClock) -> None:
    one = limiter(sqlite_database, real, registration_limit="1/hour")
    one.count_registration("10.0.0.1")
    with pytest.raises(Refused) as refused:
        one.count_registration("10.0.0.1")
    assert (refused.value.status, refused.value.facts["retry_after_s"]) == (429, 3601)


def test_one_row_a_name_and_an_address_is_all_that_is_kept(sqlite_database: Database, real: ManualClock) -> None:
    one = limiter(sqlite_database, real)
    for _ in range(50):
        tried(one)
    with sqlite_database.read() as session:
        assert session.scalar(select(func.count()).select_from(AttemptCount)) == 2


def test_an_attempt_costs_one_transaction_of_two_statements(database: Database, real: ManualClock) -> None:
    one = limiter(database, real)
    said: list[str] = []

    def note(connection, cursor, statement: str, *rest: object) -> None:
        if not statement.startswith("BEGIN"):
            said.append(statement.split()[0])

    event.listen(database.engine, "before_cursor_execute", note)
    assert tried(one) == "ok"
    event.remove(database.engine, "before_cursor_execute", note)
    assert said == ["INSERT", "INSERT"]
