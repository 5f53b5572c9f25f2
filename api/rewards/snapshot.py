"""The input of a run while it is being made: judged once, hashed, summed, and kept as lines until it is stored.

One pass over the facts: what was hashed is what is stored, whatever else is committed meanwhile. The lines go to a
temporary file beyond some megabytes, so memory does not grow with the number of charges.
"""

import hashlib
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO

from sqlalchemy.orm import Session

from api.rewards.computing import input_line, input_lines
from api.rewards.rules import Classified
from store.database import insert_lines
from store.tables.rewards import RewardInput

_IN_MEMORY_BYTES = 16 * 1024**2
_BYTES_AT_ONCE = 1024**2
_COLUMNS = ("charge_id", "host_id", "amount_fen", "eligible_fen", "reason")


class InputSums:
    """Count, hash and eligible sums of a run's input, row by row in code point order of the charge ids."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.count = 0
        self.bases: dict[str, int] = {}

    def add(self, row: Classified) -> bytes:
        """Take one row in; return its line."""
        line = input_line(row)
        self.add_lines(line, (row,))
        return line

    def add_lines(self, lines: bytes, rows: Sequence[Classified]) -> None:
        """Take rows in whose lines are at hand."""
        self._hash.update(lines)
        self.count += len(rows)
        bases = self.bases
        for _, host_id, _, eligible, _ in rows:
            try:
                bases[host_id] += eligible
            except KeyError:
                bases[host_id] = eligible

    @property
    def sha256(self) -> str:
        """Hash over all lines so far."""
        return self._hash.hexdigest()

    @property
    def base_fen(self) -> int:
        """Eligible sum of all hosts."""
        return sum(self.bases.values())


class Snapshot:
    """Judged rows between computing and storing; made by `snapshot`."""

    def __init__(self, file: IO[bytes], batches: Iterable[Sequence[Classified]]) -> None:
        self.sums = InputSums()
        self._file = file
        for rows in batches:
            lines = input_lines(rows)
            self.sums.add_lines(lines, rows)
            file.write(lines)

    def store(self, session: Session, run_id: str) -> None:
        """Insert all rows under a run that is there."""
        self._file.seek(0)
        insert_lines(session, RewardInput, ("run_id", run_id), _COLUMNS, self._blocks())

    def _blocks(self) -> Iterator[bytes]:
        while some := self._file.read(_BYTES_AT_ONCE):
            yield some + self._file.readline()


@contextmanager
def snapshot(batches: Iterable[Sequence[Classified]]) -> Iterator[Snapshot]:
    """Go once through judged rows; what they came to can be stored until the block ends."""
    with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES) as file:
        yield Snapshot(file, batches)
