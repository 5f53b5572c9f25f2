"""Charging a booking: once, with its evidence, in the right month, or not yet and why."""

import threading
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from api.charging import evidence, service
from api.charging.documents import charge_hash, rated_lines, read_input
from api.charging.rating import rate
from api.charging.service import Charged, charge_booking, recharge_booking, reverse_charge
from api.charging.tariffs import pinned_tariff, publish_tariff
from api.errors import Refused
from api.registry.papers import withdraw_certificate
from store.audit import check_audit_chain
from store.errors import AppendOnly, StoreError
from store.tables.audit import Anomaly
from store.tables.calendar import Booking, BookingState, Due, UsePurpose
from store.tables.charging import Charge, ChargeEvidence, ChargeLine
from tests.api.charging.building import FINANCE, FIRM, HOURLY_400, INSTRUMENT, MANAGER, MINUTE, STRANGER, County
from tests.support.usage import NINE
from wire.clock import from_ms, to_ms

DAY, DAY_MS = timedelta(days=1), 86_400_000


def rows(county: County, *what):
    with county.database.read() as session:
        return list(session.scalars(select(*what)))


def the_charge(county: County, charge_id: str) -> tuple[Charge, list[ChargeLine], list[ChargeEvidence]]:
    with county.database.read() as session:
        lines = list(session.scalars(select(ChargeLine).where(ChargeLine.charge_id == charge_id)))
        frozen = list(session.scalars(select(ChargeEvidence).where(ChargeEvidence.charge_id == charge_id)))
        return session.get_one(Charge, charge_id), lines, frozen


def test_eighty_minutes_of_use_cost_three_half_hours_and_stand_on_their_evidence(county):
    booking_id = county.book()
    session_id = county.use(booking_id, 80 + 40 / 60)
    outcome = county.charge(booking_id)
    assert outcome.result is Charged.POSTED
    charge, [line], frozen = the_charge(county, outcome.charge_id)
    assert (charge.total_fen, charge.net_fen, charge.metered_ms) == (60_000, 56_604, 80 * MINUTE + 40_000)
    assert (line.quantity, line.per_quantity, line.unit_fen) == (5_400, 3_600, 40_000)
    assert (charge.coverage_bp, charge.has_session, charge.certificate_valid, charge.internal) == (
        10_000,
        True,
        True,
        False,
    )
    assert (charge.service_month, charge.posting_month) == (202603, 202603)
    assert rows(county, Anomaly) == []
    by_kind = {row.kind: evidence.unpack(row) for row in frozen}
    samples = list(evidence.read_sample_lines(by_kind["samples"]))
    assert samples[0] == (NINE, 750_000 + NINE % 7, 2)
    assert len(samples) == 80 * 60 + 40
    kinds = [payload.decode().count(session_id) for *_, payload in evidence.read_record_lines(by_kind["records"])]
    assert kinds == [1, 1]


def test_a_charge_can_be_recomputed_from_what_is_stored(county):
    charge, lines, frozen = the_charge(county, county.charged(77))
    with county.database.read() as session:
        tariff = pinned_tariff(session, charge.tariff_id, charge.tariff_version)
    assert rate(read_input(charge.input, tariff.body), charge.calc_version).lines == rated_lines(lines)
    assert charge.row_hash == charge_hash(charge, lines, {row.kind: row.content_sha256 for row in frozen})


def test_a_booking_is_charged_once_however_often_it_is_tried(county):
    booking_id = county.book()
    county.use(booking_id, 30)
    first = county.charge(booking_id)
    assert county.charge(booking_id) == service.ChargeOutcome(Charged.ALREADY, first.charge_id)
    assert len(rows(county, Charge)) == 1


