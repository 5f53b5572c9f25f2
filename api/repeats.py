"""Doing a thing once: Idempotency-Key for what creates, row versions (ETag, If-Match) for what edits.

Used through api.deps. The unit of work is the request's own, so the stored answer commits with its effect.
"""

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated

from fastapi import Depends, Header, Request, Response
from pydantic import BaseModel
from sqlalchemy import select

from api.errors import Refused, conflict, stale
from api.work import Work
from store.later import set_later
from store.tables.accounts import IdempotencyKey
from store.upsert import insert_if_absent

KEY_LENGTH_MAX = 200
NOT_COMPARED = frozenset({"password"})
"""Fields of a body that are no part of what is compared: even a digest of a password could be guessed from."""


class IdempotentCall:
    """Answers a creating request once: the answer is stored with the effect, in its transaction."""

    def __init__(self, request: Request, key: str, request_sha256: str) -> None:
        self._request, self._key, self._sha256 = request, key, request_sha256

    def __call__(
        self,
        produce: Callable[[], BaseModel],
        status: int = 201,
        kept: Callable[[BaseModel], BaseModel] | None = None,
    ) -> Response:
        """Run `produce` unless this key was answered before; then give the stored answer again.

        `kept` makes the form that is stored (and repeated) where the answer holds a secret. Same key with another
        body: 409 `idempotency_key_reused`. A refusal raised by `produce` stores nothing, so a repeat is judged anew.
        """
        work: Work = self._request.state.work
        where = {
            "principal": work.actor.person_id,
            "route": f"{self._request.method} {self._request.scope['route'].path}",
            "key": self._key,
        }
        # Claiming the key first makes a concurrent repeat wait here for the other's outcome, on every database.
        claim = {"request_sha256": self._sha256, "status": 0, "answer": b"", "created_at": work.now}
        if not insert_if_absent(work.session, IdempotencyKey, where | claim):
            return self._repeat(work, where)
        answer = produce()
        stored = kept(answer) if kept is not None else answer
        text = stored.model_dump_json()
        set_later(work.session, IdempotencyKey, where, {"status": status, "answer": text.encode()})
        work.session.flush()
        return tagged(answer, status, text if stored is answer else None)

    def _repeat(self, work: Work, where: dict[str, str]) -> Response:
        matches = [getattr(IdempotencyKey, name) == value for name, value in where.items()]
        row = work.session.execute(select(IdempotencyKey).where(*matches)).scalar_one()
        if row.request_sha256 != self._sha256:
            raise conflict(
                "idempotency_key_reused",
                "该 Idempotency-Key 已用于另一请求;请换一个新的。",
                "This Idempotency-Key was used for another request; take a new one.",
                key=self._key,
            )
        headers = {"Idempotency-Replayed": "true"}
        return Response(row.answer, row.status, headers, media_type="application/json")


async def once_of(
    request: Request,
    idempotency_key: Annotated[str | None, Header(max_length=KEY_LENGTH_MAX, description="A fresh random text")] = None,
) -> IdempotentCall:
    if not idempotency_key:
        raise Refused(
            400,
            "idempotency_key_missing",
            "请在请求头中给出 Idempotency-Key(任意随机串),以免重复提交。",
            "Give an Idempotency-Key header (any random text), so that a repeat is not done twice.",
        )
    body = await request.body()
    with suppress(ValueError, RecursionError):  # what is not JSON, or too deep to read, is compared byte for byte
        read = json.loads(body)
        if isinstance(read, dict):
            read = {name: value for name, value in read.items() if name not in NOT_COMPARED}
        body = json.dumps(read, sort_keys=True).encode()
    said = f"{request.url.path}?{request.url.query}\n".encode() + body
    return IdempotentCall(request, idempotency_key, hashlib.sha256(said).hexdigest())


Once = Annotated[IdempotentCall, Depends(once_of)]


def if_match_of(
    if_match: Annotated[str | None, Header(description='The ETag that was read, for example "3"')] = None,
) -> int:
    if not if_match:
        raise Refused(
            428,
            "if_match_missing",
            "请在请求头 If-Match 中给出读取时的版本号(ETag)。",
            "Give the version you read (its ETag) in an If-Match header.",
        )
    text = if_match.strip().removeprefix("W/").strip('"')
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise Refused(
            400,
            "if_match_unreadable",
            "If-Match 应为带引号的整数;请填写所读的版本号。",
            'If-Match is a number like "3"; give the ETag that you read.',
        )
    return int(text)


IfMatch = Annotated[int, Depends(if_match_of)]
"""The row version that an edit was made on. Hand it to `check_version` in the service."""


def check_version(found: int, given: int) -> None:
    """Raise 412 unless the row is still the one that was read."""
    if found != given:
        raise stale(found, given)


def tagged(answer: BaseModel, status: int = 200, text: str | None = None) -> Response:
    """Return an answer with its row version as ETag, where it has one. `text`: the answer as JSON, if it is known."""
    version = getattr(answer, "row_version", None)
    headers = {} if version is None else {"ETag": f'"{version}"'}
    return Response(text or answer.model_dump_json(), status, headers, media_type="application/json")
