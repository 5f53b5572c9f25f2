"""Register maps: where a meter keeps its values, as data, and what their registers mean. Pure but for reading files.

A map is a TOML file in `edge_agents/register_maps`, or one of the laboratory's own. Used by the modbus driver.
"""

import math
import struct
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from edge_agents.drivers.base import BadDriverSetting
from wire.ids import is_quantity
from wire.messages import MAX_EXTRA

WordOrder = Literal["big", "little"]
_FORMATS = {"int16": ">h", "uint16": ">H", "int32": ">i", "uint32": ">I", "float32": ">f"}
RegisterType = Literal["int16", "uint16", "int32", "uint32", "float32"]

Ask = Callable[[int, int, int], Sequence[int]]
"""Reads (function code 3 or 4, address, count) of one unit and returns the registers."""

WITHIN = 0.05
"""How far P may be from the sum of V x I x PF, as a part of it."""
WITHIN_W = 5.0
"""And how far in watts, below which rounding of small currents decides."""


def _named(name: str) -> str:
    if not is_quantity(name):
        raise ValueError(f"{name!r} is no quantity: say what it is and its unit in a-z, 0-9 and _, like hertz")
    return name


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Register(_Section):
    """One value: `scale` makes it volts, amperes, watts or watt-hours (of the secondary side, if the map says so)."""

    address: int = Field(ge=0, le=0xFFFF)
    type: RegisterType | None = None
    scale: float = 1.0


class Phase(_Section):
    """What the commissioning check needs of one phase."""

    volts: Register
    amperes: Register
    power_factor: Register


class RegisterMap(_Section):
    """One kind of meter. `secondary`: its values must be multiplied by the ratios of its transformers.

    `extra`: what else it shows, by quantity and unit; those values are taken as they are.
    """

    name: str
    function: Literal[3, 4]
    type: RegisterType
    word_order: WordOrder = "big"
    secondary: bool = False
    power_w: Register
    energy_wh: Register | None = None
    ct_ratio: Register | None = None
    pt_ratio: Register | None = None
    phases: tuple[Phase, ...] = ()
    extra: dict[Annotated[str, AfterValidator(_named)], Register] = Field(default_factory=dict, max_length=MAX_EXTRA)

    @model_validator(mode="before")
    @classmethod
    def _types(cls, fields: Any) -> Any:
        """A register without a type has the map's."""

        def typed(value: Any) -> Any:
            if isinstance(value, dict) and "address" in value:
                return {"type": fields.get("type"), **value}
            if isinstance(value, dict):
                return {key: typed(one) for key, one in value.items()}
            return [typed(one) for one in value] if isinstance(value, list) else value

        return {key: typed(value) for key, value in fields.items()} if isinstance(fields, dict) else fields


@dataclass(frozen=True)
class Ratios:
    """Of the transformers between the meter and the line: primary divided by secondary."""

    ct: float = 1.0
    pt: float = 1.0


@dataclass(frozen=True)
class Commissioning:
    """What a meter showed of all phases together: its own power, and the power that V x I x PF makes (watts).

    Volts, amperes and power factors are those of each phase. `ct_set` and `pt_set` are the ratios set on the meter,
    where it has them.
    """

    power_w: float
    computed_w: float
    volts: tuple[float, ...]
    amperes: tuple[float, ...]
    power_factors: tuple[float, ...]
    ct_set: float | None
    pt_set: float | None

    @property
    def fits(self) -> bool:
        """Whether both powers agree within 5 %: else the map, the word order or the wiring is wrong."""
        return abs(self.power_w - self.computed_w) <= max(WITHIN * abs(self.computed_w), WITHIN_W)

    @property
    def is_loaded(self) -> bool:
        """Whether there is enough power for the comparison to prove anything."""
        return max(abs(self.power_w), abs(self.computed_w)) > WITHIN_W

    @property
    def backward_phases(self) -> list[int]:
        """The phases, counted from 1, whose power is negative by more than rounding."""
        by_phase = zip(self.volts, self.amperes, self.power_factors, strict=True)
        return [n for n, (volts, amperes, factor) in enumerate(by_phase, 1) if volts * amperes * factor < -WITHIN_W]


def known_maps() -> list[str]:
    """Return the names of the maps that come with the program."""
    folder = resources.files("edge_agents") / "register_maps"
    return sorted(item.name.removesuffix(".toml") for item in folder.iterdir() if item.name.endswith(".toml"))


