"""E-mail: sent after the commit, once, to a real SMTP server; what fails is tried again, told, and given up at last."""

import stat
import threading
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from api.accounts import letters
from api.booking.states import BookingAction
from api.notices import feeds, inbox
from api.notices.housekeeping import KEPT, MAIL_KEPT, forget_old_notices
from api.notices.messages import compose
from api.notices.postman import ALERT_AFTER, GIVE_UP_AFTER, LEASE, Postman
from api.notices.running import postman_at_work
from api.notices.texts import Rendered
from api.notices.transports import FileSink, MailRefused, ServerDown, SmtpServer, Transport, open_transport
from api.security import TOKEN_PREFIX, token_hash
from api.settings import BadSettings, load_settings
from api.work import Work, system_actor
from store.series import SeriesStore
from store.tables.accounts import Letter, LetterKind, OneTimeToken, Person
from store.tables.calendar import Booking
from store.tables.notices import Mail, MailState, Notice
from store.tables.usage import Alert
from tests.support.api_client import test_parts
from tests.support.builders_booking import FIRM_A, MANAGER, Office
from tests.support.calendars import strictly
from tests.support.ports import free_port
from tests.support.smtp import SmtpPeer, self_signed, smtp_peer
from tests.support.waiting import wait_until
from wire.clock import ManualClock

S = MailState
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def postman(office: Office, transport: Transport, real: ManualClock | None = None) -> Postman:
    return Postman(
        office.database,
        transport,
        office.clock,
        real or office.clock,
        sender="OpenLab <openlab@county.test>",
        reset_for=timedelta(hours=24),
    )


def to(peer: SmtpPeer, **changes: Any) -> SmtpServer:
    return SmtpServer("localhost", peer.port, **({"security": "none"} | changes))


def mails(office: Office) -> list[Mail]:
    return office.all_of(Mail)


def states(office: Office) -> set[str]:
    return {mail.state for mail in mails(office)}


def alerts(office: Office) -> list[tuple[str, str]]:
    return sorted((row.rule, row.subject) for row in office.all_of(Alert) if row.open_slot == 1)


def only_to(office: Office, *people: str) -> None:
    """Nobody else has an address."""
    with office.database.write() as session:
        session.execute(update(Person).where(Person.person_id.not_in(people)).values(email=None))


def write_reset(office: Office) -> str:
    with office.work(system_actor("test")) as work:
        letter = letters.write(
            work, LetterKind.PASSWORD_RESET, "p-a", person_id="p-a", address="p-a@firm.test", language="zh"
        )
        return letter.letter_id


def a_message() -> EmailMessage:
    return compose(
        Rendered("标题", "正文"),
        mail_id="notice.1",
        sender="openlab@county.test",
        name="某人",
        address="a@firm.test",
        language="zh",
        at=NOON,
    )


def test_each_email_is_sent_once_in_its_readers_language(office: Office) -> None:
    office.book(FIRM_A)
    with smtp_peer() as peer:
        sender = postman(office, to(peer))
        assert sender.run_once()
        assert sender.run_once()
    assert states(office) == {S.SENT}
    assert len(peer.taken) == len(mails(office))
    ids = [mail["Message-ID"] for mail in peer.taken]
    assert len(set(ids)) == len(ids)
    by_reader = {mail["To"].addresses[0].addr_spec: mail for mail in peer.taken}
    english, chinese = by_reader["p-m@firm.test"], by_reader["p-a@firm.test"]
    assert "Example firm" in english["Subject"] + english.get_body(("plain",)).get_content()
    assert "已确认" in chinese["Subject"]
    assert "北京时间" in chinese.get_body(("plain",)).get_content()
    assert english["From"].addresses[0].addr_spec == "openlab@county.test"
    assert english["Auto-Submitted"] == "auto-generated"


