"""One stream's window on its way to the gateway: what was sent, what is repeated, what was asked for again.

Used by the sender, on the agent's stepping thread. Knows the spool and no connection; times are the machine's own.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edge_agents.outbox import AckOutcome, Outbox, Row
from wire.commands import not_kept_record
from wire.messages import Ack, StreamKind, encode
from wire.topics import Channel

WINDOW = 100
ASKED_WINDOW = 100
"""Room of its own for what was asked for again: rows behind a hole stay in the air until it is filled, and must not
keep from being sent what fills it."""
WINDOW_BYTES = 80 * 1024
"""What a link of 64 kbit/s carries in ten seconds, well within the patience below: a row that waits behind others is
not lost. A hundred usage records fit."""
SMALL_ROW_BYTES = 400
RESEND_AFTER_S = 30.0
RESEND_AT_MOST_EVERY_S = 300.0
NOT_ACCEPTED_AFTER_S = 300.0
HOLE_RESEND_AFTER_S = 2.0


@dataclass(frozen=True)
class Replay:
    """What a replay will bring: how many rows as they are, and the ranges that are no longer kept."""

    kept: int
    gone: tuple[tuple[int, int], ...]


@dataclass
class _Flight:
    """A row on its way. `first` is when it was first sent since a gateway was last known to be there."""

    first: float
    sent: float
    due: float
    tries: int
    asked: bool = False
    size: int = 0


class Lane:
    """One stream's window: which rows were sent and not acknowledged, and when to send them again."""

    def __init__(self, outbox: Outbox, channel: Channel) -> None:
        self.outbox = outbox
        self.channel = channel
        self.cursor = outbox.upto
        self.flights: dict[int, _Flight] = {}
        self.complained = False
        self.doubted = False
        self.refused = ""
        self._fell_back = False
        self._asked: deque[tuple[int, int]] = deque()
        self._gone: set[int] = set()

    def rewind(self) -> None:
        """Start again from the first row that is not acknowledged. What was asked for beside these stays asked for."""
        self.cursor = self.outbox.upto
        again = sorted(seq for seq in self.flights if seq in self._gone or seq <= self.cursor)
        self._asked.extendleft((seq, seq) for seq in reversed(again))
        self.flights.clear()
        self._gone.clear()

    def replay(self, ranges: Sequence[tuple[int, int]]) -> Replay:
        """Take up a wish to send rows again, also those that were acknowledged.

        Of usage every number is answered: with the row, or with the record that stands for one nobody has any more.
        """
        first_kept, asked, gone = self.outbox.first_kept, [], []
        for first, last in ranges:
            # What is kept and lies above the cursor has not been sent yet and will be.
            last = min(last, max(self.cursor, first_kept - 1))
            if first > last:
                continue
            asked.append((first, last))
            if first < first_kept:
                gone.append((first, min(last, first_kept - 1)))
        self._asked = deque(asked)
        wanted = sum(last - first + 1 for first, last in asked)
        return Replay(wanted - sum(last - first + 1 for first, last in gone), tuple(gone))

    def acknowledged(self, ack: Ack, now: float, now_ms: int) -> AckOutcome:
        """Take the gateway's word. That it has less than it had is believed when it is said twice in a row: several
        connections carry acknowledgements, and one can be overtaken by a newer one."""
        if self.outbox.falls_back(ack) and not self._fell_back:
            self._fell_back = True
            return AckOutcome.DOUBTED
        before = self.outbox.upto
        outcome = self.outbox.acknowledge(ack, now_ms)
        self.doubted = self.doubted and outcome is not AckOutcome.TAKEN
        if outcome is AckOutcome.REWOUND:
            self._fell_back = False
            self.rewind()
        elif outcome is AckOutcome.TAKEN:
            self._fell_back = False
            self.flights = {seq: f for seq, f in self.flights.items() if not self.outbox.is_acknowledged(seq)}
            self._gone &= self.flights.keys()
            self.cursor = max(self.cursor, self.outbox.upto)
            if self.outbox.upto > before:
                # The link is slow, not dead: a row that was lost would have stopped the mark, or be named as a hole.
                for flight in self.flights.values():
                    flight.due = max(flight.due, now + RESEND_AFTER_S)
            for start, end in ack.holes:
                for seq in range(max(start, self.outbox.first_kept), min(end, self.cursor, start + WINDOW) + 1):
                    # Asked for again. Not at once: it may be what we sent a moment ago.
                    flight = self.flights.setdefault(seq, _Flight(now, now, now, 0))
                    flight.due = min(flight.due, flight.sent + HOLE_RESEND_AFTER_S)
            if self.outbox.upto > before:
                self.complained, self.refused = False, ""
        return outcome

    def due(self, now: float) -> Iterator[Row]:
        """Rows to send now: those to be repeated first, then those asked for, then new ones, each in its window."""
        for seq in sorted(seq for seq, flight in self.flights.items() if flight.due <= now):
            row = self.outbox.row(seq) or (self._stand_in(seq) if seq in self._gone else None)
            if row is None:
                del self.flights[seq]
            else:
                yield row
        yield from self._asked_for(now)
        in_air = [flight.size for flight in self.flights.values() if not flight.asked]
        room, room_bytes = WINDOW - len(in_air), WINDOW_BYTES - sum(in_air)
        if room <= 0 or room_bytes <= 0 or self.cursor >= self.outbox.last_seq:
            return
        for row in self.outbox.rows(self.cursor, min(room, 1 + room_bytes // SMALL_ROW_BYTES)):
            if self.outbox.is_acknowledged(row.seq):
                self.cursor = row.seq
                continue
            if room_bytes < len(row.payload) and room_bytes < WINDOW_BYTES:
                return
            room_bytes -= len(row.payload)
            yield row

    def _asked_for(self, now: float) -> Iterator[Row]:
        room = ASKED_WINDOW - sum(flight.asked for flight in self.flights.values())
        while self._asked and room > 0:
            seq, last = self._asked.popleft()
            if seq < last:
                self._asked.appendleft((seq + 1, last))
            row = self.outbox.row(seq)
            if row is None and self.outbox.kind is StreamKind.USAGE:
                row = self._stand_in(seq)
                self._gone.add(seq)
            if row is not None and seq not in self.flights:
                self.flights[seq] = _Flight(now, now, now, 0, asked=True)
                room -= 1
                yield row

    def _stand_in(self, seq: int) -> Row:
        record = not_kept_record(self.outbox.stream, seq)
        return Row(seq, record.inst, encode(record))

    def sent(self, row: Row, now: float) -> None:
        """Note that a row is on its way."""
        flight = self.flights.get(row.seq)
        if flight is None:
            self.flights[row.seq] = _Flight(now, now, now + RESEND_AFTER_S, 1, size=len(row.payload))
            self.cursor = max(self.cursor, row.seq)
        else:
            flight.tries += 1
            flight.sent = now
            flight.due = now + min(RESEND_AFTER_S * 2 ** (flight.tries - 1), RESEND_AT_MOST_EVERY_S)

    def not_accepted(self, now: float) -> int | None:
        """The first row that was sent again and again in vain; told once until something is acknowledged."""
        if self.complained:
            return None
        late = [seq for seq, flight in self.flights.items() if now - flight.first >= NOT_ACCEPTED_AFTER_S]
        if not late:
            return None
        self.complained = True
        return min(late)