def load_map(name: str | None, path: Path | None) -> RegisterMap:
    """Return the map called `name`, or the one in the file `path`. Raises BadDriverSetting."""
    if (name is None) == (path is None):
        raise BadDriverSetting(f'the modbus driver needs map = "..." ({", ".join(known_maps())}) or path = "map.toml"')
    if name is not None and name not in known_maps():
        raise BadDriverSetting(f"no register map is called {name!r}; there are: {', '.join(known_maps())}")
    source = path if path is not None else resources.files("edge_agents") / "register_maps" / f"{name}.toml"
    try:
        return RegisterMap.model_validate(tomllib.loads(source.read_text(encoding="utf-8")))
    except OSError as error:
        raise BadDriverSetting(f"register map {source}: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise BadDriverSetting(f"register map {source}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except ValueError as error:
        raise BadDriverSetting(f"register map {source}: {error}") from None


def value_of(registers: Sequence[int], register: Register, word_order: WordOrder) -> float | None:
    """Return the value in its unit; None where the meter says that it has none (not a number)."""
    assert register.type is not None
    words = list(registers) if word_order == "big" else list(reversed(registers))
    (value,) = struct.unpack(_FORMATS[register.type], struct.pack(f">{len(words)}H", *words))
    return round(value * register.scale, 6) if math.isfinite(value) else None


class MeterReader:
    """Asks one unit for its values, by its map. Knows nothing of lines and threads."""

    def __init__(self, registers: RegisterMap, ratios: Ratios, word_order: WordOrder | None = None) -> None:
        self._map = registers
        self._ratios = ratios
        self._word_order: WordOrder = word_order or registers.word_order
        self._further = {name: (register, 1.0) for name, register in registers.extra.items()}
        for n, phase in enumerate(registers.phases, 1):
            line = f"_l{n}" if len(registers.phases) > 1 else ""
            self._further |= {
                f"volts{line}": (phase.volts, ratios.pt),
                f"amperes{line}": (phase.amperes, ratios.ct),
                f"power_factor{line}": (phase.power_factor, 1.0),
            }

    @property
    def has_energy(self) -> bool:
        """Whether the map names an energy register."""
        return self._map.energy_wh is not None

    @property
    def further(self) -> list[str]:
        """What the meter shows beside power and energy, by quantity and unit."""
        return list(self._further)

    def further_value(self, ask: Ask, name: str) -> float | None:
        """Return one of `further`, on the primary side."""
        register, ratio = self._further[name]
        return _times(self._read(ask, register), ratio)

    def power_w(self, ask: Ask) -> float | None:
        """Return the power in watts on the primary side."""
        return _times(self._read(ask, self._map.power_w), self._ratios.ct * self._ratios.pt)

    def energy_wh(self, ask: Ask) -> float | None:
        """Return the energy register in Wh on the primary side; None where the map has none."""
        if self._map.energy_wh is None:
            return None
        return _times(self._read(ask, self._map.energy_wh), self._ratios.ct * self._ratios.pt)

    def commissioning(self, ask: Ask) -> Commissioning:
        """Read what the check needs, one value after the other."""
        power = self.power_w(ask) or 0.0
        volts, amperes, factors, computed = [], [], [], 0.0
        for phase in self._map.phases:
            voltage = (self._read(ask, phase.volts) or 0.0) * self._ratios.pt
            current = (self._read(ask, phase.amperes) or 0.0) * self._ratios.ct
            factor = self._read(ask, phase.power_factor) or 0.0
            computed += voltage * current * factor
            volts.append(round(voltage, 3))
            amperes.append(round(current, 3))
            factors.append(round(factor, 3))
        ct = None if self._map.ct_ratio is None else self._read(ask, self._map.ct_ratio)
        pt = None if self._map.pt_ratio is None else self._read(ask, self._map.pt_ratio)
        return Commissioning(power, round(computed, 3), tuple(volts), tuple(amperes), tuple(factors), ct, pt)

    def _read(self, ask: Ask, register: Register) -> float | None:
        assert register.type is not None
        count = 1 if register.type.endswith("16") else 2
        return value_of(ask(self._map.function, register.address, count), register, self._word_order)


def _times(value: float | None, ratio: float) -> float | None:
    return None if value is None else round(value * ratio, 6)
