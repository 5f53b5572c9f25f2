"""The broker's files: who may log in, for Mosquitto (password file and ACL) and for the NATS server (configuration).

Used by `openlab agents`. One folder a broker, prepared once (`prepare`); a login is put or removed without touching the
others, and every file is replaced in one step: the broker reads the old logins or the new ones. Rights come from
`wire.broker_access`; secrets are random and, with Mosquitto, kept as hashes only.
"""

import fcntl
import json
import os
import secrets
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from wire.broker_access import (
    Login,
    Role,
    mosquitto_acl,
    mosquitto_config,
    mosquitto_password_line,
    nats_config,
)

PID_FILE = "broker.pid"
_BROKERS = ("mosquitto", "nats-server")


class BrokerFolderUnusable(Exception):
    """The folder does not hold what it should, or cannot be written; the message says what to do."""


class NotReloaded(Exception):
    """The files are written, but the broker was not told; the message says why and what to do."""


class BrokerFiles(Protocol):
    """The logins of one broker."""

    def roles(self) -> dict[str, Role]:
        """Return who may log in, by name."""
        ...

    def put(self, login: Login) -> None:
        """Add a login, or replace the one of that name."""
        ...

    def remove(self, username: str) -> bool:
        """Take a login away; whether there was one."""
        ...


def new_secret() -> str:
    """Return a password nobody could guess: 32 characters of A-Z, a-z, 0-9, `-` and `_`."""
    return secrets.token_urlsafe(24)


