"""What every endpoint is given: its unit of work (who, when, one transaction), idempotency and row versions.

    def confirm(work: Annotated[Work, writes(Role.LAB_MANAGER)], once: Once) -> Response: ...

The transaction is opened before the endpoint and COMMITTED BEFORE THE ANSWER IS SENT (`scope="function"`: with
FastAPI's default a commit that fails after the answer would leave the client with a success that never was).
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from fastapi import BackgroundTasks, Depends, Request
from fastapi.concurrency import contextmanager_in_threadpool
from sqlalchemy.orm import Session

from api.errors import Refused, forbidden
from api.limiting import Limiter
from api.registry.search import Catalogue
from api.repeats import IfMatch, Once, check_version, tagged
from api.security import PUBLIC_ACTOR, Credential, SignedIn, credential_of, not_signed_in, note_use, sign_in
from api.settings import Settings
from api.work import Actor, Work
from store.audit import COUNTY_CHAIN, append_audit_event
from store.database import Database
from store.series import SeriesStore
from store.tables.accounts import Role
from wire.clock import Clock, SystemClock, from_ms

READS_MAX, WRITES_MAX = 20, 4
"""Units of work at a time in one process. Fewer than the worker threads (40) and the database connections (40): one
that holds a lock always finds the thread to finish on, however many wait for it. Of writes only a few: more threads of
Python that take turns only make each other slower (24 gave 116 bookings a second where 4 gave 200)."""


__all__ = [
    "Access",
    "AppParts",
    "IfMatch",
    "Mode",
    "Once",
    "OpenToAll",
    "Parts",
    "PublicParts",
    "address_of",
    "check_version",
    "own_affairs",
    "parts_of",
    "public_reads",
    "public_writes",
    "reads",
    "tagged",
    "writes",
]


def address_of(request: Request) -> str:
    """Return the network address that a request came from; '' where there is none."""
    return request.client.host if request.client else ""


@dataclass(frozen=True)
class Parts:
    """What the API is made of. Built by composition roots only. `clock` is the demo's, `real_clock` the machine's."""

    settings: Settings
    database: Database
    series: SeriesStore
    clock: Clock
    limiter: Limiter
    real_clock: Clock = field(default_factory=SystemClock)
    catalogue: Catalogue = field(default_factory=Catalogue)

    def __post_init__(self) -> None:
        self.catalogue.speed = self.clock.speed

    def now(self) -> datetime:
        """The instant that facts are recorded with."""
        return from_ms(self.clock.now_ms())

    def real_now(self) -> datetime:
        """The instant that sign-ins and tokens are judged by."""
        return from_ms(self.real_clock.now_ms())


class Mode(StrEnum):
    """What an endpoint does to the database."""

    READ = "read"
    WRITE = "write"


def parts_of(request: Request) -> Parts:
    """Return the parts of the application that serves this request."""
    parts: Parts = request.app.state.parts
    return parts


async def _unit_slot() -> AsyncIterator[None]:
    yield


_Unit = tuple[Work, SignedIn | None]
_READ_SLOT = Depends(_unit_slot, scope="function", max_concurrency=READS_MAX)
_WRITE_SLOT = Depends(_unit_slot, scope="function", max_concurrency=WRITES_MAX)


@dataclass(frozen=True, eq=False)
class Access:
    """Who may call an endpoint, and its unit of work. One object a route; the route x role test reads it there.

    `roles` empty: everybody who is signed in (or, if `public`, everybody). `inactive_too`: also people whose
    organisation is not active, who otherwise read only. `apart`: a change whose transaction is the endpoint's own,
    because something slow comes first; `work` only reads.
    """

    mode: Mode
    roles: frozenset[Role]
    public: bool = False
    inactive_too: bool = False
    apart: bool = False

    @asynccontextmanager
    async def unit(self, request: Request, background: BackgroundTasks) -> AsyncIterator[Work]:
        """Open the unit of work of one request, in a slot that the caller has taken."""
        parts = parts_of(request)
        credential = credential_of(request) if not self.public else _credential_if_any(request)
        unit = self._reading if self.mode is Mode.READ else self._writing
        async with contextmanager_in_threadpool(unit(parts, credential, request)) as (work, signed_in):
            if signed_in is not None and signed_in.use_is_news:
                # After the answer: nobody waits for the write lock because a token was used.
                background.add_task(note_use, parts.database, signed_in.token_id, address_of(request), parts.real_now())
            request.state.work = work
            request.state.token_id = signed_in.token_id if signed_in else None
            yield work

    def allows(self, roles: frozenset[Role]) -> bool:
        """Whether somebody signed in with these roles may call the endpoint (its service may still refuse)."""
        return self.public or not self.roles or not self.roles.isdisjoint(roles)

    @contextmanager
    def _reading(self, parts: Parts, credential: Credential | None, request: Request) -> Iterator[_Unit]:
        with parts.database.read() as session:
            signed_in = _signed_in(parts, session, credential)
            self._admit(parts, signed_in, credential, request)
            yield _work(parts, session, signed_in), signed_in

    @contextmanager
    def _writing(self, parts: Parts, credential: Credential | None, request: Request) -> Iterator[_Unit]:
        # The caller is judged beforehand, so that nobody who may not write ever waits for the write lock.
        with parts.database.look() as session:
            signed_in = _signed_in(parts, session, credential)
        self._admit(parts, signed_in, credential, request)
        with parts.database.read() if self.apart else parts.database.write() as session:
            yield _work(parts, session, signed_in), signed_in

    def _admit(self, parts: Parts, signed_in: SignedIn | None, credential: Credential | None, request: Request) -> None:
        """Raise 401, 403 or 429 for a caller who may not."""
        if signed_in is None:
            if not self.public:
                raise not_signed_in()
            if self.mode is Mode.WRITE:
                parts.limiter.count_address(address_of(request))
            return
        if self.mode is Mode.WRITE:
            self._admit_write(parts, signed_in, credential, request)
        elif not self.public and "read" not in signed_in.actor.scopes:
            raise _scope_missing("read")
        if not self.allows(signed_in.actor.roles):
            if self.mode is Mode.WRITE:
                _audit_refusal(parts, signed_in.actor, request)
            raise self._role_missing()

    def _admit_write(self, parts: Parts, signed_in: SignedIn, credential: Credential | None, request: Request) -> None:
        parts.limiter.count_write(signed_in.actor.person_id)
        if "write" not in signed_in.actor.scopes:
            raise _scope_missing("write")
        if not (signed_in.may_change or self.inactive_too or self.public):
            raise Refused(
                403,
                "organisation_not_active",
                "贵单位尚未启用或已停用;请联系县科技局。",
                "Your organisation is not active; ask the county office.",
            )
        # A browser sends the cookie with any request, also one that another site's page makes. It never adds these
        # headers to such a request: a page of another origin would have to ask us first (CORS), and we say no.
        if (
            credential is not None
            and credential.from_cookie
            and not (request.headers.get("idempotency-key") or request.headers.get("if-match"))
        ):
            raise Refused(
                403,
                "csrf_header_missing",
                "页面登录的写操作请带 Idempotency-Key 或 If-Match 请求头。",
                "A write with the session cookie needs one of two headers; send an Idempotency-Key or If-Match.",
            )

    def _role_missing(self) -> Refused:
        listed = ", ".join(sorted(self.roles))
        return forbidden(
            f"您没有权限执行此操作,需要角色:{listed};请联系有该角色的人员。",
            f"This takes one of these roles: {listed}; ask somebody who has it.",
            roles=sorted(self.roles),
        )


class _Reads(Access):
    async def __call__(
        self, request: Request, background: BackgroundTasks, slot: Annotated[None, _READ_SLOT]
    ) -> AsyncIterator[Work]:
        async with self.unit(request, background) as work:
            yield work


class _Writes(Access):
    async def __call__(
        self, request: Request, background: BackgroundTasks, slot: Annotated[None, _WRITE_SLOT]
    ) -> AsyncIterator[Work]:
        async with self.unit(request, background) as work:
            yield work


def _signed_in(parts: Parts, session: Session, credential: Credential | None) -> SignedIn | None:
    return None if credential is None else sign_in(session, credential, parts.real_now())


def _work(parts: Parts, session: Session, signed_in: SignedIn | None) -> Work:
    return Work(session, PUBLIC_ACTOR if signed_in is None else signed_in.actor, parts.now())


def reads(*roles: Role) -> Any:
    """A read-only unit for people with one of `roles`, auditors included; without roles, for everybody signed in."""
    return _depends(_Reads(Mode.READ, frozenset(roles) | ({Role.AUDITOR} if roles else frozenset())))


def writes(*roles: Role) -> Any:
    """A changing unit for people with one of `roles`; without roles, for everybody signed in (their own affairs).

    Raises ValueError for auditors: they read all and write nothing.
    """
    if Role.AUDITOR in roles:
        raise ValueError("an auditor writes nothing")
    return _depends(_Writes(Mode.WRITE, frozenset(roles)))


def own_affairs(*, apart: bool = False) -> Any:
    """A changing unit for everybody signed in, also while their organisation is pending or suspended: signing out, a
    new password, taking back one's own tokens. `apart`: see Access."""
    return _depends(_Writes(Mode.WRITE, frozenset(), inactive_too=True, apart=apart))


