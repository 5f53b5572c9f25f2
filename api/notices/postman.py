"""Sends what waits in the outbox, after it was committed, each e-mail once. Runs beside the worker; any number may.

An e-mail is claimed in a transaction of its own (put off by LEASE, its attempt counted), then sent, then marked. Who
dies in between leaves it to be sent again after LEASE, under the same Message-ID. What fails is tried again with
growing pauses; after ALERT_AFTER failures somebody is told, after GIVE_UP_AFTER, or a final no, it is given up.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.message import EmailMessage
from email.utils import parseaddr

import structlog
from sqlalchemy import select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from api.accounts import letters
from api.booking.states import BookingAction
from api.notices.feeds import mailed_calendar
from api.notices.inbox import items_of
from api.notices.keeping import new_mail
from api.notices.messages import compose
from api.notices.texts import render_letter
from api.notices.transports import MailDelayed, MailRefused, ServerDown, Transport
from api.schemas import rfc3339
from api.work import Work, system_actor
from store.alerts import clear_alert, raise_alert
from store.database import Database
from store.errors import StoreError
from store.tables.accounts import Letter, Person
from store.tables.notices import Mail, MailSource, MailState, Notice
from wire.clock import Clock, from_ms

_log = structlog.get_logger("openlab.postman")

ACTOR = "system:postman"
LEASE = timedelta(minutes=10)
BACK_OFF_FIRST = timedelta(minutes=1)
BACK_OFF_MOST = timedelta(hours=6)
ALERT_AFTER = 5
GIVE_UP_AFTER = 20
"""With BACK_OFF_MOST about three days."""
RULE_SERVER = "mail_server_failing"
RULE_ONE = "mail_not_delivered"
_ERROR_LENGTH = 500
_A = BookingAction
WITH_CALENDAR = frozenset({_A.CONFIRM, _A.MOVE, _A.SHORTEN, _A.DISPLACE, _A.CANCEL, _A.SCHEDULE, _A.UNSCHEDULE})
"""Notices that change what a calendar shows: their e-mails bring the booking along."""


@dataclass(frozen=True)
class Claimed:
    """An e-mail that is ours until the lease ends. `message` is None where there is nothing to send any more."""

    source: str
    source_id: str
    attempt: int
    message: EmailMessage | None
    refused: str = ""

    @property
    def name(self) -> str:
        return f"{self.source}.{self.source_id}"


class Postman:
    """Works through the outbox. `clock` stamps alerts and letters; `real_clock` judges what is due and ages tokens."""

    def __init__(
        self,
        database: Database,
        transport: Transport,
        clock: Clock,
        real_clock: Clock,
        *,
        sender: str,
        reset_for: timedelta,
        poll_s: float = 2.0,
    ) -> None:
        self._database, self._transport, self._clock, self._real = database, transport, clock, real_clock
        self._sender, self._reset_for, self._poll_s = sender, reset_for, poll_s

    def run(self, until: threading.Event) -> None:
        """Send until the event is set; survives a database or mail server that goes away."""
        failures = 0
        while not until.is_set():
            try:
                failures = 0 if self.run_once(until) else failures + 1
            except (SQLAlchemyError, StoreError) as error:
                failures += 1
                _log.warning("the database did not answer; trying again", error=str(error))
            except Exception:  # noqa: BLE001 - whatever it was is logged, and the others still have to be told
                failures += 1
                _log.exception("sending e-mail failed; trying again")
            until.wait(min(self._poll_s * 2 ** min(failures, 6), 60.0))

    def run_once(self, until: threading.Event | None = None) -> bool:
        """Send everything that is due; return whether the mail server was there for it."""
        self._adopt_letters()
        while until is None or not until.is_set():
            claimed = self._claim()
            if claimed is None:
                return True
            if not self._deliver(claimed):
                return False
        return True

    def _adopt_letters(self) -> None:
        """Put the letters of accounts that wait, and have an address, into the outbox."""
        known = select(Mail.source_id).where(Mail.source == MailSource.LETTER.value)
        wanted = select(Letter.letter_id).where(
            Letter.opened_at.is_(None), Letter.address != "", Letter.letter_id.not_in(known)
        )
        with self._database.read() as session:
            if session.scalars(wanted.limit(1)).first() is None:
                return
        with self._database.write() as session:
            work = self._work(session)
            for letter_id in session.scalars(wanted.limit(100).with_for_update(skip_locked=True)):
                session.add(new_mail(work, MailSource.LETTER, letter_id))

    def _claim(self) -> Claimed | None:
        """Take the next e-mail that is due. Its text is made here: a one-time token is in memory only from now on."""
        now = self._real_now()
        due = select(Mail).where(Mail.state == MailState.WAITING.value, Mail.next_at <= now).order_by(Mail.next_at)
        with self._database.read() as session:
            if session.scalars(due.limit(1)).first() is None:
                return None
        with self._database.write() as session:
            mail = session.scalars(due.limit(1).with_for_update(skip_locked=True)).first()
            if mail is None:
                return None
            mail.attempts += 1
            mail.next_at = now + LEASE
            refused, message = "", None
            try:
                message = self._message(self._work(session), mail)
            except (SQLAlchemyError, StoreError):
                raise
            except Exception as error:  # noqa: BLE001 - one that cannot be written must not keep back all others
                refused = f"{type(error).__name__}: {error}"
            return Claimed(mail.source, mail.source_id, mail.attempts, message, refused)

    def _message(self, work: Work, mail: Mail) -> EmailMessage | None:
        if mail.source == MailSource.LETTER.value:
            return self._letter(work, mail)
        session, calendar = work.session, None
        notice = session.get(Notice, mail.source_id)
        if notice is None:  # forgotten: nobody sent anything for longer than it is kept
            return None
        person = session.get_one(Person, notice.person_id)
        if not person.active or not person.email:
            return None
        if notice.booking_id is not None and notice.kind in WITH_CALENDAR:
            calendar = mailed_calendar(session, person, notice.booking_id, parseaddr(self._sender)[1])
        return compose(
            items_of(session, [notice], person.language)[0].text,
            mail_id=f"{mail.source}.{notice.notice_id}",
            sender=self._sender,
            name=person.name,
            address=person.email,
            language=person.language,
            at=self._real_now(),
            calendar=calendar,
        )

    def _letter(self, work: Work, mail: Mail) -> EmailMessage | None:
        stored = work.session.get(Letter, mail.source_id)
        if stored is None:
            return None
        if stored.opened_by == ACTOR:  # by a sender that died, or whose attempt failed
            letters.put_back(work.session, mail.source_id)
            work.session.flush()
        opened = letters.open_letter(work, mail.source_id, self._real_now(), reset_for=self._reset_for)
        if opened is None:
            return None
        until = "" if opened.expires_at is None else rfc3339(opened.expires_at)
        shown = opened.facts | {
            "name": opened.name,
            "login": opened.login,
            "secret": opened.secret or "",
            "until": until,
        }
        return compose(
            render_letter(opened.kind, shown, opened.language),
            mail_id=f"{mail.source}.{mail.source_id}",
            sender=self._sender,
            name=opened.name,
            address=opened.address,
            language=opened.language,
            at=self._real_now(),
        )

    def _deliver(self, claimed: Claimed) -> bool:
        """Send and mark an e-mail; return whether the mail server is there."""
        if claimed.message is None:
            state = MailState.GIVEN_UP if claimed.refused else MailState.DROPPED
            self._end(claimed, state, claimed.refused)
            return True
        try:
            self._transport.send(claimed.message)
        except MailRefused as error:
            self._end(claimed, MailState.GIVEN_UP, str(error))
        except MailDelayed as error:
            self._put_off(claimed, error, RULE_ONE, claimed.name)
        except ServerDown as error:
            self._put_off(claimed, error, RULE_SERVER, "mail")
            return False
        else:
            self._end(claimed, MailState.SENT, "")
        return True

    def _end(self, claimed: Claimed, state: MailState, said: str) -> None:
        values = {"state": state.value, "ended_at": self._real_now(), "last_error": said[:_ERROR_LENGTH]}
        with self._database.write() as session:
            if not self._mark(session, claimed, values):
                return
            if state is MailState.SENT:
                for rule, subject in ((RULE_SERVER, "mail"), (RULE_ONE, claimed.name)):
                    clear_alert(session, rule, subject, self._clock.now_ms(), "system")
            elif state is MailState.GIVEN_UP:
                self._give_back(session, claimed)
                raise_alert(session, RULE_ONE, claimed.name, said[:_ERROR_LENGTH], self._clock.now_ms(), "")
        if state is MailState.GIVEN_UP:
            _log.error("an e-mail cannot be delivered", mail=claimed.name, error=said)

    def _put_off(self, claimed: Claimed, error: Exception, rule: str, subject: str) -> None:
        said = str(error)[:_ERROR_LENGTH]
        if claimed.attempt >= GIVE_UP_AFTER:
            self._end(claimed, MailState.GIVEN_UP, said)
            return
        pause = min(BACK_OFF_FIRST * 2 ** (claimed.attempt - 1), BACK_OFF_MOST)
        with self._database.write() as session:
            if not self._mark(session, claimed, {"next_at": self._real_now() + pause, "last_error": said}):
                return
            self._give_back(session, claimed)
            if claimed.attempt >= ALERT_AFTER:
                raise_alert(session, rule, subject, said, self._clock.now_ms(), "")
        _log.warning(
            "an e-mail was not sent; trying again later", mail=claimed.name, attempt=claimed.attempt, error=said
        )

    def _mark(self, session: Session, claimed: Claimed, values: Mapping[str, object]) -> bool:
        """Write what became of an e-mail, unless its lease ended and somebody else has it."""
        ours = (
            Mail.source == claimed.source,
            Mail.source_id == claimed.source_id,
            Mail.attempts == claimed.attempt,
            Mail.state == MailState.WAITING.value,
        )
        marked = session.execute(update(Mail).where(*ours).values(**values).returning(Mail.source_id))
        return marked.one_or_none() is not None

    def _give_back(self, session: Session, claimed: Claimed) -> None:
        """A letter that was not sent is on the list again, so that an officer sees it and may say it in person."""
        if claimed.source == MailSource.LETTER.value:
            stored = session.get(Letter, claimed.source_id)
            if stored is not None and stored.opened_by == ACTOR:
                letters.put_back(session, claimed.source_id)

    def _work(self, session: Session) -> Work:
        return Work(session, system_actor("postman"), from_ms(self._clock.now_ms()))

    def _real_now(self) -> datetime:
        return from_ms(self._real.now_ms())
