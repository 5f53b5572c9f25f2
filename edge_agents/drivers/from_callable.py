"""A plain Python function that returns watts is a driver. The easy path for a lab with a meter of its own.

driver = CallableDriver(lambda: my_meter.read_watts(), clock, period_ms=1000)
"""

import importlib
from collections.abc import Callable

import structlog

from edge_agents.drivers.base import BadDriverSetting, DriverContext, Quality, Reading, stale
from wire.clock import Clock

log = structlog.get_logger(__name__)


class CallableDriver:
    """Asks `function` for watts, now. One that returns None or no number, or raises, does not answer."""

    name = "callable"

    def __init__(self, function: Callable[[], float | None], clock: Clock, period_ms: int = 1000) -> None:
        self.period_ms = period_ms
        self._function = function
        self._clock = clock
        self._failing = False

    def next_due(self, after_ms: int) -> int:
        """The next multiple of the period: a late reading shifts none after it, a missed one is not made up."""
        return after_ms - after_ms % self.period_ms + self.period_ms

    def read(self, due_ms: int) -> Reading:
        try:
            answer = self._function()
            power = None if answer is None else float(answer)
        except Exception as error:  # noqa: BLE001 - whatever a lab's own function raises, its meter is what failed
            if not self._failing:
                log.warning("the meter function failed", error=repr(error))
            self._failing = True
            return stale(self._clock.mono_ms())
        self._failing = False
        now = self._clock.mono_ms()
        return stale(now) if power is None else Reading(now, power, None, Quality.GOOD)

    def close(self) -> None:
        """Nothing is held."""


def build(context: DriverContext) -> CallableDriver:
    """Build from `function = "package.module:name"`. Raises BadDriverSetting where that names nothing to call."""
    target = context.params.get("function")
    if not isinstance(target, str) or ":" not in target:
        raise BadDriverSetting('the callable driver needs function = "package.module:name"')
    module, _, name = target.partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise BadDriverSetting(f"function {target!r} cannot be loaded: {error}") from None
    if not callable(function):
        raise BadDriverSetting(f"function {target!r} is not something that can be called")
    return CallableDriver(function, context.clock, context.period_ms)
