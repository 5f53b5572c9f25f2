"""Holes in the use of a booking: bridged by rule, flagged, explained and verified; the others wait for two people."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import delete, select
from sqlalchemy.orm import make_transient

from api.charging import header, service, use
from api.charging.bridged import BRIDGED_BY, LeftHole, bridge
from api.charging.commands import _tree
from api.charging.corrections import Proposal, decide_correction, find_correction, propose_correction
from api.charging.documents import input_document, read_input
from api.charging.evidence import UseSpan
from api.charging.explain import explain_charge
from api.charging.flags import ChargeFacts, findings
from api.charging.rating import CURRENT_CALC_VERSION, RatingInput, Unpriceable, rate
from api.charging.rating_types import Bridged
from api.charging.schemas import ChargeAnswer, ExplanationAnswer
from api.charging.sentences_holes import explain_hole
from api.charging.tariff_body import UserCategory, parse_body
from api.charging.tariffs import publish_tariff
from api.verify import charges as verify_charges
from api.verify.checks import chain_checks, charge_checks, verify
from store.ledger import commit_usage
from store.ledger.bridging import COSTS_NOTHING, WHY_NOT
from store.tables.audit import Anomaly
from store.tables.calendar import BookingMode, BookingUse, Due
from store.tables.charging import Charge, ChargeEvidence, ChargeLine
from store.tables.disputes import CorrectionKind
from store.tables.usage import UsageSession
from tests.api.charging.building import CUSTOMER, HOURLY_400, INSTRUMENT, MANAGER, MINUTE, OFFICER, SECOND, County
from tests.support.usage import NINE, StreamWriter
from wire.clock import from_ms
from wire.messages import PowerState

RUNNING = PowerState.RUNNING


def fitting(seconds: float) -> dict[str, Any]:
    """The fields of a gap record of an instrument that drew its 2 kW in the hole."""
    detail = {
        "before": "running", "after": "running", "energy_mwh": round(seconds * 2_000 / 3.6), "step_mwh": 10,
        "level_mw": 2_000_000, "level_ms": 300_000, "stop_mw": 500_000, "dwell_ms": 60_000,
    }  # fmt: skip
    return {"detail": detail, "energy_wh": 1.0, "energy_q": "ok"}


def run_with(*holes_s: float, minutes: float = 30) -> StreamWriter:
    """A run of some minutes, a hole that fits, some minutes, and so on."""
    writer = StreamWriter(INSTRUMENT)
    writer.open(0)
    for seconds in holes_s:
        writer.tick(RUNNING, minutes * 60)
        writer.gap(seconds, **fitting(seconds))
    writer.close(minutes * 60)
    return writer


def used(county: County, writer: StreamWriter, *booking_ids: str, cuts_ms: tuple[int, ...] = ()) -> str:
    """Commit a run and give it to the bookings, divided at the cuts as matching divides it."""
    name = writer.records[0].session
    assert name is not None
    with county.database.write() as session:
        commit_usage(session, writer.arrivals(), writer.now_ms + MINUTE, "gateway:test")
        session.execute(delete(Due).where(Due.subject_id == name))
        row = session.get_one(UsageSession, name)
        edges = [NINE, *cuts_ms, writer.now_ms]
        for booking_id, start, end in zip(booking_ids, edges, edges[1:], strict=False):
            unknown = sum(
                max(0, min(end, NINE + r.to_ms - 1_000) - max(start, NINE + r.from_ms - 1_000))
                for r in writer.records
                if r.kind == "gap"
            )
            session.add(
                BookingUse(
                    session_id=name,
                    booking_id=booking_id,
                    from_at=from_ms(start),
                    to_at=from_ms(end),
                    running_ms=end - start - unknown,
                    unknown_ms=unknown,
                    matched_at=row.ended_at,
                )
            )
    return name


def charged(county: County, writer: StreamWriter, *, sampled: bool = False) -> str:
    """A booking with this use, charged; return the charge's id. `sampled`: wherever the agent was there."""
    booking_id = county.book()
    used(county, writer, booking_id)
    for record in writer.records:
        if sampled and record.state is RUNNING and record.to_ms > record.from_ms:
            county.sample(NINE + record.from_ms - 1_000, NINE + record.to_ms - 1_000)
    outcome = county.charge(booking_id, now=county.now + timedelta(days=2))
    assert outcome.charge_id is not None, outcome
    return outcome.charge_id


