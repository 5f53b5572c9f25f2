"""Settings of one agent, read from a TOML or JSON file. Relative paths are taken from the file's own folder.

agent = "xc-h01-l01"
broker = "mqtt://127.0.0.1:1883"
credential_file = "xc-h01-l01.password"
data_dir = "spool"

[[instruments]]
id = "xc-h01-01"
driver = "simulated"
params = { rated_w = 7500, standby_w = 60, idle_w = 250, running_w = 4200, run_threshold_w = 1025 }
catalogue = { standby_w = 60, idle_w = 250, running_w = 4200, run_threshold_w = 1025 }
"""

import json
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from edge_agents.detector import DetectorProfile, profile_from_catalogue
from edge_agents.drivers import modbus
from edge_agents.drivers.base import BadDriverSetting
from edge_agents.drivers.modbus_line import LineAddress, Place
from wire.client import BrokerAddress
from wire.ids import is_wire_id
from wire.profiles import ProfileSettings

PEAK_FACTOR = 4.0
"""Heaters and motors that start take more than the running power of the catalogue, but not this many times more."""


class BadConfig(Exception):
    """The settings cannot be used; the message names the file, the field and what is wrong, for a person to mend."""


def _wire_id(text: str) -> str:
    if not is_wire_id(text):
        raise ValueError("use 3 to 32 characters of a-z, 0-9 and '-'")
    return text


def _broker(text: str) -> str:
    BrokerAddress.parse(text)
    return text


WireId = Annotated[str, AfterValidator(_wire_id)]


@dataclass
class _Meters:
    """Who reads which line (the first to name it) and which unit on it (all, with the register of their power)."""

    lines: dict[Place, tuple[LineAddress, str]] = field(default_factory=dict)
    units: dict[tuple[Place, int], list[tuple[int | None, str]]] = field(default_factory=dict)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class CatalogueLevels(_Section):
    """Power levels as the catalogue states them, watts: good for a first profile."""

    standby_w: float
    idle_w: float
    running_w: float
    run_threshold_w: float
    up_ms: int = Field(10_000, ge=0)
    down_ms: int = Field(60_000, ge=0)
    max_hole_ms: int = Field(30_000, ge=1)


class InstrumentSettings(_Section):
    """One instrument: its driver, the driver's own parameters, and either a profile or catalogue levels. `rated_w` is
    the power on its name plate."""

    id: WireId
    driver: str
    params: dict[str, Any] = Field(default_factory=dict)
    period_ms: int = Field(1000, ge=50, le=300_000)
    tick_ms: int = Field(60_000, ge=1000, le=600_000)
    rated_w: float | None = Field(None, gt=0)
    profile: ProfileSettings | None = None
    catalogue: CatalogueLevels | None = None

    @model_validator(mode="after")
    def _one_way_to_read_power(self) -> Self:
        if (self.profile is None) == (self.catalogue is None):
            raise ValueError("give either a profile or catalogue levels")
        self.detector_profile()
        return self

    def detector_profile(self) -> DetectorProfile:
        """Return the profile. Raises ValueError for levels that contradict each other."""
        if self.profile is not None:
            return DetectorProfile(**self.profile.model_dump())
        assert self.catalogue is not None
        return profile_from_catalogue(**self.catalogue.model_dump())

    def most_w(self) -> float | None:
        """Return what it can draw at most, watts: by its name plate, or by far what it takes when it runs, or None."""
        if self.rated_w is not None or self.catalogue is None:
            return self.rated_w
        return PEAK_FACTOR * self.catalogue.running_w


class ReaderSettings(_Section):
    """A card reader beside an instrument for which this agent speaks. `path` is the device it writes lines to."""

    instrument: WireId
    path: Path
    key_file: Path
    says: Literal["tap", "in", "out"] = "tap"
    baudrate: int = Field(9600, ge=50, le=4_000_000)


