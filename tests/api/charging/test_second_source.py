"""Use that two boxes tell is charged once: the charge says what was held back, and everything still recomputes."""

from datetime import timedelta

from sqlalchemy import delete, select

from api.booking.matching_service import match_session
from api.booking.sources import SECOND_SOURCE
from api.charging.anomalies import decide_anomaly
from api.charging.commands import _tree
from api.charging.corrections import Proposal, decide_correction, propose_correction
from api.charging.explain import explain_charge
from api.charging.schemas import ExplanationAnswer
from api.registry.usage_figures import used_this_year
from api.usage.service import show_sessions
from api.verify.checks import all_checks, verify
from store.ledger import commit_usage
from store.tables.audit import Anomaly, Verdict
from store.tables.calendar import Booking, BookingUse, CalendarKind, CalendarRow, Due, DueKind
from store.tables.charging import Charge
from store.tables.disputes import CorrectionKind
from store.tables.usage import UsageSession
from tests.api.charging.building import CUSTOMER, INSTRUMENT, MANAGER, MINUTE, OFFICER, SECOND, County
from tests.support.usage import NINE, StreamWriter
from wire.clock import from_ms


def also_told(county: County) -> str:
    """A second box under the same name tells the first half hour of the use as well; return its session."""
    writer = StreamWriter(INSTRUMENT, boot="boot-2")
    name = writer.run(30, standby_s=0)
    with county.database.write() as session:
        commit_usage(session, writer.arrivals(), writer.now_ms + MINUTE, "gateway:test")
    match(county, name)
    return name


def book(county: County) -> str:
    """A booking that holds its slot, as matching asks for."""
    booking_id = county.book()
    with county.database.write() as session:
        booking = session.get_one(Booking, booking_id)
        row = CalendarRow(
            row_id=booking_id,
            instrument_id=INSTRUMENT,
            kind=CalendarKind.BOOKING.value,
            from_at=booking.slot_from,
            to_at=booking.slot_to,
            active=True,
            note="",
            created_by="customer",
            created_at=booking.created_at,
        )
        session.add(row)
        session.flush()
        booking.calendar_row_id = row.row_id
    return booking_id


def match(county: County, name: str) -> None:
    with county.database.write() as session:
        match_session(county.work(session), name)
        session.execute(delete(Due).where(Due.kind == DueKind.MATCH_SESSION.value, Due.subject_id == name))


def live(county: County, booking_id: str) -> Charge:
    with county.database.read() as session:
        return session.scalars(
            select(Charge).where(Charge.booking_id == booking_id).order_by(Charge.revision.desc()).limit(1)
        ).one()


def wrong(county: County) -> list[str]:
    with county.database.read() as session:
        return [str(one.finding) for one in verify(session, all_checks()) if one.finding is not None]


def test_it_is_charged_once_explained_and_can_be_put_in_the_place_of_what_was_charged(county: County) -> None:
    booking_id = book(county)
    first = county.use(booking_id, 60, every_ms=5_000)
    second = also_told(county)
    county.now = from_ms(NINE) + timedelta(days=2)
    charged = county.charge(booking_id)
    assert charged.charge_id is not None
    assert (live(county, booking_id).metered_ms, wrong(county)) == (60 * MINUTE, [])

    with county.database.read() as session:
        found = explain_charge(county.work(session, CUSTOMER), charged.charge_id)
        [other] = ExplanationAnswer.of(found).second_sources
        assert (other.session_id, other.verdict, first in other.detail) == (second, "", True)
        assert any("not billed until an officer decides" in line for line in _tree(found))
        figures = used_this_year(county.work(session, CUSTOMER), INSTRUMENT)
        assert (figures.running_ms, figures.sessions) == (60 * MINUTE, 1)
        rows = session.scalars(select(UsageSession).where(UsageSession.session_id == second)).all()
        [shown] = show_sessions(county.work(session, MANAGER), rows)
        assert (SECOND_SOURCE in shown.flags, shown.booking_ids) == (True, [])

    # The officer finds that the second box was the right one: two people take the first one's time back.
    nothing = Proposal(CorrectionKind.METERED, "the wrong cable", "log book", session_id=first, metered_ms=0)
    proposed = county.do(propose_correction, charged.charge_id, nothing, who=MANAGER)
    county.do(decide_correction, proposed.correction_id, True, "seen", proposed.body_sha256, county.series, who=SECOND)
    with county.database.read() as session:
        [anomaly] = session.scalars(select(Anomaly.anomaly_id).where(Anomaly.rule == SECOND_SOURCE)).all()
    county.do(decide_anomaly, anomaly, Verdict.CLEARED, "this one was there", who=OFFICER)
    match(county, second)
    county.now += timedelta(days=1)
    county.charge(booking_id)
    assert live(county, booking_id).metered_ms == 30 * MINUTE
    with county.database.read() as session:
        assert set(session.scalars(select(BookingUse.session_id))) == {first, second}
    assert wrong(county) == []
