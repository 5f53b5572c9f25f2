"""Notices: who is told what, once, in their language, in the transaction of what happened."""

import json
from typing import Any

import pytest

from api.booking import proposals
from api.booking.notices import CONCERNS
from api.booking.states import BookingAction, Party
from api.booking.steps import StepInput, perform
from api.notices import inbox, preferences
from api.notices.concerns import MATTERS
from api.notices.keeping import hearers_of
from api.notices.texts import KINDS, LANGUAGES, Told, kind_title, render_notice
from api.pagination import PageAsked
from api.work import Actor, Work
from store.tables.accounts import Person, Role, RoleGrant
from store.tables.notices import Mail, Notice, NoticeParty
from tests.support.api_client import ApiClient, client_as
from tests.support.builders_booking import FIRM_A, MANAGER, Office
from tests.support.usage import LONG_AGO

TOLD = Told("万能试验机", "Testing machine", "2026-03-02 10:00 – 11:00", "B1", "", "维修", "示例企业", "Example firm")


def told(office: Office) -> list[tuple[str, str]]:
    return sorted((row.person_id, row.kind) for row in office.all_of(Notice))


def items(office: Office, actor: Actor, **asked: Any) -> list[inbox.Item]:
    with office.database.read() as session:
        found, _ = inbox.listed(Work(session, actor, office.now), PageAsked(**asked), only_unread=False)
        return found


def add_colleague(office: Office, person_id: str = "p-a2") -> Actor:
    with office.database.write() as session:
        session.add(
            Person(
                person_id=person_id,
                login=person_id,
                name=person_id,
                org_id="org-a",
                password_hash=None,
                language="zh",
                active=True,
                created_at=LONG_AGO,
                row_version=1,
                email=None,
            )
        )
        session.flush()
        grant = {"person_id": person_id, "role": Role.SME.value, "host_scope": ""}
        session.add(RoleGrant(**grant, granted_by="system:test", granted_at=LONG_AGO))
    return Actor(person_id, person_id, "org-a", frozenset({Role.SME}), frozenset())


def test_every_kind_has_a_text_for_each_side_it_concerns_in_both_languages() -> None:
    for kind, parties in CONCERNS.items():
        for party in parties:
            titles = {render_notice(kind, NoticeParty(party.value), TOLD, language).title for language in LANGUAGES}
            assert len(titles) == 2
    for kind in KINDS:
        assert all(kind_title(kind, language) for language in LANGUAGES)
    assert set(KINDS) == {*CONCERNS, *MATTERS}


def test_a_customers_text_never_names_a_firm() -> None:
    for kind, parties in CONCERNS.items():
        if Party.CUSTOMER in parties:
            for language in LANGUAGES:
                shown = render_notice(kind, NoticeParty.CUSTOMER, TOLD, language)
                assert "示例企业" not in shown.title + shown.body
                assert "Example firm" not in shown.title + shown.body


def test_the_manager_hears_of_a_booking_and_the_booker_of_its_confirmation(office: Office) -> None:
    booking_id = office.book(FIRM_A)
    confirmed = told(office)
    assert ("p-m", "book") in confirmed
    assert ("p-a", "book") not in confirmed
    assert not [one for one in confirmed if one[0] in ("p-b", "p-c")]
    if office.booking(booking_id).state == "requested":
        office.do(MANAGER, booking_id, BookingAction.CONFIRM)
    assert ("p-a", "confirm") in told(office)
    office.do(MANAGER, booking_id, BookingAction.CANCEL, reason="仪器故障")
    assert told(office).count(("p-a", "cancel")) == 1
    assert ("p-m", "cancel") not in told(office)
    newest = items(office, FIRM_A)[0]
    assert "已取消" in newest.text.title
    assert "仪器故障" in newest.text.body
    mailed = {row.source_id for row in office.all_of(Mail)}
    assert mailed == {row.notice_id for row in office.all_of(Notice)}


def test_what_is_rolled_back_told_nobody(sqlite_office: Office) -> None:
    booking_id = sqlite_office.book(FIRM_A)
    before = told(sqlite_office)

    def cancel_and_fail() -> None:
        with sqlite_office.work(FIRM_A) as work:
            perform(work, booking_id, BookingAction.CANCEL, StepInput(), None)
            raise RuntimeError("the power fails")

    with pytest.raises(RuntimeError, match="power"):
        cancel_and_fail()
    assert told(sqlite_office) == before


def test_the_same_notice_reads_in_the_language_that_its_reader_has_now(sqlite_office: Office) -> None:
    sqlite_office.book(FIRM_A)
    english = Actor("p-m", "Manager", "org-h01", frozenset({Role.LAB_MANAGER}), frozenset({"h01"}), language="en")
    assert "booked" in items(sqlite_office, english)[-1].text.title
    assert "预约" in items(sqlite_office, MANAGER)[-1].text.title
    assert "Example firm" in items(sqlite_office, english)[-1].text.title


