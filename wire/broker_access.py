"""Who may do what on the broker: one table of rights, rendered for Mosquitto and for the NATS server.

Called by whatever writes a broker's files (the embedded demo, the deployment commands, the tests). Pure: it
returns text and touches no file. Rights are topic filters of the contract (`wire.topics`), so both brokers
refuse the same things; a test sends the same forbidden traffic to each of them.

Passwords are random tokens, never words a person chose. The NATS text holds them as they are: bcrypt protects
weak passwords, costs a tenth of a second a login (every agent of a county at once after a power cut), and whoever
can read the demo's folder has the agents' own copies anyway. That text belongs in a file of mode 0600.
Mosquitto's file holds salted hashes, because that is the only form Mosquitto takes.
"""

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import quote

from wire.ids import is_wire_id
from wire.topics import ROOT

MAX_PACKET_BYTES = 256 * 1024
MAX_UNACKNOWLEDGED = 2000
# A county that comes back at once brings thousands of records, each synced to disk. With the NATS server's own 5 s it
# would drop every connection whose turn has not come, and begin again with all that they had sent.
STORED_WITHIN_S = 60
MAX_QUEUED = 100_000
_PASSWORD = re.compile(r"[A-Za-z0-9_.~-]{8,128}\Z")
_PBKDF2_ROUNDS = 101  # what mosquitto_passwd writes; the strength lies in the token, not in the rounds
_SALT_BYTES = 12


class Role(StrEnum):
    """What kind of process logs in."""

    AGENT = "agent"
    GATEWAY = "gateway"


@dataclass(frozen=True)
class Login:
    """One credential of one process. `username` is the agent's (or gateway's) wire id, and its branch of the tree.

    Raises ValueError for a name that is not a wire id, or a password with characters that a broker's file or
    an address could read as something else (allowed: 8 to 128 of A-Z, a-z, 0-9 and `_.~-`).
    """

    username: str
    password: str = field(repr=False)
    role: Role = Role.AGENT

    def __post_init__(self) -> None:
        if not is_wire_id(self.username):
            raise ValueError(f"{self.username!r} cannot log in: a name is 3 to 32 characters of a-z, 0-9 and '-'")
        if not _PASSWORD.match(self.password):
            raise ValueError(f"the password of {self.username!r} is not 8 to 128 characters of A-Z, a-z, 0-9, '_.~-'")

    def url(self, host: str, port: int) -> str:
        """Return the address with which this process connects; it contains the password."""
        return f"mqtt://{quote(self.username)}:{quote(self.password)}@{host}:{port}"