def test_what_changes_a_calendar_brings_the_booking_along_as_the_feeds_have_it(sqlite_office: Office) -> None:
    booking_id = sqlite_office.book(FIRM_A)
    with smtp_peer() as peer:
        sender = postman(sqlite_office, to(peer))
        assert sender.run_once()
        sqlite_office.advance(timedelta(minutes=1))
        sqlite_office.do(MANAGER, booking_id, BookingAction.CANCEL, reason="broken")
        assert sender.run_once()
    with sqlite_office.database.read() as session:
        stored = session.get_one(Booking, booking_id)
        feed = feeds.of_booking(Work(session, FIRM_A, sqlite_office.now), booking_id).content
    seen = []
    for mail in peer.taken:
        parts = list(mail.iter_attachments())
        if mail["To"].addresses[0].addr_spec == "p-a@firm.test":
            [part] = parts
            calendar = strictly(part.get_payload(decode=True))
            [event] = calendar.walk("VEVENT")
            assert (part.get_content_type(), part.get_filename()) == ("text/calendar", "booking.ics")
            assert part.get_param("method") == str(calendar["method"])
            assert str(event["organizer"]) == "mailto:openlab@county.test"
            seen.append((str(calendar["method"]), str(event["status"]), int(event["sequence"]), str(event["uid"])))
    [of_feed] = strictly(feed).walk("VEVENT")
    uid = str(of_feed["uid"])
    assert seen[-1] == ("CANCEL", "CANCELLED", stored.row_version, uid)
    assert seen[-1][2] == of_feed["sequence"]
    assert seen[0][:2] + seen[0][3:] == ("PUBLISH", "CONFIRMED", uid)
    assert seen[0][2] < seen[-1][2]


def test_two_senders_send_nothing_twice(office: Office) -> None:
    for hour in range(1, 5):
        office.book(FIRM_A, office.slot(hour, 1))
    with smtp_peer() as peer:
        senders = [threading.Thread(target=postman(office, to(peer)).run_once) for _ in range(3)]
        for one in senders:
            one.start()
        for one in senders:
            one.join(30)
        assert postman(office, to(peer)).run_once()
    ids = [mail["Message-ID"] for mail in peer.taken]
    assert len(ids) == len(set(ids)) == len(mails(office))


class DiesAfterSending:
    """Sends, and then its process is gone before anything can be marked."""

    def __init__(self, inner: Transport) -> None:
        self._inner = inner

    def send(self, message: EmailMessage) -> None:
        self._inner.send(message)
        raise KeyboardInterrupt


def test_a_crash_between_sending_and_marking_repeats_that_one_under_the_same_id(sqlite_office: Office) -> None:
    only_to(sqlite_office, "p-m")
    sqlite_office.book(FIRM_A)
    with smtp_peer() as peer:
        with pytest.raises(KeyboardInterrupt):
            postman(sqlite_office, DiesAfterSending(to(peer))).run_once()
        first = [mail["Message-ID"] for mail in peer.taken]
        assert len(first) == 1
        assert postman(sqlite_office, to(peer)).run_once()
        assert [mail["Message-ID"] for mail in peer.taken].count(first[0]) == 1
        sqlite_office.advance(LEASE)
        assert postman(sqlite_office, to(peer)).run_once()
        assert postman(sqlite_office, to(peer)).run_once()
        ids = [mail["Message-ID"] for mail in peer.taken]
    assert ids.count(first[0]) == 2
    assert len(ids) == len(mails(sqlite_office)) + 1
    assert states(sqlite_office) == {S.SENT}


def test_a_server_that_is_away_is_waited_for_and_told_and_the_alert_ends_with_it(sqlite_office: Office) -> None:
    only_to(sqlite_office, "p-m")
    sqlite_office.book(FIRM_A)
    away = postman(sqlite_office, SmtpServer("localhost", free_port(), "none"))
    for attempt in range(1, ALERT_AFTER + 3):
        assert not away.run_once()
        assert max(mail.attempts for mail in mails(sqlite_office)) <= attempt
        sqlite_office.advance(timedelta(hours=6))
    while max(mail.attempts for mail in mails(sqlite_office)) < ALERT_AFTER:
        away.run_once()
        sqlite_office.advance(timedelta(hours=6))
    assert alerts(sqlite_office) == [("mail_server_failing", "mail")]
    assert states(sqlite_office) == {S.WAITING}
    with smtp_peer() as peer:
        assert postman(sqlite_office, to(peer)).run_once()
    assert states(sqlite_office) == {S.SENT}
    assert alerts(sqlite_office) == []


def test_a_mailbox_that_is_refused_for_good_is_given_up_and_told(sqlite_office: Office) -> None:
    only_to(sqlite_office, "p-m")
    sqlite_office.book(FIRM_A)
    with smtp_peer() as peer:
        peer.refuse["p-m@firm.test"] = "550 no such mailbox"
        assert postman(sqlite_office, to(peer)).run_once()
        assert peer.taken == []
    assert states(sqlite_office) == {S.GIVEN_UP}
    assert {rule for rule, _ in alerts(sqlite_office)} == {"mail_not_delivered"}


