"""What a person was told: listed, counted, marked as read, and made into text. Reads and writes their own rows only.

Called by the endpoints and, for the text, by the sender of e-mail.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, String, and_, func, select, true, update
from sqlalchemy.orm import Session

from api.errors import not_found
from api.notices.matters import matters_of
from api.notices.texts import Rendered, Told, render_notice
from api.pagination import PageAsked, read_cursor, write_cursor
from api.work import Work
from store.keyed import KEYS_AT_ONCE, keys_to_join
from store.periods import SHANGHAI
from store.tables.calendar import Booking, BookingEvent
from store.tables.notices import Notice, NoticeParty
from store.tables.registry import Instrument, Org

READ = "notices_read"
"""The event of the county's audit chain that somebody read a notice that is not about a booking, or all up to one."""


@dataclass(frozen=True)
class Item:
    """A notice with what it is about (`noun:id`) and its text."""

    notice: Notice
    subject: str
    text: Rendered


def listed(work: Work, page: PageAsked, *, only_unread: bool) -> tuple[list[Item], str | None]:
    """Return a page of the caller's notices: unread ones first, then read ones, each newest first.

    Raises 422 `bad_cursor`.
    """
    after = None if page.cursor is None else read_cursor(page.cursor, _checked)
    rows: list[Notice] = []
    for part in (False,) if only_unread else (False, True):
        if after is not None and after[0] and not part:
            continue
        here = select(Notice).where(_mine(work), Notice.read_at.is_not(None) if part else Notice.read_at.is_(None))
        if after is not None and bool(after[0]) == part:
            here = here.where(Notice.notice_id < after[1])
        left = page.limit + 1 - len(rows)
        if left > 0:
            rows += work.session.scalars(here.order_by(Notice.notice_id.desc()).limit(left))
    shown, more = rows[: page.limit], rows[page.limit :]
    cursor = write_cursor([int(shown[-1].read_at is not None), shown[-1].notice_id]) if more else None
    return items_of(work.session, shown, work.actor.language), cursor


def unread(work: Work) -> int:
    """Return how many notices the caller has not read."""
    wanted = select(func.count()).select_from(Notice).where(_mine(work), Notice.read_at.is_(None))
    return int(work.session.scalar(wanted) or 0)


def mark_read(work: Work, notice_id: str) -> Item:
    """Mark a notice of the caller as read; what was read stays so. Raises 404."""
    found = work.session.scalars(select(Notice).where(Notice.notice_id == notice_id, _mine(work))).one_or_none()
    if found is None:
        raise not_found("通知", "notice", notice_id)
    if found.read_at is None:
        found.read_at = work.now
        work.session.flush()
        if found.booking_id is None:
            _note(work, {"notice": notice_id})
    return items_of(work.session, [found], work.actor.language)[0]


def mark_all_read(work: Work, until: str | None) -> int:
    """Mark the caller's notices as read, those up to `until` (an id) where one is given; return how many are unread."""
    wanted = (_mine(work), Notice.read_at.is_(None), true() if until is None else Notice.notice_id <= until)
    newest = work.session.scalar(select(func.max(Notice.notice_id)).where(*wanted, Notice.booking_id.is_(None)))
    work.session.execute(
        update(Notice).where(*wanted).values(read_at=work.now), execution_options={"synchronize_session": False}
    )
    if newest is not None:
        _note(work, {"until": newest})
    return unread(work)


def _note(work: Work, what: dict[str, str]) -> None:
    # What was told of a statement or a decision, and seen, is evidence.
    work.audit(READ, f"inbox:{work.actor.person_id}", host_id=None, after=what)


def items_of(session: Session, notices: Sequence[Notice], language: str) -> list[Item]:
    """Return notices with their text in a language, in their order."""
    told: dict[tuple[str | None, int | None], Told] = {}
    keys = sorted({(one.booking_id, one.event_no or 0) for one in notices if one.booking_id is not None})
    for start in range(0, len(keys), KEYS_AT_ONCE):
        for row in session.execute(_facts_of(keys[start : start + KEYS_AT_ONCE])):
            told[row.booking_id, row.event_no] = Told(
                row.instrument_zh,
                row.instrument_en,
                booking_id=row.booking_id,
                reason=row.reason,
                firm_zh=row.firm_zh,
                firm_en=row.firm_en,
            )
    others = [one for one in notices if one.booking_id is None]
    matters = dict(zip((one.notice_id for one in others), matters_of(session, others, language), strict=True))
    return [
        Item(one, *matters[one.notice_id])
        if one.booking_id is None
        else Item(one, f"booking:{one.booking_id}", _text(one, told[one.booking_id, one.event_no], language))
        for one in notices
    ]


def _text(notice: Notice, told: Told, language: str) -> Rendered:
    facts, party = json.loads(notice.facts), NoticeParty(notice.party)
    asked = [facts.get(f"asked_{name}", facts[name]) for name in ("slot_from", "slot_to")]
    own = [facts["slot_from"], facts["slot_to"]]
    shown = replace(told, slot=_span(own), asked=_span(asked) if asked != own else "")
    if party is not NoticeParty.MANAGER:
        shown = replace(shown, firm_zh="", firm_en="")
    return render_notice(notice.kind, party, shown, language)


def _facts_of(keys: Sequence[tuple[str, int]]) -> Any:
    wanted = keys_to_join({"booking_id": String(), "event_no": BigInteger()}, keys)
    return (
        select(
            BookingEvent.booking_id,
            BookingEvent.event_no,
            BookingEvent.reason,
            Instrument.name_zh.label("instrument_zh"),
            Instrument.name_en.label("instrument_en"),
            Org.name_zh.label("firm_zh"),
            Org.name_en.label("firm_en"),
        )
        .join(
            wanted,
            and_(BookingEvent.booking_id == wanted.c.booking_id, BookingEvent.event_no == wanted.c.event_no),
        )
        .join(Booking, Booking.booking_id == BookingEvent.booking_id)
        .join(Instrument, Instrument.instrument_id == Booking.instrument_id)
        .join(Org, Org.org_id == Booking.payer_org)
    )


def _span(ends: Sequence[str]) -> str:
    start, end = (datetime.fromisoformat(text).astimezone(SHANGHAI) for text in ends)
    same_day = start.date() == end.date()
    return f"{start:%Y-%m-%d %H:%M} – {end:%H:%M}" if same_day else f"{start:%Y-%m-%d %H:%M} – {end:%Y-%m-%d %H:%M}"


def _mine(work: Work) -> ColumnElement[bool]:
    return Notice.__table__.c.person_id == work.actor.person_id


def _checked(values: list[object]) -> list[object]:
    if len(values) != 2 or values[0] not in (0, 1) or not isinstance(values[1], str):
        raise ValueError("not of this list")
    return values
