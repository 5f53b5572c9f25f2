"""Check-in by a code that is only at the instrument: the one posted there, or a short one shown for a single use.

Codes are kept as hashes; wrong ones are counted in the database, so that several servers count together. A wrong code
changes nothing but that count, and must therefore be answered from a transaction that commits (see the endpoint).
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.booking import repository
from api.booking.states import BookingAction, Party
from api.booking.steps import StepInput, parties_of, perform
from api.charging.access import require_host_role
from api.errors import Refused, stale
from api.schemas import rfc3339
from api.work import Work
from store.tables.booking_rules import CheckInCode, WrongCode
from store.tables.calendar import Booking
from wire.ids import new_ulid

ONE_TIME_FOR = timedelta(minutes=10)
WRONG_AT_MOST = 5
WRONG_WITHIN = timedelta(minutes=15)
_ONE_TIME_DIGITS = 6
_POSTED = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"
_POSTED_LENGTH = 8


@dataclass(frozen=True)
class IssuedCode:
    """A fresh code; it is shown this once and never again. `expires_at` None: until another one is posted."""

    code_id: str
    code: str
    expires_at: datetime | None


def issue_code(work: Work, instrument_id: str, one_time: bool) -> IssuedCode:
    """Make a code for an instrument: six digits for one check-in within 10 minutes, or a new one to post beside it,
    which ends the posted one before. By its lab manager. Refused: 404, 403.
    """
    instrument = repository.instrument_row(work.session, instrument_id, lock=True)
    require_host_role(work, instrument.host_id, (), "生成签到码", "make a check-in code")
    code_id = new_ulid()
    if one_time:
        code = f"{secrets.randbelow(10**_ONE_TIME_DIGITS):0{_ONE_TIME_DIGITS}d}"
    else:
        code = "".join(secrets.choice(_POSTED) for _ in range(_POSTED_LENGTH))
        for posted in _live(work.session, instrument_id, work.now):
            if not posted.one_time:
                posted.ended_at = work.now
    expires_at = work.now + ONE_TIME_FOR if one_time else None
    work.session.add(
        CheckInCode(
            code_id=code_id,
            instrument_id=instrument_id,
            one_time=one_time,
            code_sha256=_hash(code_id, code),
            issued_by=work.actor.person_id,
            issued_at=work.now,
            expires_at=expires_at,
            ended_at=None,
            used_for=None,
        )
    )
    work.session.flush()
    work.audit(
        "check_in_code.issued",
        f"instrument:{instrument_id}",
        host_id=instrument.host_id,
        after={"code_id": code_id, "one_time": int(one_time)},
    )
    return IssuedCode(code_id, code, expires_at)


def check_in(work: Work, booking_id: str, code: str, version: int) -> Booking | Refused:
    """Check in with a code. Returns the booking; or the refusal of a wrong code, which the caller commits and answers.

    Refused (raised): 404, 403, 412 stale, 409 as any check-in, 429 `too_many_wrong_codes`.
    """
    booking = repository.booking_row(work.session, work.actor, booking_id, lock=True)
    if booking.row_version != version:
        raise stale(booking.row_version, version)
    wrong = _wrong_lately(work.session, booking_id, work.now)
    if len(wrong) >= WRONG_AT_MOST:
        raise _too_many(wrong[-WRONG_AT_MOST] + WRONG_WITHIN, work.now)
    found = _matching(work.session, booking.instrument_id, code, work.now)
    if found is None:
        return _count_wrong(work, booking, WRONG_AT_MOST - len(wrong) - 1)
    done = perform(work, booking_id, BookingAction.CHECK_IN, StepInput(present=True), version)
    if found.one_time:
        found.ended_at, found.used_for = work.now, booking_id
        work.session.flush()
    return done


def _count_wrong(work: Work, booking: Booking, left: int) -> Refused:
    if not parties_of(work.actor, booking) & {Party.CUSTOMER, Party.MANAGER}:
        raise Refused(
            403,
            "forbidden",
            "只有预约单位可以签到;请用预约单位的账号签到。",
            "Only the firm that booked checks in; sign in as one of its people.",
        )
    work.session.add(
        WrongCode(attempt_id=new_ulid(), booking_id=booking.booking_id, person_id=work.actor.person_id, at=work.now)
    )
    work.session.flush()
    work.audit("check_in_code.wrong", f"booking:{booking.booking_id}", host_id=booking.host_id, after={"left": left})
    return Refused(
        403,
        "wrong_code",
        f"签到码不正确或已失效;还可尝试 {left} 次。请核对仪器旁的签到码,或请实验室管理员代为签到。",
        f"This is not the instrument's code, or it is over; {left} tries are left. Look at the code beside the"
        " instrument, or ask the lab manager to check you in.",
        tries_left=left,
    )


def _too_many(until: datetime, now: datetime) -> Refused:
    seconds = max(1, -((now - until) // timedelta(seconds=1)))
    return Refused(
        429,
        "too_many_wrong_codes",
        f"签到码多次错误;请在 {rfc3339(until)} 后重试,或请实验室管理员代为签到。",
        f"Too many wrong codes; try again after {rfc3339(until)}, or ask the lab manager to check you in.",
        retry_after_s=seconds,
        until=rfc3339(until),
    )


def _wrong_lately(session: Session, booking_id: str, now: datetime) -> list[datetime]:
    return list(
        session.scalars(
            select(WrongCode.at)
            .where(WrongCode.booking_id == booking_id, WrongCode.at > now - WRONG_WITHIN)
            .order_by(WrongCode.at)
        )
    )


def _live(session: Session, instrument_id: str, now: datetime) -> list[CheckInCode]:
    rows = session.scalars(
        select(CheckInCode)
        .where(CheckInCode.instrument_id == instrument_id, CheckInCode.ended_at.is_(None))
        .with_for_update()
    )
    return [row for row in rows if row.expires_at is None or row.expires_at > now]


def _matching(session: Session, instrument_id: str, code: str, now: datetime) -> CheckInCode | None:
    said = code.strip().upper()
    for row in _live(session, instrument_id, now):
        if hmac.compare_digest(row.code_sha256, _hash(row.code_id, said)):
            return row
    return None


def _hash(code_id: str, code: str) -> str:
    return hashlib.sha256(f"{code_id}:{code}".encode()).hexdigest()