def test_a_mailbox_that_is_full_is_tried_with_growing_pauses_and_given_up_at_last(sqlite_office: Office) -> None:
    only_to(sqlite_office, "p-m")
    sqlite_office.book(FIRM_A)
    with smtp_peer() as peer:
        peer.refuse["p-m@firm.test"] = "452 mailbox full"
        sender, pauses = postman(sqlite_office, to(peer)), []
        for _ in range(GIVE_UP_AFTER):
            sender.run_once()
            waiting = [mail.next_at for mail in mails(sqlite_office) if mail.state == S.WAITING]
            if waiting:
                pauses.append(max(waiting) - sqlite_office.now)
            sqlite_office.advance(timedelta(hours=6))
    assert pauses == sorted(pauses)
    assert pauses[:3] == [timedelta(minutes=minutes) for minutes in (1, 2, 4)]
    assert states(sqlite_office) == {S.GIVEN_UP}


def test_an_address_that_is_none_keeps_nobody_else_waiting(sqlite_office: Office) -> None:
    with sqlite_office.database.write() as session:
        session.execute(update(Person).where(Person.person_id == "p-m").values(email="not an address"))
    sqlite_office.book(FIRM_A)
    with smtp_peer() as peer:
        assert postman(sqlite_office, to(peer)).run_once()
    assert {mail["To"] for mail in peer.taken} == {"p-a <p-a@firm.test>"}
    assert states(sqlite_office) == {S.SENT, S.GIVEN_UP}


def test_whoever_is_gone_or_has_no_address_any_more_gets_nothing(sqlite_office: Office) -> None:
    sqlite_office.book(FIRM_A)
    with sqlite_office.database.write() as session:
        session.execute(update(Person).where(Person.person_id == "p-m").values(active=False))
        session.execute(update(Person).where(Person.person_id == "p-a").values(email=None))
    with smtp_peer() as peer:
        assert postman(sqlite_office, to(peer)).run_once()
        assert peer.taken == []
    assert states(sqlite_office) == {S.DROPPED}


def test_a_reset_is_sent_with_a_token_that_is_stored_nowhere(office: Office) -> None:
    letter_id = write_reset(office)
    with smtp_peer() as peer:
        assert postman(office, to(peer)).run_once()
        assert postman(office, to(peer)).run_once()
    (mail,) = peer.taken
    (secret,) = [line for line in mail.get_content().splitlines() if line.startswith(TOKEN_PREFIX)]
    (token,) = office.all_of(OneTimeToken)
    assert secret not in repr([vars(row) for table in (Letter, Mail, OneTimeToken) for row in office.all_of(table)])
    assert token.token_sha256 == token_hash(secret)
    (letter,) = office.all_of(Letter)
    assert (letter.letter_id, letter.opened_by) == (letter_id, "system:postman")


def test_a_letter_that_was_not_sent_is_on_the_officers_list_again_and_gets_another_token(sqlite_office: Office) -> None:
    letter_id = write_reset(sqlite_office)
    assert not postman(sqlite_office, SmtpServer("localhost", free_port(), "none")).run_once()
    with sqlite_office.database.read() as session:
        assert [letter.letter_id for letter in letters.waiting(session)] == [letter_id]
    sqlite_office.advance(timedelta(minutes=2))
    with smtp_peer() as peer:
        assert postman(sqlite_office, to(peer)).run_once()
        assert len(peer.taken) == 1


def test_a_letter_that_somebody_said_in_person_is_not_sent(sqlite_office: Office) -> None:
    write_reset(sqlite_office)
    assert not postman(sqlite_office, SmtpServer("localhost", free_port(), "none")).run_once()
    with sqlite_office.work(system_actor("by-hand")) as work:
        letters.settle(work, LetterKind.PASSWORD_RESET, "p-a")
    sqlite_office.advance(timedelta(minutes=2))
    with smtp_peer() as peer:
        assert postman(sqlite_office, to(peer)).run_once()
        assert peer.taken == []
    assert states(sqlite_office) == {S.DROPPED}


