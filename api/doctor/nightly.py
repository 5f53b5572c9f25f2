"""The nightly expiry, as a chore of the worker: each stream, and the samples, in a transaction of its own.

Composed in api.chores. What `openlab expire` refuses is told by an alert, for there is nobody who reads along.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from api.booking.due import ensure_due
from api.doctor.expiry import expire_samples, expire_stream
from api.work import Work
from store.alerts import clear_alert, host_of, raise_alert
from store.ledger import CannotFold, streams_with_old_ticks
from store.series import SeriesStore
from store.tables.calendar import DueKind
from wire.clock import to_ms

EXPIRE = "expire"
TICKS_KEPT = "ticks_kept"
_SAMPLES = "samples"


@dataclass(frozen=True)
class Expiry:
    """What is older than `days` goes, as far as it is settled."""

    series: SeriesStore
    days: int

    def plan(self, work: Work) -> None:
        """Leave on the worker's list what there is to do this night: the samples, and streams by `agent/stream`."""
        streams = streams_with_old_ticks(work.session, self._before(work))
        for part in (_SAMPLES, *("/".join(key) for key in streams)):
            ensure_due(work.session, DueKind.CHORE, f"{EXPIRE}:{part}", work.now)

    def do_part(self, work: Work, part: str) -> None:
        """Do one of them. A stream that would not verify without its ticks keeps them, and its host is told."""
        before, now_ms = self._before(work), to_ms(work.now)
        if part == _SAMPLES:
            expire_samples(work.session, self.series, to_ms(before), do_it=True)
            return
        agent, _, stream = part.partition("/")
        try:
            with work.session.begin_nested():
                expire_stream(work.session, (agent, stream), before, now_ms)
        except CannotFold as refused:
            raise_alert(work.session, TICKS_KEPT, part, str(refused), now_ms, host_of(work.session, agent))
        else:
            clear_alert(work.session, TICKS_KEPT, part, now_ms, "system")

    def _before(self, work: Work) -> datetime:
        return work.now - timedelta(days=self.days)