class AgentSettings(_Section):
    """One agent. The password is in `credential_file` (first line), or in the broker address. Without
    `max_spool_bytes` the spools take up to 500 MB, or a fifth of a small disk."""

    agent: WireId
    broker: Annotated[str, AfterValidator(_broker)]
    credential_file: Path | None = None
    data_dir: Path
    clock_file: Path | None = None
    max_spool_bytes: int | None = Field(None, ge=100_000)
    usage_reserve_bytes: int = Field(64 * 1024 * 1024, ge=0)
    instruments: tuple[InstrumentSettings, ...] = Field(min_length=1, max_length=64)
    readers: tuple[ReaderSettings, ...] = Field((), max_length=64)

    @model_validator(mode="after")
    def _instruments_differ(self) -> Self:
        names = [instrument.id for instrument in self.instruments]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"instrument {', '.join(twice)} is listed twice")
        return self


def load_settings(path: Path) -> AgentSettings:
    """Read one file. Raises BadConfig."""
    try:
        text = path.read_text(encoding="utf-8")
        fields = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise BadConfig(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise BadConfig(f"{path}: is not valid {'JSON' if path.suffix == '.json' else 'TOML'}: {error}") from None
    try:
        settings = AgentSettings.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadConfig(f"{path}: {where + ': ' if where else ''}{first['msg']}") from None
    settings = _absolute(settings, path.resolve().parent)
    _agree_on_meters(path, settings, _Meters())
    return settings


def _agree_on_meters(file: Path, settings: AgentSettings, meters: _Meters) -> None:
    """Note what the meters of one agent are in `meters`. Raises BadConfig where two of them want one line in two ways,
    or where two instruments read the same power: each would be billed for the use of both."""
    for item in settings.instruments:
        if item.driver != "modbus":
            continue
        try:
            params = modbus.parsed(item.params)
            address, channel = params.address(), modbus.channel_of(params)
        except BadDriverSetting:
            continue  # said by whoever builds the driver, with the name of the setting
        first, who = meters.lines.setdefault(address.place, (address, item.id))
        if first.manners != address.manners:
            raise BadConfig(
                f"{file}: instrument {item.id}: {address} is the line of {who} too, with other settings; "
                "baudrate, parity, stopbits, timeout_s and retries are the line's and must be the same"
            )
        unit = meters.units.setdefault((address.place, params.unit), [])
        for other, same in unit:
            if other == channel or None in (other, channel):
                raise BadConfig(
                    f"{file}: instrument {item.id}: unit {params.unit} at {address} is the meter of {same} already, so "
                    "its use would count twice; only a meter of several channels serves several instruments, each with "
                    'a map of its own (path = "...") that reads another channel\'s power'
                )
        unit.append((channel, item.id))


def load_folder(folder: Path) -> list[AgentSettings]:
    """Read every `*.toml` and `*.json` of a folder. Raises BadConfig, also for one agent, data folder or meter used
    twice, or for a meter line that two agents want in two ways."""
    files = sorted(p for p in folder.iterdir() if p.suffix in (".toml", ".json"))
    if not files:
        raise BadConfig(f"{folder}: holds no *.toml or *.json file of an agent")
    fleet: list[AgentSettings] = []
    seen: dict[object, Path] = {}
    meters = _Meters()
    for file in files:
        settings = load_settings(file)
        _agree_on_meters(file, settings, meters)
        for thing in (settings.agent, settings.data_dir):
            if thing in seen:
                raise BadConfig(f"{file}: {thing} is already used by {seen[thing]}")
            seen[thing] = file
        fleet.append(settings)
    return fleet


def _absolute(settings: AgentSettings, folder: Path) -> AgentSettings:
    def placed(path: Path | None) -> Path | None:
        return None if path is None else folder / path

    def placed_params(params: dict[str, Any]) -> dict[str, Any]:
        return {k: str(folder / v) if k in ("path", "plan") and isinstance(v, str) else v for k, v in params.items()}

    instruments = tuple(i.model_copy(update={"params": placed_params(i.params)}) for i in settings.instruments)
    readers = tuple(
        r.model_copy(update={"path": folder / r.path, "key_file": folder / r.key_file}) for r in settings.readers
    )
    return settings.model_copy(
        update={
            "credential_file": placed(settings.credential_file),
            "data_dir": folder / settings.data_dir,
            "clock_file": placed(settings.clock_file),
            "instruments": instruments,
            "readers": readers,
        }
    )
