"""Read a session's odometer points out of its records. Pure.

Called by matching_service. A record states one interval that ends at its wall label `ts`; the odometers tell how long
it was. Where the wall clock went forward in between, the instrument stood still for the label's jump; where it went
back, labels are held until they rise again: the odometers decide how much, the labels only when.
"""

from collections.abc import Iterable

from api.booking.matching import OdometerPoint
from wire.messages import UsageRecord, timestamp_ms


def odometer_points(
    records: Iterable[UsageRecord], first: OdometerPoint, last: OdometerPoint
) -> tuple[OdometerPoint, ...]:
    """Return the points of a session from `first` (its start) to `last` (its end), both as the ledger has them.

    `records` are the session's own in the order of their sequence, its open record first. The result rises in time and
    in both odometers whatever the records say.
    """
    points = [first]
    total_before: int | None = None
    for record in records:
        at = timestamp_ms(record.ts)
        if total_before is not None:
            began = at - (record.odo.total - total_before)
            _add(points, OdometerPoint(began, points[-1].running_ms, points[-1].unknown_ms), last)
        _add(points, OdometerPoint(at, record.odo.running, record.odo.unknown), last)
        total_before = record.odo.total
    _add(points, last, last)
    return tuple(points)


def _add(points: list[OdometerPoint], point: OdometerPoint, last: OdometerPoint) -> None:
    before = points[-1]
    fitting = OdometerPoint(
        min(max(point.at_ms, before.at_ms), last.at_ms),
        min(max(point.running_ms, before.running_ms), last.running_ms),
        min(max(point.unknown_ms, before.unknown_ms), last.unknown_ms),
    )
    if fitting != before:
        points.append(fitting)