def public_reads() -> Any:
    """A read-only unit for everybody; `work.actor` is the caller where they are signed in."""
    return _depends(_Reads(Mode.READ, frozenset(), public=True))


def public_writes() -> Any:
    """A changing unit for everybody, counted an address like sign-ins (a registration, for example)."""
    return _depends(_Writes(Mode.WRITE, frozenset(), public=True))


def _depends(access: _Reads | _Writes) -> Any:
    return Depends(access, scope="function")


class OpenToAll:
    """Marks an endpoint that everybody may call and that keeps its own transactions (signing in)."""

    def __call__(self, request: Request) -> Parts:
        return parts_of(request)


PublicParts = Annotated[Parts, Depends(OpenToAll())]
AppParts = Annotated[Parts, Depends(parts_of)]
"""For what is not in the ledger: the series store and the settings."""


def _credential_if_any(request: Request) -> Credential | None:
    # An expired cookie or a strange header does not keep anybody from a public page.
    try:
        return credential_of(request)
    except Refused:
        return None


def _scope_missing(scope: str) -> Refused:
    return Refused(
        403,
        "scope_missing",
        f"该令牌没有“{scope}”权限;请新建一个带此权限的令牌(POST /tokens)。",
        f"This token does not have the scope {scope!r}; make another that has it (POST /tokens).",
        scope=scope,
    )


def _audit_refusal(parts: Parts, actor: Actor, request: Request) -> None:
    with parts.database.write() as session:
        append_audit_event(
            session,
            chain_id=COUNTY_CHAIN,
            at=parts.now(),
            actor=actor.person_id,
            action="refused",
            subject=f"{request.method} {request.url.path}"[:300],
        )
