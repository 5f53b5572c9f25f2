"""Notices that are not about a booking: from an audit event to the people it concerns, in their inbox and by e-mail."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from api.accounts import invitations, registrations
from api.accounts.uscc import make
from api.booking import qualification, unbooked
from api.booking.claims_due import expire_claims
from api.booking.matching_service import match_session
from api.charging.corrections import Proposal, decide_correction, propose_correction
from api.charging.disputes import raise_dispute
from api.charging.invoices import record_invoice
from api.charging.statements import finalize_statement, prepare_statement
from api.charging.statements_window import issue_statement
from api.charging.tariff_body import TariffBody
from api.charging.tariffs import propose_tariff, publish_tariff
from api.errors import Refused
from api.notices import inbox, preferences
from api.notices.concerns import _KINDS, MATTERS
from api.notices.housekeeping import KEPT, forget_old_notices
from api.notices.matter_texts import SAID
from api.notices.reminders import remind_of_overdue, warn_of_expiring, warn_of_qualifications
from api.notices.texts import LANGUAGES, render_matter
from api.pagination import PageAsked
from api.rewards.objections import answer_objection, object_to_run
from api.work import Actor, Work, system_actor
from store.database import Database
from store.periods import SHANGHAI
from store.tables.accounts import Person, Role
from store.tables.audit import AuditEvent
from store.tables.booking_rules import UseClaim
from store.tables.calendar import UnbookedUse
from store.tables.charging import InvoiceKind
from store.tables.disputes import CorrectionKind
from store.tables.notices import Mail, MailState, Notice, NoticeParty
from store.tables.registry import Certificate, OrgKind
from store.tables.reward_steps import ObjectionOutcome
from tests.api.charging.building import CUSTOMER, FIRM, HOST, SECOND, County, build
from tests.api.charging.building import MANAGER as LAB
from tests.api.charging.building import OFFICER as COUNTY_OFFICER
from tests.api.notices.test_mail import postman, to
from tests.api.rewards.building import RewardCounty, build_rewards
from tests.support.api_client import ApiClient, client_as
from tests.support.builders_booking import BY_THE_HALF_HOUR, FIRM_A, FIRM_B, MANAGER, OFFICER, WORKER, Office
from tests.support.smtp import smtp_peer
from tests.support.usage import StreamWriter
from wire.clock import to_ms
from wire.messages import PowerState

LATER = timedelta(days=30)


def told(database: Database) -> list[tuple[str, str]]:
    """Who was told of what, as what."""
    with database.read() as session:
        found = []
        for notice in session.scalars(select(Notice).where(Notice.chain_id.is_not(None))):
            event = session.get_one(AuditEvent, (notice.chain_id, notice.seq))
            found.append((notice.person_id, f"{event.action} {notice.party}"))
        return sorted(found)


def read(database: Database, actor: Actor, now: Any, **asked: Any) -> list[inbox.Item]:
    with database.read() as session:
        found, _ = inbox.listed(Work(session, actor, now), PageAsked(**asked), only_unread=False)
        return [item for item in found if item.notice.booking_id is None]


def texts(database: Database, actor: Actor, now: Any) -> str:
    return "\n".join(f"{item.text.title}\n{item.text.body}" for item in read(database, actor, now))


def propose(office: Office, body: TariffBody = BY_THE_HALF_HOUR) -> None:
    with office.work(MANAGER) as work:
        propose_tariff(work, office.instrument, body, office.now + LATER)


@pytest.fixture
def county(sqlite_database: Database, tmp_path: Path) -> Any:
    built = build(sqlite_database, tmp_path)
    yield built
    built.series.close()


@pytest.fixture
def rewards(sqlite_database: Database, tmp_path: Path) -> Any:
    built = build_rewards(sqlite_database, tmp_path)
    yield built
    built.series.close()


def test_every_matter_has_a_text_for_each_side_in_both_languages_and_no_firm_reads_anothers_name() -> None:
    assert {kind: frozenset(said) for kind, said in SAID.items()} == MATTERS
    assert {*_KINDS.values(), "unbooked-use"} == set(MATTERS)
    for kind, said in SAID.items():
        assert len(set(said.values())) == len(said) or kind == "tariff-proposed"
        for side, both in said.items():
            assert both[0] != both[1]
            assert side in (NoticeParty.MANAGER, NoticeParty.COUNTY) or not any("{firm}" in text for text in both)
            says = dict.fromkeys(_names(both), ("甲\n乙", "a\nb"))
            for language in LANGUAGES:
                assert "\n" not in render_matter(kind, side, says, language).title


def _names(both: tuple[str, str]) -> set[str]:
    return {part.partition("}")[0] for text in both for part in text.split("{")[1:]}


def test_a_proposal_of_prices_is_read_once_by_each_who_may_decide_and_marked_as_read(office: Office) -> None:
    propose(office)
    assert told(office.database) == [("p-c", "tariff.proposed county")]
    propose(office)
    with office.work(OFFICER) as work:
        publish_tariff(work, office.instrument, BY_THE_HALF_HOUR, office.now + LATER, "p-m", "p-c")
    assert ("p-m", "tariff.published person") in told(office.database)
    items = read(office.database, OFFICER, office.now)
    assert [item.notice.kind for item in items] == ["tariff-proposed"] * 2
    assert items[0].notice.notice_id > items[1].notice.notice_id
    with office.work(OFFICER) as work:
        assert inbox.unread(work) == 2
        shown = inbox.mark_read(work, items[0].notice.notice_id)
        assert shown.notice.read_at == work.now
    with office.work(OFFICER) as work:
        inbox.mark_read(work, items[0].notice.notice_id)
        assert inbox.unread(work) == 1
        with pytest.raises(Refused, match="notice"):
            inbox.mark_read(work, read(office.database, MANAGER, office.now)[0].notice.notice_id)
    assert [one.notice.notice_id for one in read(office.database, OFFICER, office.now)] == [
        items[1].notice.notice_id,
        items[0].notice.notice_id,
    ]
    with office.work(OFFICER) as work:
        assert inbox.mark_all_read(work, None) == 0
        assert inbox.mark_all_read(work, None) == 0
    marks = [row for row in office.all_of(AuditEvent) if row.action == "notices_read"]
    assert len(marks) == 2
    for later, left in ((KEPT, 2), (KEPT + timedelta(seconds=1), 0)):
        with office.work(system_actor("worker")) as work:
            forget_old_notices(Work(work.session, work.actor, office.now + later))
        assert len(read(office.database, OFFICER, office.now)) == left
    assert {mail.state for mail in office.all_of(Mail)} == {MailState.WAITING}
    with smtp_peer() as peer:
        assert postman(office, to(peer)).run_once()
        assert peer.taken == []
    assert {mail.state for mail in office.all_of(Mail)} == {MailState.DROPPED}  # nothing is left to be said


def test_bookings_and_other_matters_share_the_pages_of_one_inbox(sqlite_office: Office, http: ApiClient) -> None:
    sqlite_office.book(FIRM_A, sqlite_office.slot(1, 1))
    with sqlite_office.work(OFFICER) as work:
        propose_tariff(work, sqlite_office.instrument, BY_THE_HALF_HOUR, sqlite_office.now + LATER)
    sqlite_office.book(FIRM_B, sqlite_office.slot(3, 1))
    manager = client_as(http, "p-m")
    everything = manager.get("/inbox?limit=50").json()
    ids = [item["notice_id"] for item in everything["items"]]
    assert everything["unread"] == len(ids)
    assert ids == sorted(ids, reverse=True)
    paged, cursor = [], ""
    while cursor is not None:
        page = manager.get(f"/inbox?limit=1{cursor and f'&cursor={cursor}'}").json()
        paged += [item["notice_id"] for item in page["items"]]
        cursor = page["next_cursor"]
    assert paged == ids
    [matter] = [item for item in everything["items"] if item["booking_id"] is None]
    assert (matter["kind"], matter["party"], matter["title"][:6]) == ("tariff-proposed", "manager", "Prices")
    assert matter["subject"].startswith("tariff_proposal:")
    done = manager.request("PUT", f"/inbox/{matter['notice_id']}/read")
    assert (done.status_code, done.json()["read_at"] is None) == (200, False)
    assert manager.get("/inbox?limit=50").json()["items"][-1]["notice_id"] == matter["notice_id"]


def test_a_matter_is_mailed_once_unless_its_reader_wants_none_or_has_no_address(sqlite_office: Office) -> None:
    with sqlite_office.work(OFFICER) as work:
        preferences.change(work, "en", frozenset({"tariff-proposed"}), False, 0)
    propose(sqlite_office)
    assert sqlite_office.all_of(Mail) == []
    with sqlite_office.work(OFFICER) as work:
        preferences.change(work, "en", frozenset(), False, 1)
    propose(sqlite_office)
    with smtp_peer() as peer:
        assert postman(sqlite_office, to(peer)).run_once()
        assert postman(sqlite_office, to(peer)).run_once()
    [mail] = peer.taken
    assert mail["To"].addresses[0].addr_spec == "p-c@firm.test"
    assert "wait for a second person" in mail["Subject"]
    assert "p-c" not in mail["Message-ID"]
    with sqlite_office.database.write() as session:
        session.execute(update(Person).values(email=None))
    propose(sqlite_office)
    assert [mail.state for mail in sqlite_office.all_of(Mail)] == ["sent"]
    assert len(read(sqlite_office.database, OFFICER, sqlite_office.now)) == 3


def test_the_county_hears_of_a_registration_its_person_of_the_decision_and_who_invited_of_the_answer(
    sqlite_office: Office,
) -> None:
    firm = registrations.Firm(make("91990000123456789"), OrgKind.SME, "示例甲", "Example A", "")
    with sqlite_office.work(system_actor("public")) as work:
        said = {"login": "wang", "name": "王某", "email": "w@firm.test", "language": "zh", "password_hash": "x"}
        asked, person = registrations.submit(work, firm, **said)
    assert told(sqlite_office.database) == [("p-c", "registration_submitted county")]
    with sqlite_office.work(OFFICER) as work:
        registrations.decide(work, asked.registration_id, registrations.Verdict.REJECT, "代码不符", 1)
    assert (person.person_id, "registration_decided person") in told(sqlite_office.database)
    their = Actor(person.person_id, "", asked.org_id, frozenset({Role.SME}), frozenset())
    shown = texts(sqlite_office.database, their, sqlite_office.now)
    assert "示例甲 的注册申请:被退回" in shown
    assert "代码不符" in shown
    mailed = {mail.source_id for mail in sqlite_office.all_of(Mail)}
    theirs_only = [one for one in sqlite_office.all_of(Notice) if one.person_id == person.person_id]
    assert [one.notice_id in mailed for one in theirs_only] == [False]  # a letter says it
    with sqlite_office.work(FIRM_A) as work:
        real = {"real_now": work.now}
        offered = invitations.invite(
            work, "org-a", Role.SME, email="l@firm.test", login=None, language="zh", good_for=LATER, **real
        )
    with sqlite_office.work(system_actor("public")) as work:
        invitations.accept_as_new(work, offered.secret, login="li", name="李某", password_hash="x", **real)
    assert ("p-a", "invitation_accepted person") in told(sqlite_office.database)
    assert "李某 接受了加入 示例企业 的邀请" in texts(sqlite_office.database, FIRM_A, sqlite_office.now)


def test_a_firm_hears_of_its_own_money_and_the_host_of_what_it_has_to_do(county: County) -> None:
    charge_id = county.charged()
    firm, lab = "customer", ("manager", "second")
    assert told(county.database).count((firm, "charge.posted customer")) == 1
    draft = county.do(prepare_statement, HOST, FIRM, 202603, who=LAB)
    county.do(issue_statement, draft.statement_id, who=LAB)
    county.do(raise_dispute, charge_id, "we left early", None, who=CUSTOMER)
    answer = Proposal(CorrectionKind.STANDS, "as metered", "power curve")
    proposed = county.do(propose_correction, charge_id, answer, who=LAB)
    step = (decide_correction, proposed.correction_id, True, "checked", proposed.body_sha256, county.series)
    county.do(*step, who=SECOND)
    later = county.now + timedelta(days=20)
    county.do(finalize_statement, draft.statement_id, who=LAB, now=later)
    county.do(record_invoice, draft.statement_id, "2" * 20, InvoiceKind.BLUE, later, who=LAB, now=later)
    heard = [what.partition(" ")[0] for who, what in told(county.database) if who == firm]
    assert heard == [
        *("charge.posted", "correction.proposed", "dispute.ended", "invoice.recorded"),
        *("statement.finalized", "statement.issued"),
    ]
    of_second = [what for who, what in told(county.database) if who == "second"]
    assert "dispute.raised manager" in of_second
    assert "correction.proposed manager" in of_second
    assert not [what for what in of_second if what.startswith(("dispute.ended", "correction.decided"))]
    assert ("manager", "dispute.ended manager") in told(county.database)
    assert "rival" not in dict(told(county.database))
    theirs = texts(county.database, CUSTOMER, later)
    assert "示例小微企业" not in theirs
    assert "异议已办结:维持原收费" in theirs
    assert f"发票号码:{'2' * 20}" in theirs
    assert "示例小微企业" in texts(county.database, SECOND, later)
    assert {who for who, _ in told(county.database)} <= {firm, *lab, "officer"}


def test_an_overdue_statement_is_told_once_a_bucket_until_it_is_paid(rewards: RewardCounty) -> None:
    rewards.tested()
    statement = rewards.bill()

    def reminded(days: int) -> int:
        for _ in range(2):
            rewards.do(remind_of_overdue, now=rewards.now + timedelta(days=days))
        return told(rewards.database).count(("customer", "statement.overdue customer"))

    assert [reminded(days) for days in (30, 31, 45, 61, 91, 200)] == [0, 1, 1, 2, 3, 3]
    later = rewards.now + timedelta(days=200)
    assert f"结算单 {statement.number} 尚未付清" in texts(rewards.database, CUSTOMER, later)
    rewards.tested(to_ms(rewards.now) - 5 * 86_400_000)
    rewards.pay(rewards.bill(month=202604))
    rewards.now += timedelta(days=40)
    before = told(rewards.database)
    rewards.do(remind_of_overdue)
    assert [one for one in told(rewards.database) if "overdue" in one[1]] == [
        one for one in before if "overdue" in one[1]
    ]


def test_managers_hear_of_a_reward_run_and_an_objector_of_the_answer(rewards: RewardCounty) -> None:
    rewards.paid()
    run = rewards.prepare()
    rewards.notice(run)
    objection = rewards.do(object_to_run, run.run_id, "一项收费未计入", None, who=LAB)
    answered = (answer_objection, objection.objection_id, ObjectionOutcome.REJECTED, "已核对")
    rewards.do(*answered, who=COUNTY_OFFICER)
    heard = [what for who, what in told(rewards.database) if who == "manager" and "reward" in what]
    assert heard == ["reward_objection.answered person", "reward_run.noticed manager"]
    assert ("officer-2", "reward_objection.raised county") in told(rewards.database)
    assert "不成立" in texts(rewards.database, LAB, rewards.now)


def test_a_certificate_that_runs_out_is_told_30_and_7_days_before_once_each(county: County) -> None:
    with county.database.write() as session:
        ends = session.get_one(Certificate, "cert-1").valid_to

    def warned(days: int) -> int:
        county.do(warn_of_expiring, now=ends - timedelta(days=days))
        return told(county.database).count(("manager", "certificate.expiring manager"))

    assert [warned(days) for days in (31, 30, 8, 7, 1, -1)] == [0, 1, 1, 2, 2, 2]
    assert "C-1" in texts(county.database, LAB, ends - timedelta(days=1))


def test_a_training_that_runs_out_is_told_its_person_and_the_managers_30_and_7_days_before_unless_renewed(
    office: Office,
) -> None:
    ends = office.now + timedelta(days=60)

    def grant(days: int, until: Any, who: str = "p-a") -> None:
        with office.work(MANAGER) as work:
            at = Work(work.session, work.actor, ends - timedelta(days=days))
            qualification.grant(at, office.instrument, who, "safety", until)

    def warned(*days: int) -> list[list[tuple[str, str]]]:
        found = []
        for each in days:
            before = told(office.database)
            for _ in range(2):
                with office.work(WORKER) as work:
                    warn_of_qualifications(Work(work.session, work.actor, ends - timedelta(days=each)))
            found.append(told(office.database)[len(before) :])
        return found

    grant(60, ends)
    grant(60, None, "p-b")
    both = [("p-a", "qualification.expiring person"), ("p-m", "qualification.expiring manager")]
    assert [sorted(each) for each in (warned(31) + warned(30))] == [[], both]
    assert len(warned(8)[0]) == 0
    assert len(warned(7)[0]) == 2
    grant(6, ends + timedelta(days=10))  # for 16 days: 30 days before would be no news
    assert [len(each) for each in warned(5, -2, -3, -5)] == [0, 0, 2, 0]
    theirs, labs = (texts(office.database, who, ends) for who in (FIRM_A, MANAGER))
    assert "操作资格即将到期" in theirs
    assert f"截止:{ends.astimezone(SHANGHAI):%Y-%m-%d %H:%M}" in theirs
    with office.database.read() as session:
        assert session.get_one(Person, "p-a").name in labs
    with office.work(MANAGER) as work:
        qualification.grant(work, office.instrument, "p-b", "safety", ends)
        qualification.revoke(work, office.instrument, "p-b", "left")
    assert warned(30, 7) == [[], []]


def use(office: Office) -> UnbookedUse:
    writer = StreamWriter(office.instrument, start_ms=to_ms(office.now))
    writer.tick(PowerState.STANDBY, 3600)
    name = writer.run(40, standby_s=0)
    writer.tick(PowerState.STANDBY, 3600)
    office.advance(timedelta(hours=3))
    office.record(writer)
    with office.work(WORKER) as work:
        match_session(work, name)
    (found,) = office.all_of(UnbookedUse)
    return found


def test_unbooked_use_is_put_to_the_manager_then_to_the_firm_and_back_when_nobody_answers(office: Office) -> None:
    found = use(office)
    assert told(office.database) == [("p-m", "anomaly.found manager")]
    assert "请归类" in texts(office.database, MANAGER, office.now)
    with office.work(MANAGER) as work:
        claim = unbooked.claim_for(work, found.session_id, found.from_at, "org-a", "saw them there")
    assert ("p-a", "use_claim.claimed customer") in told(office.database)
    expire = expire_claims(14)
    office.advance(timedelta(days=14) - timedelta(seconds=1))
    with office.work(WORKER) as work:
        expire(work)
    assert office.all_of(UseClaim)[0].state == "open"
    office.advance(timedelta(seconds=1))
    for _ in range(2):
        with office.work(WORKER) as work:
            expire(work)
    lapsed = office.all_of(UseClaim)[0]
    assert (lapsed.state, lapsed.answered_by, lapsed.row_version) == ("withdrawn", "system:worker", 2)
    assert "14" in lapsed.answer_note
    expired = [one for one in told(office.database) if "expired" in one[1]]
    assert expired == [("p-a", "use_claim.expired customer"), ("p-m", "use_claim.expired manager")]
    with pytest.raises(Refused) as refused, office.work(FIRM_A) as work:
        unbooked.confirm(work, claim.claim_id, 2, claim.quote_sha256)
    assert refused.value.code == "answered_already"
    with office.work(MANAGER) as work:
        unbooked.claim_for(work, found.session_id, found.from_at, "org-b", "it was them")
    assert ("p-b", "use_claim.claimed customer") in told(office.database)
    assert not read(office.database, FIRM_B, office.now)[0].text.body.count("org-a")
