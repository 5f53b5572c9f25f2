"""Secrets that open one thing once: password resets and invitations. Kept hashed, in real time.

All tokens of a subject are spent together, so a second letter or one made by hand cannot be used after the first.
"""

from datetime import datetime, timedelta

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from api.errors import Refused, invalid
from api.security import new_token, token_hash
from store.tables.accounts import OneTimeToken, TokenPurpose


def issue(
    session: Session, purpose: TokenPurpose, subject_id: str, *, by: str, real_now: datetime, good_for: timedelta
) -> tuple[str, datetime]:
    """Make a token and return it, the only copy, with the end of its life. Earlier ones of the subject stay good."""
    secret, expires_at = new_token(), real_now + good_for
    session.add(
        OneTimeToken(
            token_sha256=token_hash(secret),
            purpose=purpose.value,
            subject_id=subject_id,
            issued_by=by,
            issued_at=real_now,
            expires_at=expires_at,
            used_at=None,
        )
    )
    session.flush()
    return secret, expires_at


def look(session: Session, purpose: TokenPurpose, secret: str, real_now: datetime) -> str:
    """Return what a token is for, without spending it. Raises 422 `token_not_valid`: unknown, used or expired alike."""
    subject_id = session.scalar(
        select(OneTimeToken.subject_id).where(
            OneTimeToken.token_sha256 == token_hash(secret),
            OneTimeToken.purpose == purpose.value,
            OneTimeToken.used_at.is_(None),
            OneTimeToken.expires_at > real_now,
        )
    )
    if subject_id is None:
        raise not_valid()
    return subject_id


def spend(session: Session, purpose: TokenPurpose, secret: str, real_now: datetime) -> str:
    """Spend a token with all others of its subject, in the caller's transaction; return the subject.

    Of several that spend at the same time one does, whichever tokens they hold. Raises as `look`.
    """
    subject_id = look(session, purpose, secret, real_now)
    # Always in the same order: two tokens of one subject that are spent at once wait, and do not lock each other out.
    session.execute(
        select(OneTimeToken.token_sha256)
        .where(OneTimeToken.purpose == purpose.value, OneTimeToken.subject_id == subject_id)
        .order_by(OneTimeToken.token_sha256)
        .with_for_update()
    ).all()
    look(session, purpose, secret, real_now)
    void(session, purpose, subject_id, real_now)
    return subject_id


def void(session: Session, purpose: TokenPurpose, subject_id: str, real_now: datetime) -> None:
    """Make every token of a subject worthless."""
    session.execute(
        update(OneTimeToken)
        .where(
            OneTimeToken.purpose == purpose.value,
            OneTimeToken.subject_id == subject_id,
            OneTimeToken.used_at.is_(None),
        )
        .values(used_at=real_now)
    )


def not_valid() -> Refused:
    """422 for any token that opens nothing; never says why."""
    return invalid(
        "token_not_valid",
        "该一次性口令无效、已使用或已过期;请重新申请。",
        "This token is not valid, was used or has expired; ask for a new one.",
        field="token",
    )
