"""What notices throw away: a chore of the worker, by its clock, in small bites, harmless to do twice.

Unread notices stay however old they are, and so does what waits to be sent. What happened is in the booking's history.
"""

from datetime import timedelta

from sqlalchemy import delete, select, tuple_

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
    done = select(*key).where(Mail.ended_at < work.now - MAIL_KEPT).limit(BITE)
    work.session.execute(delete(Mail).where(tuple_(*key).in_(done)))
    read = select(Notice.notice_id).where(Notice.read_at < work.now - READ_KEPT).limit(BITE)
    work.session.execute(delete(Notice).where(Notice.notice_id.in_(read)))