def wrong(county: County) -> list[str]:
    with county.database.read() as session:
        outcomes = list(verify(session, [*chain_checks(), *charge_checks()]))
    return [f"{outcome.name}: {outcome.finding}" for outcome in outcomes if outcome.finding is not None]


def the(county: County, charge_id: str) -> Charge:
    with county.database.read() as session:
        return session.get_one(Charge, charge_id)


def found(county: County, rule: str) -> list[Anomaly]:
    with county.database.read() as session:
        return list(session.scalars(select(Anomaly).where(Anomaly.rule == rule)))


def test_a_hole_that_fits_is_billed_flagged_explained_and_verified(county: County) -> None:
    charge_id = charged(county, run_with(600, 4))
    charge = the(county, charge_id)
    assert (charge.metered_ms, charge.bridged_ms, charge.calc_version) == (90 * MINUTE + 604_000, 604_000, "4")
    assert ChargeAnswer.model_validate(charge).bridged_ms == 604_000
    # 100 min 4 s, by the half hour: the holes alone make the fourth half hour begin.
    assert charge.total_fen == 80_000
    with county.database.read() as session:
        told = explain_charge(county.work(session, CUSTOMER), charge_id)
    assert [(hole.billed_ms, hole.why_not) for hole in told.holes] == [(600_000, ""), (4_000, "")]
    assert told.holes[0].record.endswith("/3")
    assert "600 秒" in told.holes[0].zh
    assert "counts as use by rule" in told.holes[0].en
    [line] = [line for line in _tree(told) if told.holes[0].record in line]
    assert "按规则计入使用" in line
    answered = ExplanationAnswer.of(told).model_dump(mode="json")
    assert [hole["billed_ms"] for hole in answered["holes"]] == [600_000, 4_000]
    assert wrong(county) == []
    assert found(county, "hole_not_bridged") == []
    # The odometers are what the agent said.
    with county.database.read() as session:
        [row] = session.scalars(select(UsageSession))
        assert row.odo_running_last_ms - row.odo_running_first_ms == 90 * MINUTE
        assert row.odo_unknown_last_ms - row.odo_unknown_first_ms == 604_000


@pytest.mark.slow_on_postgresql
def test_many_bridged_holes_still_lack_samples_and_the_charge_waits_for_somebody_to_look(county: County) -> None:
    charge = the(county, charged(county, run_with(*[60] * 3, minutes=5), sampled=True))
    assert charge.bridged_ms == 180_000
    assert charge.coverage_bp < 9_500
    [anomaly] = found(county, "coverage_below_95")
    assert anomaly.blocks_reward


def test_a_longer_hole_is_not_billed_until_two_people_say_so_and_the_customer_sees_it(county: County) -> None:
    charge_id = charged(county, run_with(600.001, 4))
    charge = the(county, charge_id)
    assert (charge.metered_ms, charge.bridged_ms) == (90 * MINUTE + 4_000, 4_000)
    [anomaly] = found(county, "hole_not_bridged")
    assert not anomaly.blocks_reward
    [hole] = [hole for hole in explained(county, charge_id) if hole.billed_ms == 0]
    assert (hole.why_not, hole.record in anomaly.detail, "too_long" in anomaly.detail) == ("too_long", True, True)
    assert "计量更正" in hole.zh
    assert "metered correction" in hole.en

    with_hole = 90 * MINUTE + 604_001
    proposal = Proposal(CorrectionKind.METERED, "停电期间仪器由备用电源供电", "设备日志", session_id=hole.session_id,
                        metered_ms=with_hole)  # fmt: skip
    correction = county.do(propose_correction, charge_id, proposal, who=MANAGER)
    assert the(county, charge_id).total_fen == charge.total_fen, "until somebody else approves, it is not billed"
    with county.database.read() as session:
        seen = find_correction(county.work(session, CUSTOMER), correction.correction_id)
        assert (seen.session_id, seen.metered_before_ms, seen.metered_after_ms) == (
            hole.session_id, 90 * MINUTE, with_hole,
        )  # fmt: skip
    county.do(
        decide_correction, correction.correction_id, True, "已核对", correction.body_sha256, county.series,
        who=SECOND, now=county.now + timedelta(days=3),
    )  # fmt: skip
    live = the_live(county)
    assert (live.revision, live.metered_ms, live.bridged_ms) == (3, with_hole, 0), "people spoke: no rule beside them"
    assert [hole.why_not for hole in explained(county, live.charge_id)] == ["decided", "decided"]
    assert wrong(county) == []
    assert [one.subject_id for one in found(county, "hole_not_bridged")] == [charge_id], "nobody asks again"