def test_starttls_with_a_password_reaches_a_server_that_is_who_it_says(tmp_path: Path) -> None:
    context, vouches = self_signed(tmp_path)
    with smtp_peer(context) as peer:
        to(peer, security="starttls", user="openlab", password="p7Qm0dZ", ca_file=vouches).send(a_message())
        assert (peer.encrypted, peer.logins) == ([True], ["|openlab|p7Qm0dZ"])
        with pytest.raises(ServerDown, match="certificate"):
            to(peer, security="starttls").send(a_message())
        assert len(peer.taken) == 1


def test_a_server_without_tls_gets_neither_password_nor_mail() -> None:
    with smtp_peer() as peer:
        with pytest.raises(ServerDown, match="STARTTLS"):
            to(peer, security="starttls", user="openlab", password="p7Qm0dZ").send(a_message())
        assert (peer.taken, peer.logins) == ([], [])


def test_without_a_server_emails_are_files_that_only_this_account_reads(tmp_path: Path) -> None:
    sink = open_transport(load_settings(data_dir=tmp_path))
    assert isinstance(sink, FileSink)
    sink.send(a_message())
    sink.send(a_message())
    (file,) = (tmp_path / "mail").iterdir()
    assert file.name == "notice.1.eml"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    read = message_from_bytes(file.read_bytes(), policy=SMTP)
    assert (read["Subject"], read.get_content().startswith("正文")) == ("标题", True)


def test_a_name_with_a_line_break_adds_no_header() -> None:
    message = compose(
        Rendered("a title", "text"),
        mail_id="notice.2",
        sender="openlab@county.test",
        name="Somebody\r\nBcc: all@firm.test",
        address="a@firm.test",
        language="en",
        at=NOON,
    )
    assert message["Bcc"] is None
    assert [one.addr_spec for one in message["To"].addresses] == ["a@firm.test"]
    with pytest.raises(MailRefused):
        compose(
            Rendered("a title", "text"),
            mail_id="notice.3",
            sender="openlab@county.test",
            name="",
            address="a@firm.test\r\nBcc: b@firm.test",
            language="en",
            at=NOON,
        )


def test_settings_refuse_a_password_over_a_plain_connection(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("p7Qm0dZ\n")
    given = {"data_dir": tmp_path, "smtp_host": "mail.county.test", "smtp_user": "openlab"}
    with pytest.raises(BadSettings, match="PASSWORD_FILE"):
        load_settings(**given)
    with pytest.raises(BadSettings, match="No such file"):
        load_settings(**given, smtp_password_file=tmp_path / "nothing")
    with pytest.raises(BadSettings, match="plain"):
        load_settings(**given, smtp_password_file=tmp_path / "password", smtp_security="none")
    server = open_transport(load_settings(**given, smtp_password_file=tmp_path / "password"))
    assert isinstance(server, SmtpServer)
    assert (server.password, server.security, server.port) == ("p7Qm0dZ", "starttls", 587)
    assert "p7Qm0dZ" not in repr(server)


def test_what_is_done_with_is_forgotten_after_its_time_and_nothing_else(office: Office) -> None:
    office.book(FIRM_A)
    with smtp_peer() as peer:
        assert postman(office, to(peer)).run_once()
    with office.work(FIRM_A) as work:
        inbox.mark_all_read(work, None)
    office.advance(MAIL_KEPT + timedelta(days=1))
    office.book(FIRM_A)
    with office.work(system_actor("worker")) as work:
        forget_old_notices(work)
    assert states(office) == {S.WAITING}
    assert [row for row in office.all_of(Notice) if row.read_at is not None]
    office.advance(KEPT)
    with office.work(system_actor("worker")) as work:
        forget_old_notices(work)
    kept = office.all_of(Notice)
    assert kept
    assert not [row for row in kept if row.read_at is not None]
    assert states(office) == {S.WAITING}


def test_beside_a_worker_emails_go_out_by_themselves(
    sqlite_office: Office, api_series: SeriesStore, tmp_path: Path
) -> None:
    parts = test_parts(sqlite_office.database, api_series, sqlite_office.clock, data_dir=tmp_path / "data")
    sqlite_office.book(FIRM_A)
    with postman_at_work(parts):
        wait_until(lambda: states(sqlite_office) == {S.SENT}, "the outbox to be empty")
    assert len(list((tmp_path / "data" / "mail").glob("*.eml"))) == len(mails(sqlite_office))
