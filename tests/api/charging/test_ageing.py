"""Who owes what for how long: by charge, from the day its statement became final, to the day."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.charging.ageing import BUCKETS, ageing, bucket_of
from api.charging.payments import record_payment
from api.charging.reversal import reverse_charge
from api.charging.statements import finalize_statement, prepare_statement
from store.tables.charging import Statement, Tender
from tests.api.charging.building import (
    CUSTOMER,
    FIRM,
    HOST,
    MANAGER,
    MINUTE,
    OFFICER,
    OTHER_FIRM,
    RIVAL,
    STRANGER,
    County,
)
from tests.support.usage import LONG_AGO, NINE

MONTH = 202603
DAY = timedelta(days=1)


def bill(county: County, payer: str = FIRM) -> Statement:
    draft = county.do(prepare_statement, HOST, payer, MONTH, who=MANAGER)
    final: Statement = county.do(finalize_statement, draft.statement_id, who=MANAGER)
    return final


def owed(county: County, days: float = 0, who=OFFICER) -> dict[str, list[int]]:
    with county.database.read() as session:
        rows = ageing(county.work(session, who), as_of=county.now + days * DAY)
        return {row.payer_org: [*row.buckets.values(), row.credit_fen] for row in rows}


@pytest.mark.parametrize(
    ("days", "bucket"),
    [(0, "0-30"), (30, "0-30"), (31, "31-60"), (60, "31-60"), (61, "61-90"), (90, "61-90"), (91, "90+"), (999, "90+")],
)
def test_a_bucket_ends_with_its_last_full_day(days, bucket):
    assert bucket_of(LONG_AGO, LONG_AGO + days * DAY) == bucket
    assert bucket_of(LONG_AGO, LONG_AGO + (days + 1) * DAY - timedelta(milliseconds=1)) == bucket


@given(st.integers(0, 10**12), st.integers(0, 10**11))
def test_nothing_gets_younger(first, more):
    early, late = (LONG_AGO + timedelta(milliseconds=ms) for ms in (first, first + more))
    assert BUCKETS.index(bucket_of(LONG_AGO, early)) <= BUCKETS.index(bucket_of(LONG_AGO, late))


def test_open_amounts_stand_in_the_bucket_of_their_age(county):
    county.charged(80)
    county.charged(20, NINE + 240 * MINUTE, OTHER_FIRM)
    statement = bill(county)
    bill(county, OTHER_FIRM)
    step = (record_payment, statement.statement_id, Tender.CASH, 10_000, "bank-1", county.now)
    county.do(*step, who=MANAGER)
    assert owed(county) == {FIRM: [50_000, 0, 0, 0, 0], OTHER_FIRM: [20_000, 0, 0, 0, 0]}
    assert owed(county, 45)[FIRM] == [0, 50_000, 0, 0, 0]
    assert owed(county, 91)[FIRM] == [0, 0, 0, 50_000, 0]


def test_drafts_are_not_owed_and_credit_stands_beside(county):
    charge_id = county.charged(80)
    county.do(prepare_statement, HOST, FIRM, MONTH, who=MANAGER)
    assert owed(county) == {}
    statement = bill(county)
    step = (record_payment, statement.statement_id, Tender.CASH, 60_000, "bank-1", county.now)
    county.do(*step, who=MANAGER)
    assert owed(county) == {}
    county.do(reverse_charge, charge_id, "wrong", who=MANAGER)
    assert owed(county) == {FIRM: [0, 0, 0, 0, 60_000]}


def test_everybody_sees_their_own_debts_and_nobody_elses(county):
    charge_id = county.charged(80)
    bill(county)
    for who in (OFFICER, MANAGER, CUSTOMER):
        assert list(owed(county, who=who)) == [FIRM], who
    assert owed(county, who=RIVAL) == {}
    assert owed(county, who=STRANGER) == {}
    assert charge_id