@pytest.mark.slow_on_postgresql
def test_a_customer_who_objects_to_a_bridged_hole_can_be_given_what_the_meter_saw(county: County) -> None:
    charge_id = charged(county, run_with(500))
    [hole] = explained(county, charge_id)
    proposal = Proposal(CorrectionKind.METERED, "停机检修", "记录", session_id=hole.session_id, metered_ms=60 * MINUTE)
    correction = county.do(propose_correction, charge_id, proposal, who=MANAGER)
    county.do(
        decide_correction, correction.correction_id, True, "同意", correction.body_sha256, county.series,
        who=SECOND, now=county.now + timedelta(days=3),
    )  # fmt: skip
    live = the_live(county)
    assert (live.metered_ms, live.bridged_ms, live.total_fen) == (60 * MINUTE, 0, 40_000)
    assert wrong(county) == []


@pytest.mark.slow_on_postgresql
def test_a_hole_too_short_to_look_at_is_only_explained(county: County) -> None:
    writer = run_with(20)
    writer.records[2] = writer.records[2].model_copy(update={"detail": {"before": "running", "after": "running"}})
    charge_id = charged(county, writer)
    [hole] = explained(county, charge_id)
    assert (hole.billed_ms, hole.why_not) == (0, "no_energy")
    assert found(county, "hole_not_bridged") == []
    assert the(county, charge_id).bridged_ms == 0


@pytest.mark.slow_on_postgresql
def test_a_hole_over_a_change_of_hands_costs_each_what_lies_in_its_part(county: County) -> None:
    first, second = county.book(), county.book(NINE + 120 * MINUTE)
    cut = NINE + 30 * MINUTE + 100_000
    used(county, run_with(300), first, second, cuts_ms=(cut,))
    ids = [county.charge(each, now=county.now + timedelta(days=2)).charge_id for each in (first, second)]
    charges = [the(county, str(each)) for each in ids]
    assert [(charge.metered_ms, charge.bridged_ms) for charge in charges] == [
        (30 * MINUTE + 100_000, 100_000), (30 * MINUTE + 200_000, 200_000),
    ]  # fmt: skip
    assert wrong(county) == []


