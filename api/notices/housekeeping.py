"""What notices throw away: a chore of the worker, by its clock, in small bites, harmless to do twice.

Unread notices of bookings stay however old they are, and so does what waits to be sent. A notice of another matter is
its row of the outbox, which stays as long as the inbox shows it. What happened is in the booking's history, or in the
audit chain.
"""

from datetime import timedelta

from sqlalchemy import delete, or_, select, tuple_

from api.notices.matter_inbox import MATTERS_KEPT
from api.work import Work
from store.tables.notices import Mail, Notice

BITE = 5_000
MAIL_KEPT = timedelta(days=90)
"""After it was sent, dropped or given up."""
READ_KEPT = timedelta(days=400)
"""After a notice was read."""


def forget_old_notices(work: Work) -> None:
    """Forget e-mails that are done with and notices that were read long ago, at most BITE of each."""
    key = (Mail.source, Mail.source_id)
    # The key of a matter has parts (matters.py), that of a notice or letter is one id.
    forgotten = or_(Mail.source_id.not_like("%/%"), Mail.written_at < work.now - MATTERS_KEPT)
    done = select(*key).where(Mail.ended_at < work.now - MAIL_KEPT, forgotten).limit(BITE)
    work.session.execute(delete(Mail).where(tuple_(*key).in_(done)))
    read = select(Notice.notice_id).where(Notice.read_at < work.now - READ_KEPT).limit(BITE)
    work.session.execute(delete(Notice).where(Notice.notice_id.in_(read)))
