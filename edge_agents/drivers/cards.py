"""A card reader that writes a card's number as a line: a serial device, a character device, a named pipe.

Polled by the agent's stepping thread, which it never holds up. A number is turned into a keyed hash (HMAC-SHA256) at
once, and is neither kept, logged nor sent: numbers are short, and a plain hash of one is found by trying all. Every
reader of a county has the same key, or a card would be another one at each reader.
"""

import contextlib
import hashlib
import hmac
import os
import re
import stat
import termios
import time
import tty
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from edge_agents.drivers.base import BadDriverSetting
from wire.clock import Clock

log = structlog.get_logger(__name__)

SAYS = ("tap", "in", "out")
KEY_AT_LEAST = 16
LINE_AT_MOST = 64
REPEAT_MS = 3_000
TRY_AGAIN_AFTER_S = 5.0
_READ_AT_ONCE = 4096
_LINE_END = re.compile(rb"[\r\n]+")


@dataclass(frozen=True, slots=True)
class CardHeld:
    """A card was held to the reader at a monotonic instant, known by the keyed hash of its number."""

    mono_ms: int
    card_sha256: str


def card_hash(key: bytes, number: str) -> str:
    """Return what a card is known by: the same for a number however its letters are written or it is padded."""
    return hmac.new(key, number.strip().upper().encode(), hashlib.sha256).hexdigest()


def read_key(path: Path) -> bytes:
    """Return the county's key: the first line of a file. Raises BadDriverSetting where there is none long enough."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadDriverSetting(f"key_file {path} cannot be read: {error}") from None
    key = lines[0].strip() if lines else ""
    if len(key) < KEY_AT_LEAST:
        raise BadDriverSetting(f"key_file {path}: its first line should be a key of {KEY_AT_LEAST} characters or more")
    return key.encode()


class CardReader:
    """One reader beside one instrument. `says` is what holding a card there means: in, out, or (tap) whichever fits."""

    def __init__(
        self,
        inst: str,
        path: Path,
        key: bytes,
        clock: Clock,
        *,
        says: str = "tap",
        baudrate: int = 9600,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is opened yet. Raises BadDriverSetting for a speed that serial lines do not have."""
        if says not in SAYS:
            raise BadDriverSetting(f"says {says!r} is none of {', '.join(SAYS)}")
        speed = getattr(termios, f"B{baudrate}", None)
        if speed is None:
            raise BadDriverSetting(f"{baudrate} is not a speed of a serial line")
        self.inst, self.says, self.path = inst, says, path
        self._key, self._clock, self._monotonic, self._speed = key, clock, monotonic, speed
        self._fd: int | None = None
        self._try_at = -1e9
        self._is_line = False
        self._failing = False
        self._begun = b""
        self._newest: CardHeld | None = None

    def poll(self) -> list[CardHeld]:
        """Return the cards held to the reader since the last poll. Never raises: a reader that is gone is looked for
        again every few seconds."""
        if self._fd is None and not self._open():
            return []
        return [held for line in self._lines() if (held := self._held(line)) is not None]

    def close(self) -> None:
        """Let go of the device. Safe to call twice."""
        fd, self._fd = self._fd, None
        if fd is not None:
            with contextlib.suppress(OSError):
                os.close(fd)

    def _open(self) -> bool:
        real = self._monotonic()
        if real < self._try_at:
            return False
        self._try_at = real + TRY_AGAIN_AFTER_S
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError as error:
            return self._failed(error)
        try:
            if stat.S_ISREG(os.fstat(fd).st_mode):
                raise OSError("it is an ordinary file, not a device or pipe")
            self._is_line = os.isatty(fd)
            if self._is_line:
                self._make_raw(fd)
        except (OSError, termios.error) as error:
            os.close(fd)
            return self._failed(error)
        if self._failing:
            log.info("the card reader is back", inst=self.inst, path=str(self.path))
        self._fd, self._failing, self._begun = fd, False, b""
        return True

    def _make_raw(self, fd: int) -> None:
        tty.setraw(fd)
        mode = termios.tcgetattr(fd)
        mode[4] = mode[5] = self._speed
        termios.tcsetattr(fd, termios.TCSANOW, mode)

    def _failed(self, error: Exception) -> bool:
        if not self._failing:
            log.warning("the card reader cannot be read", inst=self.inst, path=str(self.path), error=str(error))
        self._failing = True
        return False

    def _lines(self) -> list[bytes]:
        assert self._fd is not None
        try:
            data = os.read(self._fd, _READ_AT_ONCE)
            if not data and self._is_line:
                raise OSError("the line was hung up")  # of a pipe it only means that nobody writes now
        except BlockingIOError:
            return []
        except OSError as error:
            self.close()
            self._failed(error)
            return []
        *lines, self._begun = _LINE_END.split(self._begun + data)
        if len(self._begun) > LINE_AT_MOST:
            # Noise, or a wrong speed; what comes before the next end of a line is then no number either.
            self._begun = self._begun[: LINE_AT_MOST + 1]
        return lines

    def _held(self, line: bytes) -> CardHeld | None:
        number = line.strip()
        if not number:
            return None
        if len(number) > LINE_AT_MOST or not number.isascii() or not number.decode("ascii").isprintable():
            log.warning("the card reader wrote something that is no card number", inst=self.inst, bytes=len(number))
            return None
        held = CardHeld(self._clock.mono_ms(), card_hash(self._key, number.decode("ascii")))
        before, self._newest = self._newest, held
        # Readers repeat themselves while a card lies on them.
        if before is None or before.card_sha256 != held.card_sha256:
            return held
        return held if held.mono_ms - before.mono_ms >= REPEAT_MS else None