@dataclass(frozen=True)
class Rights:
    """Topic filters a process may publish to (wills included) and read; everything else is forbidden."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


def rights(role: Role, username: str) -> Rights:
    """Return what `username` may do. An agent is confined to its own branch; a gateway speaks down to all."""
    if role is Role.AGENT:
        return Rights(
            publish=(f"{ROOT}/up/{username}/#",),
            subscribe=(f"{ROOT}/down/{username}/#", f"{ROOT}/srv/#"),
        )
    return Rights(
        publish=(f"{ROOT}/down/#", f"{ROOT}/srv/{username}/state"),
        subscribe=(f"{ROOT}/up/#", f"{ROOT}/srv/#"),
    )


def mosquitto_acl(logins: Sequence[Login]) -> str:
    """Return the text of Mosquitto's `acl_file`.

    The agents are three pattern lines (`%u` is the name that logged in), so a new agent needs a password only.
    """
    everybody = rights(Role.AGENT, "%u")
    lines = [f"pattern write {topic}" for topic in everybody.publish]
    lines += [f"pattern read {topic}" for topic in everybody.subscribe]
    for login in logins:
        if login.role is not Role.AGENT:
            own = rights(login.role, login.username)
            lines += ["", f"user {login.username}"]
            lines += [f"topic write {topic}" for topic in own.publish]
            lines += [f"topic read {topic}" for topic in own.subscribe]
    return "\n".join(lines) + "\n"


def mosquitto_config(*, port: int, folder: str, run_as: str | None = None) -> str:
    """Return a Mosquitto configuration over `folder` (passwords, acl, pid file, store), on 127.0.0.1:`port`.

    `run_as` is the user it becomes when it is started as root; it must be able to read the folder.
    """
    lines = [
        f"listener {port} 127.0.0.1",
        "allow_anonymous false",
        f"password_file {folder}/passwords",
        f"acl_file {folder}/acl",
        f"pid_file {folder}/broker.pid",
        "persistence true",
        f"persistence_location {folder}/",
        "autosave_interval 60",
        f"max_inflight_messages {MAX_UNACKNOWLEDGED}",
        f"max_queued_messages {MAX_QUEUED}",
        f"max_packet_size {MAX_PACKET_BYTES}",
        "persistent_client_expiration 14d",
        "log_dest stderr",
    ]
    return "\n".join([*lines, *([f"user {run_as}"] if run_as else [])]) + "\n"


def mosquitto_password_line(login: Login, salt: bytes) -> str:
    """Return the line of Mosquitto's `password_file` for one login (PBKDF2-SHA512, as `mosquitto_passwd` writes it).

    `salt` is 12 fresh random bytes, given by the caller. Raises ValueError for another length.
    """
    if len(salt) != _SALT_BYTES:
        raise ValueError(f"a salt has {_SALT_BYTES} bytes, not {len(salt)}")
    digest = hashlib.pbkdf2_hmac("sha512", login.password.encode(), salt, _PBKDF2_ROUNDS)
    salt_text, digest_text = base64.b64encode(salt).decode(), base64.b64encode(digest).decode()
    return f"{login.username}:$7${_PBKDF2_ROUNDS}${salt_text}${digest_text}"


def nats_subjects(topic_filter: str) -> tuple[str, ...]:
    """Return the NATS subjects of an MQTT topic filter: `a/+/#` -> `a.*` and `a.*.>` (`#` means the parent too)."""
    levels = ["*" if level == "+" else level for level in topic_filter.split("/")]
    if levels[-1] != "#":
        return (".".join(levels),)
    parent = ".".join(levels[:-1])
    return (parent, f"{parent}.>")


def nats_config(
    *,
    port: int,
    store_dir: str,
    log_file: str,
    logins: Sequence[Login],
    ack_wait_s: float = 30.0,
    max_store_bytes: int = 4 * 1024**3,
    pid_file: str | None = None,
) -> str:
    """Return the NATS server's configuration: MQTT on 127.0.0.1:`port`, nothing open to other machines.

    `ack_wait_s` is after how many seconds a message that was not acknowledged is delivered again (also to a process
    that came back): it must lie above the slowest commit, or slow commits make repeats. All users share one account,
    or they would not hear each other; JetStream syncs every message to disk before it is acknowledged.
    """
    lines = [
        'server_name: "openlab"',  # the MQTT listener refuses to start without a name
        # The server's own protocol cannot be switched off; nobody may log in there (connection types below).
        'listen: "127.0.0.1:-1"',
        f"max_payload: {MAX_PACKET_BYTES}",
        f"log_file: {json.dumps(log_file)}",
        f"logfile_size_limit: {10 * 1024**2}",
        "logfile_max_num: 3",
        *([f"pid_file: {json.dumps(pid_file)}"] if pid_file else []),
        f"jetstream {{ store_dir: {json.dumps(store_dir)}, sync_interval: always, "
        f"max_file_store: {max_store_bytes}, max_memory_store: {64 * 1024**2} }}",
        f'mqtt {{ host: "127.0.0.1", port: {port}, max_ack_pending: {MAX_UNACKNOWLEDGED}, '
        f'ack_wait: "{round(ack_wait_s * 1000)}ms", js_api_timeout: "{STORED_WITHIN_S}s" }}',
        "authorization {",
        "  users: [",
        *(f"    {_nats_user(login)}" for login in logins),
        "  ]",
        "}",
    ]
    return "\n".join(lines) + "\n"


def _nats_user(login: Login) -> str:
    own = rights(login.role, login.username)
    publish = [subject for topic in own.publish for subject in nats_subjects(topic)]
    subscribe = [subject for topic in own.subscribe for subject in nats_subjects(topic)]
    # Under this prefix the server hands a session its own queue; the rest of $MQTT holds everybody's messages.
    subscribe.append("$MQTT.sub.>")
    return (
        f"{{ user: {json.dumps(login.username)}, password: {json.dumps(login.password)}, "
        f'allowed_connection_types: ["MQTT"], permissions: '
        f"{{ publish: {{ allow: {json.dumps(publish)} }}, subscribe: {{ allow: {json.dumps(subscribe)} }} }} }}"
    )
