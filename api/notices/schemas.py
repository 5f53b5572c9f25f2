"""What the notices' endpoints take and give."""

from typing import Annotated

from pydantic import Field

from api.accounts.schemas import Language
from api.notices.inbox import Item
from api.notices.preferences import Wanted
from api.notices.texts import KINDS, kind_title
from api.schemas import Answer, Instant, Page, Question
from store.tables.notices import CalendarFeed, NoticeParty

Id = Annotated[str, Field(min_length=1, max_length=40)]


class NoticeAnswer(Answer):
    """One thing that somebody was told, in their language."""

    notice_id: str
    kind: str
    party: NoticeParty = Field(description="As what: the firm's, manager of the host, county officer, or about oneself")
    subject: str = Field(description="What it is about, `noun:id`: `booking:…`, `statement:…`, `reward_run:…`")
    booking_id: str | None = Field(description="Null where it is not about a booking")
    event_no: int | None
    title: str
    body: str
    at: Instant
    read_at: Instant | None

    @classmethod
    def of(cls, item: Item) -> "NoticeAnswer":
        notice = item.notice
        return cls(
            notice_id=notice.notice_id,
            kind=notice.kind,
            party=NoticeParty(notice.party),
            subject=item.subject,
            booking_id=notice.booking_id,
            event_no=notice.event_no,
            title=item.text.title,
            body=item.text.body,
            at=notice.at,
            read_at=notice.read_at,
        )


class Inbox(Page[NoticeAnswer]):
    """A page of notices, unread ones first. `unread` counts all, not only this page's."""

    unread: int


class ReadAsked(Question):
    """Which notices were read: all, or those up to one."""

    until: Id | None = Field(None, description="The newest notice that was shown; later ones stay unread")


class UnreadAnswer(Answer):
    """How many notices are unread."""

    unread: int


class KindShown(Answer):
    """A kind of notice, and whether it comes by e-mail too."""

    kind: str
    title: str
    email: bool


class PreferencesAnswer(Answer):
    """What the caller hears of. Every notice is in the inbox; e-mail goes to `email`, where one is known."""

    language: Language
    email: str | None
    firm_bookings: bool
    kinds: list[KindShown]
    row_version: int

    @classmethod
    def of(cls, wanted: Wanted) -> "PreferencesAnswer":
        language: Language = "en" if wanted.language == "en" else "zh"
        kinds = [
            KindShown(kind=kind, title=kind_title(kind, language), email=kind not in wanted.without_email)
            for kind in KINDS
        ]
        return cls(
            language=language,
            email=wanted.email,
            firm_bookings=wanted.firm_bookings,
            kinds=kinds,
            row_version=wanted.row_version,
        )


class PreferencesAsked(Question):
    """What the caller wants to hear of from now on."""

    language: Language
    firm_bookings: bool = Field(description="Also of bookings that others of the firm made")
    without_email: list[Annotated[str, Field(max_length=40)]] = Field(max_length=100, description="Kinds, see `kinds`")


class FeedAsked(Question):
    """A feed of one instrument, or (none named) of the caller's own bookings."""

    instrument_id: Id | None = None
    name: Annotated[str, Field(max_length=200)] = ""


class FeedAnswer(Answer):
    """A private calendar address. The address itself is shown once, when it is made or changed."""

    feed_id: str
    instrument_id: str | None
    name: str
    created_at: Instant
    revoked_at: Instant | None
    row_version: int


class FeedMade(FeedAnswer):
    """A feed with its address; `url` is null where the request is repeated."""

    url: str | None = Field(description="For a calendar program. Who has it reads the calendar: keep it private")

    @classmethod
    def of(cls, feed: CalendarFeed, url: str) -> "FeedMade":
        return cls(**FeedAnswer.model_validate(feed).model_dump(), url=url)
