"""The one folder a demo lives in: what lies where, who may log in, and where its time had got to.

Written by the supervisor, read by its children. Passwords and broker credentials lie here in files of mode 0600.
"""

import json
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from api.embedded.broker import write_secret
from wire.clock import ClockSetting
from wire.ids import new_ulid

RESERVED_REAL_S = 6.0
GATEWAY_NAME = "gateway-1"
# How the supervisor tells the server process where the broker is; no file, for it holds a password.
BROKER_URL_VARIABLE = "OPENLAB_DEMO_BROKER_URL"


class FolderUnusable(Exception):
    """The folder cannot be used; the message says why and what to do."""


@dataclass(frozen=True)
class DemoLogin:
    """A person the demo introduces: shown at the start, so that a visitor can sign in."""

    role: str
    login: str
    password: str
    name: str


@dataclass
class DemoState:
    """What the demo remembers between starts."""

    gateway_password: str
    agent_passwords: dict[str, str]
    logins: list[DemoLogin] = field(default_factory=list)
    seeded: bool = False


class DemoFolder:
    """Paths below the data folder. Raises FolderUnusable where it cannot be made or written."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            probe = self.path / ".write-probe"
            probe.write_text("")
            probe.unlink()
        except OSError as error:
            raise FolderUnusable(
                f"the data folder {self.path} cannot be written ({error.strerror}); choose another with --data-dir"
            ) from None
        self.database_url = f"sqlite:///{self.path / 'openlab.db'}"
        self.series_path = self.path / "series.db"
        self.series_url = f"sqlite:///{self.series_path}"
        self.clock_file = self.path / "clock.json"
        self.broker = self.path / "broker"
        self.agents = self.path / "agents"
        self.agent_configs = self.path / "agents.d"
        self.plans = self.path / "plans"
        self.truth_file = self.path / "truth.json"
        self.logs = self.path / "logs"
        for folder in (self.agents, self.agent_configs, self.plans, self.logs):
            folder.mkdir(exist_ok=True)

    def load_state(self) -> DemoState | None:
        """Return what an earlier start left, None on the first."""
        path = self.path / "demo.json"
        if not path.exists():
            return None
        try:
            raw = json.loads(path.read_text())
            logins = [DemoLogin(**login) for login in raw.pop("logins")]
            return DemoState(logins=logins, **raw)
        except (ValueError, TypeError, KeyError, OSError) as error:
            raise FolderUnusable(
                f"{path} is damaged ({error}); move the folder away to start afresh, nothing is overwritten"
            ) from None

    def save_state(self, state: DemoState) -> None:
        """Keep the state for the next start."""
        write_secret(self.path / "demo.json", json.dumps(asdict(state), ensure_ascii=False, indent=1))


class DemoTime:
    """Where demo time stands over restarts.

    A running demo reserves a little time ahead and writes that down, so that a killed one starts again after
    everything it can have stamped; an orderly end writes the exact instant.
    """

    def __init__(self, folder: DemoFolder) -> None:
        self._path = folder.path / "time.json"
        self._clock_file = folder.clock_file

    def reached_ms(self) -> int | None:
        """Return the instant to go on from, None where the demo never ran."""
        if not self._path.exists():
            return None
        return int(json.loads(self._path.read_text())["reached_ms"])

    def begin(self, origin_ms: int, speed: float) -> ClockSetting:
        """Start the clock at an instant. The boot is new: monotonic times of two starts are never compared."""
        boottime_ms = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
        setting = ClockSetting(origin_ms, boottime_ms, speed, boot=new_ulid().lower())
        self.keep(origin_ms + int(RESERVED_REAL_S * 1000 * speed))
        setting.save(self._clock_file)
        return setting

    def keep(self, reached_ms: int) -> None:
        """Write down how far time may have got; never backwards but by an orderly end."""
        draft = self._path.with_suffix(".tmp")
        draft.write_text(json.dumps({"reached_ms": reached_ms}))
        os.replace(draft, self._path)

    def reserve(self, now_ms: int, speed: float) -> None:
        """Reserve the next few real seconds."""
        self.keep(now_ms + int(RESERVED_REAL_S * 1000 * speed))