@pytest.mark.slow_on_postgresql
def test_a_charge_posted_before_the_rule_verifies_as_it_was(county: County, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as before:
        for module in (service, header, use):
            before.setattr(module, "CURRENT_CALC_VERSION", "3")
        charge_id = charged(county, run_with(300))
    charge = the(county, charge_id)
    assert (charge.calc_version, charge.metered_ms, charge.bridged_ms) == ("3", 60 * MINUTE, 0)
    assert "bridged" not in json.loads(charge.input)
    assert explained(county, charge_id) == ()
    assert wrong(county) == []


@pytest.mark.slow_on_postgresql
def test_a_charge_that_bridges_otherwise_than_its_records_allow_is_found(county: County) -> None:
    charge_id = charged(county, run_with(300))
    with county.database.read() as session:
        charge = session.get_one(Charge, charge_id)
        evidence = list(session.scalars(select(ChargeEvidence).where(ChargeEvidence.charge_id == charge_id)))
        lines = list(session.scalars(select(ChargeLine).where(ChargeLine.charge_id == charge_id)))
        whole = verify_charges.Whole(charge, lines, evidence)
        assert verify_charges.evidence(session, whole) is None
        make_transient(charge)
        said = json.loads(charge.input)
        [hole] = said["bridged"]
        for other in ([], [[*hole[:4], 299_999]], [[hole[0], "a/b/1", *hole[2:]]], [hole, hole]):
            charge.input = json.dumps(said | {"bridged": other})
            told = verify_charges.evidence(session, whole)
            assert told is not None
            assert "holes were bridged" in told


@pytest.mark.slow_on_postgresql
def test_a_hole_costs_the_band_it_lies_in(county: County) -> None:
    late = {"code": "late", "starts": "09:32", "ends": "24:00", "unit_fen": 10_000}
    price = {"per": "hour", "unit_fen": 40_000, "step_s": 1, "bands": [late]}
    body = parse_body({"schema": "openlab.tariff/2", "default": {"time": price}})
    county.do(publish_tariff, INSTRUMENT, body, from_ms(NINE - 60 * MINUTE), "manager", "second")
    charge_id = charged(county, run_with(300))
    with county.database.read() as session:
        lines = session.scalars(select(ChargeLine).where(ChargeLine.charge_id == charge_id))
        billed = {line.item_code: line.quantity for line in lines}
    # Half an hour and two minutes of the hole before 9:32; three minutes of it and half an hour behind.
    assert billed == {"hour": 32 * 60, "hour@late": 33 * 60}
    assert wrong(county) == []


def test_what_is_bridged_is_part_of_the_document_and_older_calculations_refuse_it() -> None:
    hole = Bridged("s.1", "a/b/3", 1_000, 61_000, 60_000)
    given = RatingInput(HOURLY_400, UserCategory.SME, BookingMode.SELF_OPERATED, 0, 3_600_000, 0, None, bridged=(hole,))
    document = input_document(given)
    assert json.loads(document)["schema"] == "openlab.rating_input/4"
    assert read_input(document, HOURLY_400) == given
    assert rate(given).total_fen == rate(given, "4").total_fen == 40_000
    for older in ("1", "2", "3"):
        with pytest.raises(Unpriceable):
            rate(given, older)
        assert older not in BRIDGED_BY
    with pytest.raises(ValueError, match="more was bridged"):
        RatingInput(HOURLY_400, UserCategory.SME, BookingMode.SELF_OPERATED, 0, 59_999, 0, bridged=(hole,))
    with pytest.raises(ValueError, match="more than its hole"):
        Bridged("s.1", "a/b/3", 1_000, 61_000, 60_001)


def test_every_reason_has_a_sentence_and_the_current_calculation_a_rule() -> None:
    for why_not in ("", "decided", *(set(WHY_NOT) - {COSTS_NOTHING})):
        said = explain_hole(60, why_not)
        assert "60" in said.zh
        assert "60" in said.en
    assert CURRENT_CALC_VERSION in BRIDGED_BY


def test_a_gap_record_of_another_session_in_the_same_place_bridges_nothing() -> None:
    writer = run_with(300)
    [gap] = [record for record in writer.records if record.kind == "gap"]
    name = gap.session or ""
    span = UseSpan(name, NINE, writer.now_ms, 1_000, 300_000)
    line = ("a", "b", gap.seq, gap.model_dump_json(by_alias=True).encode())
    assert bridge([span], [line], "4").bridged_ms == 300_000
    other = gap.model_copy(update={"session": f"{name}9"})
    assert bridge([span], [(*line[:3], other.model_dump_json(by_alias=True).encode())], "4").bridged == ()
    assert bridge([UseSpan(name, NINE, writer.now_ms, 1_000, 0)], [line], "4").bridged == ()


def explained(county: County, charge_id: str):  # type: ignore[no-untyped-def]
    with county.database.read() as session:
        return explain_charge(county.work(session, OFFICER), charge_id).holes


def the_live(county: County) -> Charge:
    with county.database.read() as session:
        return session.scalars(select(Charge).order_by(Charge.revision.desc())).first()  # type: ignore[return-value]


def test_holes_are_told_from_a_minute_on_by_name_and_not_without_end() -> None:
    facts = ChargeFacts(1, 1, None, 1, True, 10_000, True, 0, 1, None)
    hole = LeftHole("s.1", "a/b/3", NINE, NINE + 30_000, "energy_below")
    assert findings(replace(facts, holes_left=(hole,))) == ()
    assert findings(replace(facts, holes_left=(replace(hole, why_not="decided"),) * 30)) == ()
    [told] = findings(replace(facts, holes_left=(hole,) * 25))
    assert (told.rule, told.blocks_reward) == ("hole_not_bridged", False)
    named = "a/b/3: 30 s not billed, 2026-03-02 09:00:00 to 2026-03-02 09:00:30 (energy_below), session s.1"
    assert told.detail == "; ".join([named] * 20) + "; 5 more"