class MosquittoFiles:
    """`passwords` (hashes) and `acl`. Agents need no line in the ACL: three patterns cover them all."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def roles(self) -> dict[str, Role]:
        gateways = {line.removeprefix("user ").strip() for line in self._lines("acl") if line.startswith("user ")}
        names = [line.partition(":")[0] for line in self._lines("passwords")]
        return {name: Role.GATEWAY if name in gateways else Role.AGENT for name in names}

    def put(self, login: Login) -> None:
        line = mosquitto_password_line(login, os.urandom(12))
        self._write_passwords([*self._others(login.username), line])
        patterns, user, block = mosquitto_acl([login]).partition("\nuser ")
        present = self._lines("acl")
        missing = [line for line in patterns.splitlines() if line not in present]
        if user and f"user {login.username}" not in present:
            missing += ["", *(user + block).strip().splitlines()]
        if missing:
            path = self._folder / "acl"
            before = path.read_text(encoding="utf-8") if path.exists() else ""
            _replace(path, before + "\n".join(missing) + "\n")

    def remove(self, username: str) -> bool:
        kept = self._others(username)
        if len(kept) == len(self._lines("passwords")):
            return False
        self._write_passwords(kept)
        return True

    def _others(self, username: str) -> list[str]:
        return [line for line in self._lines("passwords") if line.partition(":")[0] != username]

    def _lines(self, name: str) -> list[str]:
        path = self._folder / name
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line] if path.exists() else []

    def _write_passwords(self, lines: Sequence[str]) -> None:
        _replace(self._folder / "passwords", "".join(line + "\n" for line in lines))


class NatsFiles:
    """`logins.json` (names, roles, passwords) and the whole `nats.conf`, made of it."""

    def __init__(self, folder: Path) -> None:
        """Raises BrokerFolderUnusable for a damaged file."""
        self._folder = folder
        try:
            fields = json.loads((folder / "logins.json").read_text(encoding="utf-8"))
            self._port = int(fields["port"])
            logins = [Login(each["username"], each["password"], Role(each["role"])) for each in fields["logins"]]
        except (ValueError, TypeError, KeyError) as error:
            raise BrokerFolderUnusable(f"{folder / 'logins.json'} is damaged: {error}") from None
        self._logins = {login.username: login for login in logins}

    def roles(self) -> dict[str, Role]:
        return {name: login.role for name, login in self._logins.items()}

    def put(self, login: Login) -> None:
        self._write(self._logins | {login.username: login})

    def remove(self, username: str) -> bool:
        if username not in self._logins:
            return False
        self._write({name: login for name, login in self._logins.items() if name != username})
        return True

    def _write(self, logins: dict[str, Login]) -> None:
        write_nats(self._folder, self._port, list(logins.values()))
        self._logins = logins


def write_nats(folder: Path, port: int, logins: Sequence[Login]) -> None:
    """Write both files of a NATS broker."""
    kept = [{"username": each.username, "password": each.password, "role": each.role.value} for each in logins]
    _replace(folder / "logins.json", json.dumps({"port": port, "logins": kept}, indent=1) + "\n")
    text = nats_config(
        port=port,
        store_dir=str(folder / "store"),
        log_file=str(folder / "broker.log"),
        logins=logins,
        pid_file=str(folder / PID_FILE),
    )
    _replace(folder / "nats.conf", text)


def prepare(folder: Path, kind: str, port: int, gateway: Login, run_as: str | None = None) -> Path:
    """Write everything a new broker starts with; return its configuration file.

    Raises BrokerFolderUnusable where the folder is a broker's already or cannot be written.
    """
    found = [name for name in ("mosquitto.conf", "passwords", "nats.conf", "logins.json") if (folder / name).exists()]
    if found:
        raise BrokerFolderUnusable(f"{folder} holds {found[0]} already; nothing was changed")
    if kind == "nats":
        write_nats(folder, port, [gateway])
        return folder / "nats.conf"
    MosquittoFiles(folder).put(gateway)
    path = folder / "mosquitto.conf"
    _replace(path, mosquitto_config(port=port, folder=str(folder), run_as=run_as))
    return path


def open_files(folder: Path) -> BrokerFiles:
    """Return the logins of the broker whose folder this is. Raises BrokerFolderUnusable."""
    folder = folder.absolute()  # the broker's configuration names it, and the broker runs elsewhere
    if (folder / "logins.json").exists():
        return NatsFiles(folder)
    if (folder / "passwords").exists():
        return MosquittoFiles(folder)
    raise BrokerFolderUnusable(
        f"{folder} holds neither logins.json (NATS) nor passwords (Mosquitto); "
        "make it with `openlab agents prepare-broker`"
    )


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other commands out of the folder while this one reads and writes it. Raises BrokerFolderUnusable."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise BrokerFolderUnusable(f"{folder} cannot be used: {error.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    except OSError as error:
        raise BrokerFolderUnusable(f"{error.filename or folder} cannot be used: {error.strerror}") from None
    finally:
        os.close(lock)


def reload_broker(folder: Path, pid: int | None, pid_file: Path | None) -> int | None:
    """Tell the broker to read its files again (SIGHUP); return its process id, None where none is known.

    Other connections stay as they are. Raises NotReloaded.
    """
    source = pid_file or folder / PID_FILE
    if pid is None:
        try:
            pid = int(source.read_text())
        except FileNotFoundError:
            if pid_file is None:
                return None
            raise NotReloaded(f"there is no pid file {pid_file}; is the broker running?") from None
        except (OSError, ValueError) as error:
            raise NotReloaded(f"{source} holds no process id: {error}") from None
    try:
        name = Path(f"/proc/{pid}/comm").read_text().strip()
        # A pid file outlives its process, and this signal ends whoever does not expect it.
        if name not in _BROKERS:
            raise NotReloaded(f"process {pid} is {name}, not a broker; is {source} out of date?")
        os.kill(pid, signal.SIGHUP)
    except FileNotFoundError:
        raise NotReloaded(f"process {pid} does not run; the broker reads its files when it starts") from None
    except PermissionError:
        raise NotReloaded(f"process {pid} may not be signalled by this user; send it SIGHUP as its owner") from None
    return pid


def _replace(path: Path, text: str) -> None:
    """Replace a file in one step, for its owner's eyes only; the owner stays who it was."""
    like = path if path.exists() else path.parent
    owner = like.stat()
    draft = path.with_name(path.name + ".draft")
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    if os.geteuid() == 0:
        # Run by root for a broker that runs as somebody else: it must be able to read what it is told to.
        os.chown(draft, owner.st_uid, owner.st_gid)
    draft.replace(path)
