"""Use that nobody booked: the manager's question, the firm's word, and nothing billed before it."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import delete

from api.booking import unbooked
from api.booking.matching_service import match_session
from api.charging.service import Charged, charge_booking
from api.errors import Refused
from api.verify.invariants import finished_use_is_priced
from api.verify.usage import booking_use
from store.series import SeriesStore
from store.tables.audit import AnomalyDecision
from store.tables.booking_rules import UseClaim
from store.tables.calendar import Booking, BookingState, BookingUse, Due, DueKind, UnbookedUse, UsePurpose
from store.tables.charging import Charge
from tests.support.builders_booking import FIRM_A, FIRM_B, MANAGER, OFFICER, OTHER_MANAGER, WORKER, Office
from tests.support.usage import StreamWriter
from wire.clock import to_ms
from wire.messages import PowerState


def use(office: Office, minutes: float = 40) -> UnbookedUse:
    """Let the instrument run without a booking; return what the matching kept of it."""
    writer = StreamWriter(office.instrument, start_ms=to_ms(office.now))
    writer.tick(PowerState.STANDBY, 3600)
    name = writer.run(minutes, standby_s=0)
    writer.tick(PowerState.STANDBY, 3600)
    office.advance(timedelta(hours=3))
    office.record(writer)
    with office.work(WORKER) as work:
        match_session(work, name)
        work.session.execute(delete(Due).where(Due.kind == DueKind.MATCH_SESSION.value))
    (found,) = office.all_of(UnbookedUse)
    return found


def classify(office: Office, found: UnbookedUse, purpose: UsePurpose, actor: Any = MANAGER, note: str = "tests") -> Any:
    with office.work(actor) as work:
        return unbooked.classify(work, found.session_id, found.from_at, purpose, note)


def claim(office: Office, found: UnbookedUse, payer: str = "org-a", actor: Any = MANAGER) -> UseClaim:
    with office.work(actor) as work:
        return unbooked.claim_for(work, found.session_id, found.from_at, payer, "saw them there")


def confirm(office: Office, made: UseClaim, actor: Any = FIRM_A, sha256: str | None = None, version: int = 1) -> Any:
    with office.work(actor) as work:
        return unbooked.confirm(work, made.claim_id, version, made.quote_sha256 if sha256 is None else sha256)


def refusal(call: Any, *given: Any, **named: Any) -> Refused:
    with pytest.raises(Refused) as told:
        call(*given, **named)
    return told.value


def open_ones(office: Office) -> int:
    with office.database.read() as session:
        return len(session.scalars(unbooked.open_uses(["h01"])).all())


def findings(office: Office) -> list[Any]:
    with office.database.read() as session:
        return [*finished_use_is_priced(session), *booking_use(session)]


@pytest.mark.parametrize("purpose", [UsePurpose.INTERNAL, UsePurpose.MAINTENANCE])
def test_the_managers_word_settles_own_use_and_answers_the_anomaly(sqlite_office: Office, purpose: UsePurpose) -> None:
    found = use(sqlite_office)
    assert open_ones(sqlite_office) == 1
    done = classify(sqlite_office, found, purpose)
    assert (done.purpose, done.classified_by) == (purpose, "p-m")
    assert open_ones(sqlite_office) == 0
    (decided,) = sqlite_office.all_of(AnomalyDecision)
    assert (decided.verdict, decided.note) == ("cleared", "classified: tests")
    assert sqlite_office.all_of(Booking) == []
    assert refusal(classify, sqlite_office, found, purpose).code == "classified_already"


def test_what_cannot_be_classified_is_told(sqlite_office: Office) -> None:
    found = use(sqlite_office)
    internal = UsePurpose.INTERNAL
    assert refusal(classify, sqlite_office, found, UsePurpose.CUSTOMER).code == "claim_it"
    assert refusal(classify, sqlite_office, found, internal, OTHER_MANAGER).status == 403
    assert refusal(classify, sqlite_office, found, internal, OFFICER).status == 403
    assert refusal(classify, sqlite_office, found, internal, note=" ").code == "reason_required"
    assert refusal(claim, sqlite_office, found, "org-h01").code == "payer_is_host"
    assert refusal(claim, sqlite_office, found, "nobody").status == 404
    claim(sqlite_office, found)
    assert refusal(claim, sqlite_office, found).code == "claim_open"
    assert refusal(classify, sqlite_office, found, internal).code == "claim_open"


def test_a_firms_use_is_billed_once_the_firm_confirms_and_not_before(office: Office, api_series: SeriesStore) -> None:
    found = use(office)
    made = claim(office, found)
    # 40 minutes are an hour by half hours, and the set-up.
    assert (made.total_fen, made.payer_org, made.tariff_version) == (45_000, "org-a", 1)
    assert office.all_of(Booking) == []
    assert office.all_of(Due) == []
    assert refusal(confirm, office, made, FIRM_B).status == 404
    assert refusal(confirm, office, made, MANAGER).status == 403
    assert refusal(confirm, office, made, sha256="").code == "price_not_agreed"
    assert refusal(confirm, office, made, version=2).status == 412
    answered, booking = confirm(office, made)
    assert (answered.state, answered.booking_id) == ("confirmed", booking.booking_id)
    stored = office.booking(booking.booking_id)
    assert (stored.state, stored.payer_org, stored.slot_from) == (BookingState.COMPLETED, "org-a", found.from_at)
    (part,) = office.all_of(BookingUse)
    assert (part.booking_id, part.running_ms) == (booking.booking_id, found.running_ms)
    assert [(due.kind, due.subject_id) for due in office.all_of(Due)] == [(DueKind.CHARGE_BOOKING, booking.booking_id)]
    assert open_ones(office) == 0
    assert len(office.all_of(AnomalyDecision)) == 1
    assert findings(office) == []
    office.advance(timedelta(hours=30))
    with office.work(WORKER) as work:
        assert charge_booking(work, booking.booking_id, api_series).result is Charged.POSTED
    (charge,) = office.all_of(Charge)
    assert (charge.total_fen, charge.metered_ms, charge.payer_org) == (45_000, found.running_ms, "org-a")
    assert refusal(confirm, office, made, version=2).code == "answered_already"
    assert findings(office) == []


def test_a_refused_claim_is_the_managers_question_again(sqlite_office: Office) -> None:
    found = use(sqlite_office)
    made = claim(sqlite_office, found)

    def refuse(reason: str) -> UseClaim:
        with sqlite_office.work(FIRM_A) as work:
            return unbooked.refuse(work, made.claim_id, 1, reason)

    assert refusal(refuse, " ").code == "reason_required"
    assert refuse("we were closed that day").state == "refused"
    assert open_ones(sqlite_office) == 1
    assert sqlite_office.all_of(AnomalyDecision) == []
    second = claim(sqlite_office, found, "org-b")
    assert confirm(sqlite_office, second, FIRM_B)[1].payer_org == "org-b"


def test_a_manager_takes_a_claim_back_and_calls_it_internal(sqlite_office: Office) -> None:
    found = use(sqlite_office)
    made = claim(sqlite_office, found)
    with pytest.raises(Refused) as told, sqlite_office.work(FIRM_A) as work:
        unbooked.withdraw(work, made.claim_id, 1)
    assert told.value.status == 403
    with sqlite_office.work(MANAGER) as work:
        assert unbooked.withdraw(work, made.claim_id, 1).state == "withdrawn"
    classify(sqlite_office, found, UsePurpose.INTERNAL)
    assert refusal(confirm, sqlite_office, made, version=2).code == "answered_already"


def test_less_than_a_minute_is_listed_only_on_request(sqlite_office: Office) -> None:
    use(sqlite_office, 1)
    assert open_ones(sqlite_office) == 0
    with sqlite_office.database.read() as session:
        assert len(session.scalars(unbooked.open_uses(None, everything=True)).all()) == 1