def test_colleagues_hear_of_the_firms_bookings_if_they_ask_for_it(sqlite_office: Office) -> None:
    colleague = add_colleague(sqlite_office)
    first = sqlite_office.book(FIRM_A, sqlite_office.slot(1, 1))
    sqlite_office.do(MANAGER, first, BookingAction.CANCEL, reason="broken")
    assert not [one for one in told(sqlite_office) if one[0] == "p-a2"]
    with sqlite_office.work(colleague) as work:
        preferences.change(work, "zh", frozenset(), True, 0)
    second = sqlite_office.book(FIRM_A, sqlite_office.slot(3, 1))
    sqlite_office.do(MANAGER, second, BookingAction.CANCEL, reason="broken")
    assert ("p-a2", "cancel") in told(sqlite_office)
    assert [
        row.person_id for row in sqlite_office.all_of(Notice) if row.booking_id == first and row.kind == "cancel"
    ] == ["p-a"]


def test_where_the_booker_is_not_of_the_firm_everybody_of_it_hears(sqlite_office: Office) -> None:
    add_colleague(sqlite_office)
    booking_id = sqlite_office.book(MANAGER, payer_org="org-a", consent="by telephone")
    with sqlite_office.database.read() as session:
        heard = {(one.person_id, one.party.value) for one in hearers_of(session, sqlite_office.booking(booking_id))}
    assert heard == {("p-a", "customer"), ("p-a2", "customer"), ("p-m", "manager")}
    assert ("p-a", "book") in told(sqlite_office)
    assert ("p-m", "book") not in told(sqlite_office)


def test_a_kind_that_is_not_wanted_by_email_is_in_the_inbox_all_the_same(sqlite_office: Office) -> None:
    with sqlite_office.work(MANAGER) as work:
        preferences.change(work, "en", frozenset({"book", "confirm"}), False, 0)
    sqlite_office.book(FIRM_A)
    notices = {row.notice_id for row in sqlite_office.all_of(Notice) if row.person_id == "p-m"}
    assert notices
    assert not notices & {row.source_id for row in sqlite_office.all_of(Mail)}


def test_a_proposal_tells_the_slot_that_is_offered(sqlite_office: Office) -> None:
    booking_id = sqlite_office.book(FIRM_A)
    with sqlite_office.work(MANAGER) as work:
        version = sqlite_office.booking(booking_id).row_version
        proposals.propose_slot(work, booking_id, sqlite_office.slot(5, 1), "delayed", version, "")
    notice = items(sqlite_office, FIRM_A)[0]
    assert "提议时段:2026-03-02 14:00 – 15:00" in notice.text.body
    assert "时段:2026-03-02 10:00 – 11:00" in notice.text.body


def test_the_inbox_over_http_pages_counts_and_marks(http: ApiClient, sqlite_office: Office) -> None:
    for hour in range(1, 6):
        sqlite_office.book(FIRM_A, sqlite_office.slot(hour, 1))
    manager = client_as(http, "p-m")
    first = manager.get("/inbox?limit=3").json()
    total = first["unread"]
    assert total >= 5
    assert first["items"][0]["title"].startswith("Example firm booked") or "confirmed" in first["items"][0]["title"]
    marked = manager.request("PUT", f"/inbox/{first['items'][0]['notice_id']}/read", headers={"If-Match": '"1"'})
    assert marked.json()["read_at"]
    seen, cursor = [], None
    while True:
        page = manager.get("/inbox?limit=2" + (f"&cursor={cursor}" if cursor else "")).json()
        assert page["unread"] == total - 1
        seen += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert len({each["notice_id"] for each in seen}) == len(seen) == total
    assert [each["read_at"] is None for each in seen] == [True] * (total - 1) + [False]
    assert manager.get("/inbox?cursor=nonsense").json()["code"] == "bad_cursor"
    assert manager.post("/inbox/read", {"until": seen[1]["notice_id"]}).json()["unread"] == 1
    assert manager.post("/inbox/read", {}).json() == {"unread": 0}
    other = client_as(http, "p-b")
    assert other.get("/inbox").json() == {"items": [], "next_cursor": None, "unread": 0}
    theirs = other.request("PUT", f"/inbox/{seen[0]['notice_id']}/read", headers={"If-Match": '"1"'})
    assert theirs.status_code == 404


def test_preferences_over_http(http: ApiClient, sqlite_office: Office) -> None:
    firm = client_as(http, "p-a")
    found = firm.get("/notices/preferences")
    assert (found.json()["row_version"], found.json()["language"]) == (0, "zh")
    assert all(each["email"] for each in found.json()["kinds"])
    wanted = {"language": "en", "firm_bookings": True, "without_email": ["book"]}
    done = firm.edit("PUT", "/notices/preferences", 0, wanted)
    assert done.status_code == 200, done.text
    assert [each["kind"] for each in done.json()["kinds"] if not each["email"]] == ["book"]
    assert firm.edit("PUT", "/notices/preferences", 0, wanted).status_code == 412
    bad = firm.edit("PUT", "/notices/preferences", 1, wanted | {"without_email": ["gossip"]})
    assert (bad.status_code, bad.json()["code"]) == (422, "unknown_kind")
    assert firm.get("/me").json()["language"] == "en"


def test_a_notice_keeps_facts_and_no_text(sqlite_office: Office) -> None:
    sqlite_office.book(FIRM_A)
    for row in sqlite_office.all_of(Notice):
        assert set(json.loads(row.facts)) <= {"slot_from", "slot_to", "asked_slot_from", "asked_slot_to"}