def test_two_workers_at_once_post_one_charge(county):
    booking_id = county.book()
    county.use(booking_id, 30)
    start = threading.Barrier(2)
    outcomes = []

    def work() -> None:
        start.wait()
        outcomes.append(county.charge(booking_id))

    workers = [threading.Thread(target=work) for _ in range(2)]
    for each in workers:
        each.start()
    for each in workers:
        each.join()
    assert sorted(outcome.result for outcome in outcomes) == [Charged.ALREADY, Charged.POSTED]
    assert len({outcome.charge_id for outcome in outcomes}) == 1
    assert len(rows(county, Charge)) == 1


@pytest.mark.parametrize("step", ["charge_hash", "store_charge", "pack", "_raise_anomalies"])
def test_a_death_between_two_steps_leaves_nothing_half(county, monkeypatch, step):
    booking_id = county.book()
    county.use(booking_id, 30, share=0.5)

    class Killed(BaseException):
        pass

    real = getattr(service, step)

    def dies(*args, **kwargs):
        real(*args, **kwargs)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(service, step, dies)
        with pytest.raises(Killed):
            county.charge(booking_id, now=county.now + DAY)
    for table in (Charge, ChargeLine, ChargeEvidence, Anomaly):
        assert rows(county, table) == []
    assert county.charge(booking_id, now=county.now + DAY).result is Charged.POSTED
    with county.database.read() as session:
        assert check_audit_chain(session, "host:h01") is None


def test_cutting_a_run_into_sessions_changes_nothing(county):
    whole, cut = county.book(), county.book(NINE + 4 * 60 * MINUTE)
    county.use(whole, 77)
    start = NINE + 4 * 60 * MINUTE
    for minutes in (29.99, 0.02, 46.99):
        county.use(cut, minutes, start, every_ms=500)
        start += round(minutes * MINUTE)
    charges = [the_charge(county, county.charge(each).charge_id)[0] for each in (whole, cut)]
    assert [charge.total_fen for charge in charges] == [60_000, 60_000]
    assert charges[0].metered_ms == charges[1].metered_ms


@pytest.mark.parametrize("state", [BookingState.CONFIRMED, BookingState.IN_USE, BookingState.NO_SHOW])
def test_a_booking_that_is_not_done_waits(county, state):
    booking_id = county.book(state=state)
    assert county.charge(booking_id) == service.ChargeOutcome(Charged.WAITS, reason="booking_not_done")


def test_a_charge_waits_for_samples_for_a_day_and_then_says_how_many_there_were(county):
    booking_id = county.book()
    county.use(booking_id, 60, share=0.5)
    end = from_ms(NINE + 60 * MINUTE)
    last_moment = end + DAY - timedelta(milliseconds=1)
    assert county.charge(booking_id, now=last_moment) == service.ChargeOutcome(Charged.WAITS, reason="samples_late")
    outcome = county.charge(booking_id, now=end + DAY)
    charge, _, _ = the_charge(county, outcome.charge_id)
    assert charge.coverage_bp == 5_000
    [anomaly] = rows(county, Anomaly)
    assert (anomaly.rule, anomaly.subject_id, anomaly.blocks_reward) == ("coverage_below_95", charge.charge_id, True)


@pytest.mark.parametrize(("share", "found"), [(0.95, []), (0.949, ["coverage_below_95"])])
def test_coverage_is_asked_about_below_ninety_five_per_cent(county, share, found):
    booking_id = county.book()
    county.use(booking_id, 100, share=share)
    county.charge(booking_id, now=county.now + DAY)
    assert [anomaly.rule for anomaly in rows(county, Anomaly)] == found


def test_a_session_nobody_has_matched_yet_is_waited_for(county):
    booking_id = county.book()
    session_id = county.use(booking_id, 30)
    with county.database.write() as session:
        session.add(Due(kind="match_session", subject_id=session_id, due_at=county.now, attempts=0, last_error=""))
    assert county.charge(booking_id, now=county.now + 9 * DAY).reason == "session_unmatched"


