"""Teaching a running agent: readings are kept while somebody watches and says what the instrument does.

Marks come as commands (start, stop, learn, cancel). The recording lives in memory only: whoever teaches stands beside
the instrument, and after a restart begins again. Learning runs on a thread of its own, because readings do not wait.

A recording outlives `learn`: an answer that was lost is had again by another `learn`, and one that taught nothing goes
on with more intervals. It ends with `cancel`, or with the first `start` behind a lesson that was learnt.
"""

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from edge_agents.commands import Refusal
from edge_agents.power_curve import LONGEST_HELD_MS
from edge_agents.records import Sample
from edge_agents.teaching import Label, LabelState, Teaching, teach
from wire.commands import TeachArgs

MAX_SAMPLES = 100_000
MAX_LABELS = 500


@dataclass
class _Recording:
    samples: list[tuple[int, float]] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)
    open: tuple[int, LabelState] | None = None
    lesson: "Future[Teaching] | None" = None

    @property
    def is_over(self) -> bool:
        """Whether a lesson was learnt from it, or is being learnt; one that failed leaves it open for more."""
        return self.lesson is not None and not (self.lesson.done() and self.lesson.exception() is not None)

    def close(self, at_ms: int) -> None:
        if self.open is not None:
            start, state = self.open
            if len(self.samples) >= MAX_SAMPLES:
                at_ms = min(at_ms, self.samples[-1][0])
            # A mark that was corrected before the meter answered says nothing; that a meter is silent has to be told.
            if at_ms - start > LONGEST_HELD_MS or (self.samples and self.samples[-1][0] >= start and at_ms > start):
                self.labels.append(Label(start, at_ms, state))
        self.open = None


@dataclass(frozen=True)
class Noted:
    """What a mark came to: the seconds recorded and how many intervals are labelled so far."""

    recorded_s: int
    labels: int


class LiveTeaching:
    """Recordings of the instruments of one agent, by instrument. One thread."""

    def __init__(self) -> None:
        self._recordings: dict[str, _Recording] = {}
        self._pool: ThreadPoolExecutor | None = None

    def saw(self, inst: str, sample: Sample) -> None:
        """Take a good reading; kept only while that instrument is being taught."""
        recording = self._recordings.get(inst)
        if recording is None or recording.is_over or (recording.samples and sample.mono_ms <= recording.samples[-1][0]):
            return
        if len(recording.samples) < MAX_SAMPLES:
            recording.samples.append((sample.mono_ms, sample.power_w))

    def mark(self, wanted: TeachArgs, now_ms: int) -> Noted | Refusal:
        """Take a mark other than `learn`. `now_ms` is monotonic. A start ends the interval before it."""
        if wanted.mark == "cancel":
            gone = self._recordings.pop(wanted.inst, None)
            return Noted(0, 0) if gone is not None else _nothing(wanted.inst)
        if wanted.mark == "start":
            before = self._recordings.get(wanted.inst)
            recording = _Recording() if before is None or before.is_over else before
            self._recordings[wanted.inst] = recording
            recording.close(now_ms)
            if len(recording.samples) >= MAX_SAMPLES or len(recording.labels) >= MAX_LABELS:
                return Refusal("recording_full", "the recording is as long as it may be: learn or cancel")
            recording.open = (now_ms, LabelState(wanted.state or ""))
        else:
            found = self._recordings.get(wanted.inst)
            if found is None or found.open is None:
                return Refusal("nothing_started", f"no interval of {wanted.inst} was started")
            found.close(now_ms)
            recording = found
        first = recording.samples[0][0] if recording.samples else now_ms
        return Noted((now_ms - first) // 1000, len(recording.labels))

    def learn(self, inst: str, now_ms: int) -> "Future[Teaching] | Refusal":
        """Begin to learn from what was recorded; an open interval ends. The future may raise CannotTeach."""
        recording = self._recordings.get(inst)
        if recording is None:
            return _nothing(inst)
        recording.close(now_ms)
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="teach")
        recording.lesson = self._pool.submit(teach, list(recording.samples), list(recording.labels))
        return recording.lesson

    def close(self) -> None:
        """Forget everything; a lesson that is being learnt ends by itself, unheard."""
        self._recordings.clear()
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None


def _nothing(inst: str) -> Refusal:
    return Refusal("nothing_started", f"{inst} is not being taught")
