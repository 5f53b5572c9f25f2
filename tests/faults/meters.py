"""The meter of a test: whatever a file says, now. A line like `4200`, or nothing for a meter that does not answer."""

import os
from pathlib import Path


def watts() -> float | None:
    """Read by the `callable` driver as `tests.faults.meters:watts`."""
    text = Path(os.environ["OPENLAB_TEST_METER"]).read_text().strip()
    return float(text) if text else None
