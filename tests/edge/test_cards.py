"""Card readers: lines from a terminal or a pipe become check-in records, and no number leaves the box."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_agents.compose import build_agent, readers_of
from edge_agents.drivers.base import BadDriverSetting
from edge_agents.drivers.cards import REPEAT_MS, TRY_AGAIN_AFTER_S, CardReader, card_hash, read_key
from edge_agents.settings import BadConfig, load_settings
from tests.edge.bench import START
from tests.edge.counterpart import Counterpart
from tests.support.brokers import AGENT, GATEWAY, AnyBroker
from tests.support.waiting import wait_until
from wire.clock import ManualClock
from wire.messages import RecordKind, encode, timestamp

KEY = b"a key that the county keeps"
NUMBER = "0012345678"


class Line:
    """A terminal with a reader behind it."""

    def __init__(self) -> None:
        self.far, self._near = os.openpty()
        self.path = Path(os.ttyname(self._near))

    def write(self, data: bytes) -> None:
        os.write(self.far, data)

    def close(self) -> None:
        for fd in (self.far, self._near):
            os.close(fd)


@pytest.fixture
def line() -> Iterator[Line]:
    found = Line()
    yield found
    found.close()


def reader_of(path: Path, clock: ManualClock, **more: Any) -> CardReader:
    return CardReader("xc-h01-01", path, KEY, clock, **more)


def held(reader: CardReader, count: int = 1) -> list[str]:
    """What the reader gives, polled until there is as much as expected."""
    found: list[str] = []

    def enough() -> bool:
        found.extend(card.card_sha256 for card in reader.poll())
        return len(found) >= count

    wait_until(enough, f"{count} cards")
    return found


def test_a_line_of_a_terminal_is_a_card_known_by_its_keyed_hash(line: Line) -> None:
    clock = ManualClock(START)
    reader = reader_of(line.path, clock)
    assert reader.poll() == []
    line.write(b"00123")
    assert reader.poll() == []
    line.write(b"45678\r\n\r\n ab cd \n")
    cards = held(reader, 2)
    assert cards == [card_hash(KEY, NUMBER), card_hash(KEY, "AB CD")]
    assert card_hash(b"another key of a county", NUMBER) != cards[0]
    reader.close()
    reader.close()


def test_a_card_that_lies_on_the_reader_is_held_once(line: Line) -> None:
    clock = ManualClock(START)
    reader = reader_of(line.path, clock)
    reader.poll()
    line.write(b"1\n1\n2\n1\n")
    assert held(reader, 3) == [card_hash(KEY, number) for number in "121"]
    clock.advance(REPEAT_MS - 1)
    line.write(b"1\n3\n")
    assert held(reader) == [card_hash(KEY, "3")]
    clock.advance(REPEAT_MS)
    line.write(b"3\n")
    assert held(reader) == [card_hash(KEY, "3")]
    reader.close()


def test_noise_is_no_card(line: Line) -> None:
    reader = reader_of(line.path, ManualClock(START))
    reader.poll()
    line.write(b"\xff\xfe\n" + b"7" * 300 + b"\n" + b"\x00\x01\n4\n")
    assert held(reader) == [card_hash(KEY, "4")]
    reader.close()


def test_a_pipe_whose_writer_comes_and_goes_is_read_on(tmp_path: Path) -> None:
    pipe = tmp_path / "reader"
    os.mkfifo(pipe)
    clock = ManualClock(START)
    reader = reader_of(pipe, clock)
    assert reader.poll() == []
    for number in ("1", "2"):
        pipe.write_bytes(f"{number}\n".encode())
        assert held(reader) == [card_hash(KEY, number)]
        assert reader.poll() == []
    reader.close()


def test_a_reader_that_is_gone_is_looked_for_again_after_a_while(tmp_path: Path) -> None:
    real = [0.0]
    path = tmp_path / "reader"
    reader = reader_of(path, ManualClock(START), monotonic=lambda: real[0])
    assert reader.poll() == []
    first = Line()
    path.symlink_to(first.path)
    assert reader.poll() == []
    real[0] += TRY_AGAIN_AFTER_S
    reader.poll()
    first.write(b"5\n")
    assert held(reader) == [card_hash(KEY, "5")]
    first.close()
    assert reader.poll() == []
    path.unlink()
    second = Line()
    path.symlink_to(second.path)
    real[0] += TRY_AGAIN_AFTER_S
    reader.poll()
    second.write(b"6\n")
    assert held(reader) == [card_hash(KEY, "6")]
    reader.close()
    second.close()


def test_a_key_has_to_be_there_and_long_and_a_speed_one_of_serial_lines(tmp_path: Path) -> None:
    key = tmp_path / "cards.key"
    with pytest.raises(BadDriverSetting, match="cannot be read"):
        read_key(key)
    key.write_text("short\n")
    with pytest.raises(BadDriverSetting, match="16 characters"):
        read_key(key)
    key.write_text(f"{KEY.decode()}\nnot this\n")
    assert read_key(key) == KEY
    with pytest.raises(BadDriverSetting, match="speed"):
        reader_of(key, ManualClock(START), baudrate=12345)


def settings_with(tmp_path: Path, url: str, path: Path, **reader: Any) -> Path:
    (tmp_path / "cards.key").write_text(KEY.decode())
    file = tmp_path / "agent.toml"
    more = "".join(f"{name} = {value!r}\n" for name, value in reader.items())
    file.write_text(
        f'agent = "{AGENT}"\nbroker = "{url}"\ndata_dir = "spool"\n'
        '[[instruments]]\nid = "xc-h01-01"\ndriver = "callable"\nparams = { function = "random:random" }\n'
        "profile = { on_w = 100, off_w = 80, standby_w = 5 }\n"
        f'[[readers]]\ninstrument = "xc-h01-01"\npath = "{path}"\nkey_file = "cards.key"\n{more}'
    )
    return file


def test_a_card_goes_from_the_line_to_the_gateway_and_its_number_does_not(
    broker: AnyBroker, tmp_path: Path, line: Line
) -> None:
    clock = ManualClock(START)
    settings = load_settings(settings_with(tmp_path, broker.url_for(AGENT), line.path, says="in"))
    agent = build_agent(settings, clock)
    with Counterpart(broker.url_for(GATEWAY)) as gateway:
        agent.start()
        agent.step()
        line.write(f"{NUMBER}\n".encode())

        def arrived() -> bool:
            agent.step()
            return any(record.kind is RecordKind.CHECKIN for record in gateway.usage())

        wait_until(arrived, "the check-in at the gateway")
        clock.advance(500)
        assert agent.stop(90)
        [record] = [record for record in gateway.usage() if record.kind is RecordKind.CHECKIN]
    assert (record.inst, record.reason, record.user_hint) == ("xc-h01-01", "in", card_hash(KEY, NUMBER))
    assert record.ts == timestamp(START)
    assert record.from_ms == record.to_ms
    assert record.odo.total == 0
    assert NUMBER.encode() not in encode(record)
    left = b"".join(file.read_bytes() for file in (tmp_path / "spool").iterdir())
    assert NUMBER.encode() not in left


def test_settings_of_a_reader_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    file = settings_with(tmp_path, "mqtt://127.0.0.1:1", tmp_path / "none", says="perhaps")
    with pytest.raises(BadConfig, match="says"):
        load_settings(file)
    file = settings_with(tmp_path, "mqtt://127.0.0.1:1", tmp_path / "none")
    (tmp_path / "cards.key").write_text("")
    with pytest.raises(BadConfig, match="card reader of xc-h01-01"):
        readers_of(load_settings(file), ManualClock(START))
