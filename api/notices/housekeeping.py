"""What notices throw away: a chore of the worker, by its clock, in small bites, harmless to do twice.

Unread notices of bookings stay however old they are, and so does what waits to be sent. What happened is in the
booking's history, or in the audit chain.
"""

from datetime import timedelta

from sqlalchemy import and_, delete, or_, select, tuple_

from api.work import Work
from store.tables.notices import Mail, Notice

BITE = 5_000
MAIL_KEPT = timedelta(days=90)
"""After it was sent, dropped or given up."""
KEPT = timedelta(days=400)
"""After a notice of a booking was read, or one of another matter was written."""


def forget_old_notices(work: Work) -> None:
    """Forget e-mails that are done with and notices that are old, at most BITE of each."""
    key = (Mail.source, Mail.source_id)
    done = select(*key).where(Mail.ended_at < work.now - MAIL_KEPT).limit(BITE)
    work.session.execute(delete(Mail).where(tuple_(*key).in_(done)))
    of_matter = and_(Notice.booking_id.is_(None), Notice.at < work.now - KEPT)
    old = select(Notice.notice_id).where(or_(Notice.read_at < work.now - KEPT, of_matter)).limit(BITE)
    work.session.execute(delete(Notice).where(Notice.notice_id.in_(old)))
