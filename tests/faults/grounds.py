"""The grounds a fault may happen on, a broker and a database each, and the marks that say which test runs on which.

For the tests of this folder. `make test` runs a test on one ground, and a file on grounds that hold each broker and
each database between them; `make test-slow` runs it on the others that make a difference to it (docs/faults.md).
"""

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.brokers import AnyBroker, MosquittoBroker, NatsBroker


class ForgetfulNats(NatsBroker):
    """NATS whose store is gone after a kill, as on a disk that was replaced."""

    def kill(self) -> None:
        super().kill()
        shutil.rmtree(self.folder / "store")


class ForgetfulMosquitto(MosquittoBroker):
    """Mosquitto as Debian ships it, without persistence: a kill takes sessions, queues and retained messages."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        conf = folder / "mosquitto.conf"
        conf.write_text(conf.read_text().replace("persistence true", "persistence false"))


BROKERS: dict[str, type[AnyBroker]] = {
    "nats": NatsBroker,
    "mosquitto": MosquittoBroker,
    "forgetful-nats": ForgetfulNats,
    "forgetful-mosquitto": ForgetfulMosquitto,
}


@dataclass(frozen=True)
class Ground:
    """A kind of broker and a kind of database."""

    broker: str = "nats"
    engine: str = "sqlite"

    def __str__(self) -> str:
        return f"{self.broker}-{self.engine}"


BOTH = (
    Ground("nats", "postgresql"),
    Ground("mosquitto", "sqlite"),
    Ground("nats", "sqlite"),
    Ground("mosquitto", "postgresql"),
)
"""Every crossing; the first two hold everything between them."""
EITHER_BROKER = (Ground("nats", "sqlite"), Ground("mosquitto", "sqlite"))
EITHER_DATABASE = (Ground("nats", "sqlite"), Ground("nats", "postgresql"))


def on_grounds(grounds: Sequence[Ground], quick: Iterable[int] = (0, 1)) -> pytest.MarkDecorator:
    """Run a test on each of the grounds: those at the places `quick` in every run, the others with the slow ones."""
    at_once = set(quick)
    return pytest.mark.parametrize(
        "ground", [_param(n in at_once, ground) for n, ground in enumerate(grounds)], ids=str
    )


def each_on_grounds(
    name: str, values: Iterable[object], grounds: Sequence[Ground] = BOTH, *, quick: int | None = None
) -> pytest.MarkDecorator:
    """Run a test with each value on each ground: in every run on the first two in turn, and only the first `quick`."""
    return pytest.mark.parametrize(
        (name, "ground"),
        [
            _param(place == turn % 2 and (quick is None or turn < quick), value, ground)
            for turn, value in enumerate(values)
            for place, ground in enumerate(grounds)
        ],
        ids=lambda value: getattr(value, "__name__", None) or str(value),
    )


def _param(quick: bool, *values: object) -> Any:
    return pytest.param(*values, marks=() if quick else pytest.mark.slow)