@pytest.mark.parametrize(("setup_fen", "found"), [(10_000, ["fee_without_session"]), (0, [])])
def test_a_fee_without_any_session_is_posted_and_flagged(county, setup_fen, found):
    prices = HOURLY_400.default.model_copy(update={"setup_fen": setup_fen})
    body = HOURLY_400.model_copy(update={"default": prices})
    county.do(publish_tariff, INSTRUMENT, body, from_ms(NINE - DAY_MS), "manager", "second")
    booking_id = county.book()
    county.sample(NINE, NINE + 130 * MINUTE, 10_000)
    charge, _, frozen = the_charge(county, county.charge(booking_id).charge_id)
    assert (charge.total_fen, charge.has_session, charge.coverage_bp) == (setup_fen, False, 0)
    assert [row.item_count for row in frozen] == [0, 0]
    assert [anomaly.rule for anomaly in rows(county, Anomaly)] == found


def test_use_after_the_certificate_ran_out_is_flagged(county):
    later = to_ms(datetime(2029, 3, 5, 1, 0, tzinfo=UTC))
    booking_id = county.book(later)
    county.use(booking_id, 30, later)
    outcome = county.charge(booking_id, now=from_ms(later) + DAY)
    assert the_charge(county, outcome.charge_id)[0].certificate_valid is False
    assert [anomaly.rule for anomaly in rows(county, Anomaly)] == ["certificate_expired"]


@pytest.mark.slow_on_postgresql
def test_a_certificate_that_was_withdrawn_covers_nothing(county):
    booking = county.book()
    county.use(booking, 60)
    county.do(withdraw_certificate, "cert-1", "of another instrument", who=MANAGER)
    outcome = county.charge(booking)
    assert the_charge(county, outcome.charge_id)[0].certificate_valid is False
    assert [anomaly.rule for anomaly in rows(county, Anomaly)] == ["certificate_expired"]


@pytest.mark.parametrize("purpose", [UsePurpose.INTERNAL, UsePurpose.MAINTENANCE])
def test_a_hosts_own_use_is_not_charged_and_its_booking_is_closed(county, purpose):
    booking_id = county.book(purpose=purpose, payer="org-h01")
    assert county.charge(booking_id).result is Charged.NO_CHARGE
    assert county.charge(booking_id).result is Charged.ALREADY
    assert rows(county, Charge) == []
    with county.database.read() as session:
        assert session.get_one(Booking, booking_id).state == "closed"


def test_a_customers_booking_by_the_hosts_own_organisation_is_marked_internal(county):
    booking_id = county.book(payer="org-h01")
    county.use(booking_id, 30)
    assert the_charge(county, county.charge(booking_id).charge_id)[0].internal is True


def test_use_that_ends_with_the_month_belongs_to_it(county):
    midnight = to_ms(datetime(2026, 3, 31, 16, 0, tzinfo=UTC))
    for shift_ms, month in ((0, 202603), (1000, 202604)):
        start = midnight - 30 * MINUTE + shift_ms
        booking_id = county.book(start)
        county.use(booking_id, 30, start)
        charge, _, _ = the_charge(county, county.charge(booking_id, now=from_ms(midnight) + DAY).charge_id)
        assert charge.service_month == month


def test_long_sessions_keep_one_sample_in_ten_seconds(county):
    booking_id = county.book(minutes=12 * 60)
    county.use(booking_id, 8 * 60 + 1, every_ms=1000)
    charge, _, frozen = the_charge(county, county.charge(booking_id).charge_id)
    [samples] = [row for row in frozen if row.kind == "samples"]
    assert samples.item_count == (8 * 60 + 1) * 6
    assert charge.coverage_bp == 10_000


def test_a_reversal_takes_back_every_line_and_nets_to_zero(county):
    charge_id = county.charged(77)
    reversal = county.do(reverse_charge, charge_id, "wrong party", who=MANAGER)
    charge, lines, _ = the_charge(county, charge_id)
    back, negative, _ = the_charge(county, reversal.charge_id)
    assert (back.total_fen, back.net_fen, back.revision) == (-charge.total_fen, -charge.net_fen, 2)
    assert [line.amount_fen for line in negative] == [-line.amount_fen for line in lines]
    assert (back.service_month, back.payer_org, back.input_sha256) == (charge.service_month, FIRM, charge.input_sha256)
    assert back.row_hash == charge_hash(back, negative, {})


