"""Register maps: every map that comes with the program is sound, and values mean what the manuals say."""

import struct
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agents.drivers.base import BadDriverSetting
from edge_agents.drivers.modbus_map import Commissioning, MeterReader, Ratios, Register, known_maps, load_map, value_of
from tests.edge.modbus_peer import Registers, dtsd1352, sdm630, words


def asker(registers: Registers, function: int):  # type: ignore[no-untyped-def]
    """A meter that answers from a table, and only to the function its map should use."""

    def ask(asked: int, address: int, count: int) -> Sequence[int]:
        assert asked == function
        found = [word for at in range(address, address + 2) for word in registers.get(at, [])][:count]
        assert len(found) == count, hex(address)
        return found

    return ask


@pytest.mark.parametrize("name", known_maps())
def test_every_map_can_be_loaded_and_checked(name: str) -> None:
    found = load_map(name, None)
    assert found.energy_wh is not None
    assert len(found.phases) in (1, 3)
    every = [found.power_w, found.energy_wh, *(r for p in found.phases for r in (p.volts, p.amperes, p.power_factor))]
    assert all(register.type for register in every)
    assert len({register.address for register in every}) == len(every)
    # Eastron meters answer even counts only: two registers a value.
    assert found.function == 3 or all(register.type == "float32" for register in every)


def test_the_addresses_are_those_of_the_manuals() -> None:
    assert load_map("sdm120", None).power_w.address == 0x000C
    assert load_map("sdm630", None).power_w.address == 0x0034
    assert load_map("dtsd1352", None).power_w.address == 0x016A
    assert load_map("dtsd1352", None).secondary


def test_a_three_phase_meter_is_read() -> None:
    reader = MeterReader(load_map("sdm630", None), Ratios())
    found = reader.commissioning(asker(sdm630(1380.0), 4))
    assert found == Commissioning(1380.0, 1380.0, (230.0,) * 3, (2.0,) * 3, (1.0,) * 3, None, None)


def test_what_else_a_meter_shows_is_on_the_primary_side_too() -> None:
    reader = MeterReader(load_map("dtsd1352", None), Ratios(ct=40))
    values = {name: reader.further_value(asker(dtsd1352(345.0), 3), name) for name in reader.further}
    assert list(values)[:3] == ["volts_l1", "amperes_l1", "power_factor_l1"]
    assert (values["volts_l3"], values["amperes_l3"], values["power_factor_l3"]) == (230.0, 80.0, 0.25)


def test_a_one_phase_meter_is_read() -> None:
    registers = {0x0C: 115.0, 0x156: 1.5, 0: 230.0, 6: 1.0, 0x1E: 0.5, 0x46: 50.0}
    ask = asker({at: words("f", value) for at, value in registers.items()}, 4)
    reader = MeterReader(load_map("sdm120", None), Ratios())
    assert reader.power_w(ask) == 115.0
    assert reader.energy_wh(ask) == 1500.0
    assert {name: reader.further_value(ask, name) for name in reader.further} == {
        **{"hertz": 50.0, "volts": 230.0, "amperes": 1.0, "power_factor": 0.5}
    }
    assert reader.commissioning(ask).fits


@pytest.mark.parametrize(("ratios", "factor"), [(Ratios(), 1), (Ratios(ct=40), 40), (Ratios(ct=40, pt=100), 4000)])
def test_a_meter_of_secondary_values_is_multiplied(ratios: Ratios, factor: int) -> None:
    reader = MeterReader(load_map("dtsd1352", None), ratios)
    ask = asker(dtsd1352(600.0), 3)
    assert reader.power_w(ask) == 600 * factor
    assert reader.energy_wh(ask) == 5000 * factor
    assert reader.commissioning(ask).fits


def test_what_is_fed_back_is_negative() -> None:
    reader = MeterReader(load_map("dtsd1352", None), Ratios(ct=2))
    assert reader.power_w(asker(dtsd1352(-600.0), 3)) == -1200


@pytest.mark.parametrize(
    ("power", "computed", "fits"),
    [
        (1000, 1000, True),
        (1049, 1000, True),
        (1051, 1000, False),
        (-1000, 1000, False),
        (4, 0, True),
        (25, 1000, False),
    ],
)
def test_power_must_agree_within_five_percent_or_five_watts(power: float, computed: float, fits: bool) -> None:
    assert Commissioning(power, computed, (), (), (), None, None).fits is fits


@given(st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=-1e6, max_value=1e6))
def test_either_word_order_gives_the_same_value(value: float) -> None:
    high_first = list(struct.unpack(">HH", struct.pack(">f", value)))
    register = Register(address=0, type="float32")
    assert value_of(high_first, register, "big") == value_of(high_first[::-1], register, "little") == round(value, 6)


def test_a_map_of_ones_own_is_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('name = "mine"\nfunction = 3\ntype = "uint16"\npower_w = { address = 5, scale = 10 }\n')
    reader = MeterReader(load_map(None, file), Ratios())
    ask = asker({5: [42]}, 3)
    assert reader.power_w(ask) == 420
    assert reader.energy_wh(ask) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = ", "mine.toml"),
        ('name = "x"\nfunction = 6\ntype = "int16"\npower_w = { address = 5 }', "function: "),
        ('name = "x"\nfunction = 3\ntype = "int16"', "power_w: "),
        ('name = "x"\nfunction = 3\ntype = "int16"\npower_w = { address = 5, speed = 3 }', "power_w.speed: "),
    ],
)
def test_a_map_that_is_wrong_is_named(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(BadDriverSetting, match=message):
        load_map(None, file)
    with pytest.raises(BadDriverSetting, match="No such file"):
        load_map(None, tmp_path / "none.toml")
