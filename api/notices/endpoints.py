"""HTTP of notices and calendars: one's own inbox, preferences and feeds; the calendar file of a booking."""

from datetime import UTC
from email.utils import format_datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from pydantic import BaseModel

from api.deps import IfMatch, Once, own_affairs, public_reads, reads, tagged
from api.notices import feeds, inbox, preferences, schemas
from api.notices.ics import MEDIA_TYPE
from api.pagination import WantedPage
from api.parameters import any_parameters
from api.problems import problems
from api.schemas import Page
from api.work import Work
from store.tables.accounts import Role

router = APIRouter(tags=["notices"])

_READERS = (Role.SME, Role.LAB_MANAGER, Role.COUNTY_OFFICER, Role.FINANCE, Role.ADMIN)
_ICS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/calendar": {"schema": {"type": "string"}}}, "description": "The calendar"},
    304: {"description": "What `If-None-Match` names is still the newest"},
}
IfNoneMatch = Annotated[str | None, Header(max_length=1000, description="The ETag that was read")]
NoticeId = Annotated[str, Path(max_length=40)]
FeedId = Annotated[str, Path(max_length=40)]


@router.get("/inbox", summary="What the caller was told, unread first")
def list_notices(
    work: Annotated[Work, reads()],
    page: WantedPage,
    unread: Annotated[bool, Query(description="Only what was not read yet")] = False,
) -> schemas.Inbox:
    """In the caller's language. Bookings of their own, of their firm where they asked for it, and of their host."""
    items, cursor = inbox.listed(work, page, only_unread=unread)
    shown = [schemas.NoticeAnswer.of(item) for item in items]
    return schemas.Inbox(items=shown, next_cursor=cursor, unread=inbox.unread(work))


@router.post("/inbox/read", status_code=200, response_model=schemas.UnreadAnswer, summary="Mark what was shown as read")
def mark_all_read(asked: schemas.ReadAsked, work: Annotated[Work, own_affairs()], once: Once) -> Response:
    """Everything, or up to the newest notice that was shown. Answers how many are unread still."""
    return once(lambda: schemas.UnreadAnswer(unread=inbox.mark_all_read(work, asked.until)), status=200)


@router.put("/inbox/{notice_id}/read", summary="Mark a notice as read", responses=problems(404))
def mark_read(notice_id: NoticeId, work: Annotated[Work, own_affairs()]) -> schemas.NoticeAnswer:
    """Once read it stays read, however often this is said."""
    return schemas.NoticeAnswer.of(inbox.mark_read(work, notice_id))


@router.get("/notices/preferences", response_model=schemas.PreferencesAnswer, summary="What the caller hears of")
def show_preferences(work: Annotated[Work, reads()]) -> Response:
    """Language, every kind of notice with whether it is mailed, and whose bookings."""
    return tagged(schemas.PreferencesAnswer.of(preferences.of_caller(work)))


@router.put("/notices/preferences", response_model=schemas.PreferencesAnswer, summary="Change what one hears of")
def change_preferences(
    asked: schemas.PreferencesAsked, work: Annotated[Work, own_affairs()], version: IfMatch
) -> Response:
    """The language is that of everything that is shown to the caller. E-mails that wait are sent still."""
    muted = frozenset(asked.without_email)
    return tagged(
        schemas.PreferencesAnswer.of(preferences.change(work, asked.language, muted, asked.firm_bookings, version))
    )


@router.get("/feeds", summary="The caller's private calendar addresses")
def list_feeds(work: Annotated[Work, reads()], page: WantedPage) -> Page[schemas.FeedAnswer]:
    """Without the addresses: those are shown when they are made, and kept as hashes only."""
    rows, cursor = feeds.listed(work, page)
    return Page(items=[schemas.FeedAnswer.model_validate(row) for row in rows], next_cursor=cursor)


@router.post(
    "/feeds",
    status_code=201,
    response_model=schemas.FeedMade,
    summary="Make a private calendar address",
    responses=problems(404, 409),
)
def make_feed(asked: schemas.FeedAsked, request: Request, work: Annotated[Work, own_affairs()], once: Once) -> Response:
    """Of one's own bookings (a lab manager's: the host's), or of an instrument, where others' bookings show as busy."""

    def make() -> schemas.FeedMade:
        feed, secret = feeds.make(work, asked.instrument_id, asked.name)
        return schemas.FeedMade.of(feed, _url(request, secret))

    return once(make, kept=_without_url)


@router.post(
    "/feeds/{feed_id}/rotation",
    status_code=201,
    response_model=schemas.FeedMade,
    summary="Give a feed another address",
    responses=problems(404),
)
def rotate_feed(feed_id: FeedId, request: Request, work: Annotated[Work, own_affairs()], once: Once) -> Response:
    """The old address answers 404 from now on."""

    def rotate() -> schemas.FeedMade:
        feed, secret = feeds.rotate(work, feed_id)
        return schemas.FeedMade.of(feed, _url(request, secret))

    return once(rotate, kept=_without_url)


@router.delete("/feeds/{feed_id}", status_code=204, summary="Close a private calendar address", responses=problems(404))
def revoke_feed(feed_id: FeedId, work: Annotated[Work, own_affairs()], version: IfMatch) -> Response:
    """For good; a new one is made with POST /feeds."""
    feeds.revoke(work, feed_id, version)
    return Response(status_code=204)


@router.get(
    "/calendars/{secret}.ics",
    summary="Read a private calendar feed",
    response_class=Response,
    responses=_ICS | problems(404),
    dependencies=[Depends(any_parameters)],
)
def read_feed(
    secret: Annotated[str, Path(max_length=100, description="From the address of a feed")],
    work: Annotated[Work, public_reads()],
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Whoever has the address: a calendar program cannot sign in. 30 days back and a year ahead; cancelled ones stay
    in it, marked. Ask again with the ETag to hear whether anything changed."""
    return _calendar(feeds.read(work.session, secret, work.now), if_none_match, "openlab.ics")


@router.get(
    "/bookings/{booking_id}/calendar.ics",
    summary="A booking as a calendar file",
    response_class=Response,
    responses=_ICS | problems(404, 409),
)
def booking_calendar(
    booking_id: Annotated[str, Path(max_length=40)],
    work: Annotated[Work, reads(*_READERS)],
    if_none_match: IfNoneMatch = None,
) -> Response:
    """For any calendar program. Import it again after a change: it is the same event with a higher SEQUENCE."""
    return _calendar(feeds.of_booking(work, booking_id), if_none_match, "booking.ics")


def _calendar(file: feeds.CalendarFile, if_none_match: str | None, name: str) -> Response:
    headers = {"ETag": file.etag, "Cache-Control": "private, no-cache"}
    if file.changed_at is not None:
        headers["Last-Modified"] = format_datetime(file.changed_at.astimezone(UTC), usegmt=True)
    if if_none_match is not None:
        known = {one.strip().removeprefix("W/") for one in if_none_match.split(",")}
        if file.etag in known or "*" in known:
            return Response(status_code=304, headers=headers)
    headers["Content-Disposition"] = f'inline; filename="{name}"'
    return Response(file.content, media_type=MEDIA_TYPE, headers=headers)


def _url(request: Request, secret: str) -> str:
    return str(request.url_for("read_feed", secret=secret))


def _without_url(made: BaseModel) -> BaseModel:
    return made.model_copy(update={"url": None})