def test_after_a_reversal_the_booking_is_charged_again_only_when_somebody_says_so(county):
    charge_id = county.charged(77)
    booking_id = the_charge(county, charge_id)[0].booking_id
    with pytest.raises(Refused) as live:
        county.do(recharge_booking, booking_id, county.series, "again", who=MANAGER)
    assert live.value.code == "charge_is_live"
    county.do(reverse_charge, charge_id, "wrong", who=MANAGER)
    assert county.charge(booking_id).reason == "reversed"
    outcome = county.do(recharge_booking, booking_id, county.series, "corrected", who=MANAGER, now=county.now + DAY)
    assert the_charge(county, outcome.charge_id)[0].revision == 3
    assert sum(charge.total_fen for charge in rows(county, Charge)) == 60_000


@pytest.mark.parametrize(
    ("who", "reason", "code"),
    [(STRANGER, "x", "forbidden"), (FINANCE, "x", "forbidden"), (MANAGER, " ", "reason_missing")],
)
def test_a_reversal_is_refused(county, who, reason, code):
    charge_id = county.charged()
    with pytest.raises(Refused) as caught:
        county.do(reverse_charge, charge_id, reason, who=who)
    assert caught.value.code == code


def test_a_charge_is_reversed_once(county):
    charge_id = county.charged()
    reversal = county.do(reverse_charge, charge_id, "wrong", who=MANAGER)
    for each in (charge_id, reversal.charge_id):
        with pytest.raises(Refused) as caught:
            county.do(reverse_charge, each, "wrong", who=MANAGER)
        assert caught.value.code == "not_a_live_charge"


@pytest.mark.parametrize(
    ("revision", "previous", "total"),
    [(1, None, 60_000), (2, 1, 60_000), (3, 2, 60_000), (3, 1, 60_000), (2, None, -1)],
)
def test_a_second_live_charge_is_impossible_in_plain_sql(county, revision, previous, total):
    charge, _, _ = the_charge(county, county.charged())
    same = {column.key: getattr(charge, column.key) for column in Charge.__mapper__.column_attrs}
    changed = {"charge_id": "second", "revision": revision, "prev_revision": previous, "total_fen": total}
    with pytest.raises((StoreError, IntegrityError)), county.database.write() as session:
        session.execute(Charge.__table__.insert(), same | changed | {"row_hash": "f" * 64, "reason": "x"})
    with county.database.read() as session:
        assert session.execute(select(func.count()).select_from(Charge)).scalar_one() == 1


@pytest.mark.parametrize("change", ["UPDATE charge SET total_fen = 1", "DELETE FROM charge_line", "DELETE FROM charge"])
def test_what_was_charged_cannot_be_edited(county, change):
    county.charged()
    with pytest.raises(AppendOnly), county.database.write() as session:
        session.connection().exec_driver_sql(change)


def test_a_finished_charge_cannot_grow(county):
    _, [line], _ = the_charge(county, county.charged())
    same = {column.key: getattr(line, column.key) for column in ChargeLine.__mapper__.column_attrs}
    for change in ({"line_no": 1, "item_code": "x"}, {"line_no": 2, "line_count": 2, "item_code": "x"}):
        with pytest.raises((StoreError, IntegrityError)), county.database.write() as session:
            session.execute(ChargeLine.__table__.insert(), same | change)


def test_damaged_evidence_is_noticed(county):
    _, _, frozen = the_charge(county, county.charged())
    row = frozen[0]
    row.content = row.content[:-3] + b"abc"
    with pytest.raises(ValueError, match="evidence"):
        evidence.unpack(row)


def test_an_unknown_booking_is_refused(county):
    with pytest.raises(Refused) as caught:
        county.do(charge_booking, "nowhere", county.series)
    assert caught.value.status == 404
