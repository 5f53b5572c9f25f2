"""Drivers: what reads an instrument's power. The table of those that settings can name."""

from collections.abc import Callable

from edge_agents.drivers import from_callable, modbus, simulated, trace
from edge_agents.drivers.base import BadDriverSetting, Driver, DriverContext

FACTORIES: dict[str, Callable[[DriverContext], Driver]] = {
    "callable": from_callable.build,
    "modbus": modbus.build,
    "simulated": simulated.build,
    "trace": trace.build,
}


def build_driver(name: str, context: DriverContext) -> Driver:
    """Build the driver called `name`. Raises BadDriverSetting for an unknown name or wrong parameters."""
    factory = FACTORIES.get(name)
    if factory is None:
        raise BadDriverSetting(f"no driver is called {name!r}; there are: {', '.join(sorted(FACTORIES))}")
    return factory(context)
