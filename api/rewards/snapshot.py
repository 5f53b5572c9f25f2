"""The input of a run while it is being made: judged once, hashed, summed, and kept as lines until it is stored.

One pass over the facts: what was hashed is what is stored, whatever else is committed meanwhile. The lines go to a
temporary file beyond some megabytes, so memory does not grow with the number of charges.
"""

import hashlib
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import IO

from sqlalchemy import insert
from sqlalchemy.orm import Session

from api.rewards.computing import input_line, read_input_line
from api.rewards.repository import ROWS_AT_ONCE
from api.rewards.rules import Classified
from store.tables.rewards import RewardInput

_IN_MEMORY_BYTES = 16 * 1024**2


class InputSums:
    """Count, hash and eligible sums of a run's input, row by row in code point order of the charge ids."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.count = 0
        self.bases: dict[str, int] = {}

    def add(self, row: Classified) -> bytes:
        """Take one row in; return its line."""
        line = input_line(row)
        self._hash.update(line)
        self.count += 1
        self.bases[row.host_id] = self.bases.get(row.host_id, 0) + row.eligible_fen
        return line

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

    def __init__(self, file: IO[bytes], rows: Iterable[Classified]) -> None:
        self.sums = InputSums()
        self._file = file
        for row in rows:
            file.write(self.sums.add(row))

    def store(self, session: Session, run_id: str) -> None:
        """Insert all rows under a run that is there."""
        self._file.seek(0)
        rows = map(read_input_line, self._file)
        while some := [{"run_id": run_id} | row._asdict() for row in islice(rows, ROWS_AT_ONCE)]:
            session.execute(insert(RewardInput), some)


@contextmanager
def snapshot(rows: Iterable[Classified]) -> Iterator[Snapshot]:
    """Go once through judged rows; what they came to can be stored until the block ends."""
    with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES) as file:
        yield Snapshot(file, rows)
