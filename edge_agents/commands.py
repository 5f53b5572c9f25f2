"""Whether a command of the county may be executed, and whether power may be cut: decisions only. Pure.

Called by `edge_agents.orders`, which executes. A refusal is a stable code for programs and a sentence for people;
whatever is refused has changed nothing.
"""

import json
from dataclasses import dataclass
from typing import Any

from wire.commands import REMEMBERED_MS, Command, Op, SwitchArgs
from wire.ids import is_stream_id
from wire.messages import ClockQuality, PowerState, timestamp_ms

HARMLESS = (Op.IDENTIFY, Op.READ_NOW, Op.REPLAY, Op.CONFIG)
"""They change nothing here, so they are done even where lateness cannot be judged."""


@dataclass(frozen=True)
class Refusal:
    """Why not. Codes: late, too_far, retained, clock_unset, forgotten, ... (docs/messages.md lists them)."""

    code: str
    text: str


@dataclass(frozen=True)
class Circumstances:
    """What the agent knows when a command arrives: wall time and its worth, and since when it remembers commands."""

    now_ms: int
    clock: ClockQuality
    retained: bool
    remembers_since_ms: int


def refusal(command: Command, at: Circumstances) -> Refusal | None:
    """Return why a command that was never seen before is not executed; None where it may be."""
    if at.retained:
        return Refusal("retained", "the broker kept this command; commands are never retained")
    if command.op is Op.REPLAY:
        # Sending again is harmless at any time, and a clock that is wrong must not keep a stream waiting for ever.
        return None
    if at.clock is ClockQuality.UNSET:
        if command.op in HARMLESS:
            return None
        return Refusal("clock_unset", "this agent's clock is not set, so nobody can say whether the command is late")
    deadline = timestamp_ms(command.not_after)
    if at.now_ms > deadline:
        return Refusal("late", f"it came {(at.now_ms - deadline) / 1000:.1f} s after its time")
    if deadline - at.now_ms > REMEMBERED_MS:
        return Refusal("too_far", "its time lies more than 24 h ahead; this agent would have forgotten it by then")
    if command.op not in HARMLESS and made_ms(command.id) < at.remembers_since_ms:
        return Refusal("forgotten", "this agent lost its memory of commands; nobody knows whether it was done before")
    return None


def made_ms(command_id: str) -> int:
    """Return when an id was made, by the clock of who made it: the first ten characters of a ULID."""
    value = 0
    for character in command_id[:10]:
        value = value * 32 + "0123456789ABCDEFGHJKMNPQRSTVWXYZ".index(character)
    return value


def id_of(payload: bytes) -> str | None:
    """Return the id of a command that is otherwise not understood, so that whoever sent it gets an answer."""
    try:
        fields: Any = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    found = fields.get("id") if isinstance(fields, dict) else None
    return found if isinstance(found, str) and is_stream_id(found) else None


@dataclass(frozen=True)
class Seen:
    """What an instrument does at the moment of switching, and for how long it has been neither running nor unknown."""

    state: PowerState
    quiet_ms: int
    power_w: float | None


def may_cut_power(seen: Seen, wanted: SwitchArgs, by: str) -> Refusal | None:
    """Return why the power of an instrument is not cut; None where it may be. Granting power needs no leave.

    Cut only what has been off or standby for `quiet_s`, and only if the command's own conditions hold. In an
    emergency a second person may order it all the same: `approved_by`, who is not `by`.
    """
    if wanted.on:
        return None
    if wanted.approved_by is not None:
        if wanted.approved_by == by:
            return Refusal("second_person_needed", "who orders an emergency cut cannot approve it as well")
        return None
    if seen.state not in (PowerState.OFF, PowerState.STANDBY):
        return Refusal("in_use", f"the instrument is {seen.state.value}; its power is not cut")
    if seen.quiet_ms < wanted.quiet_s * 1000:
        return Refusal("not_quiet", f"it has been quiet for {seen.quiet_ms // 1000} s, not for {wanted.quiet_s} s")
    only_if = wanted.only_if
    if only_if is None:
        return None
    if only_if.state is not None and only_if.state is not seen.state:
        return Refusal("condition", f"the instrument is {seen.state.value}, not {only_if.state.value}")
    if only_if.power_below_w is not None and (seen.power_w is None or seen.power_w >= only_if.power_below_w):
        shown = "unknown" if seen.power_w is None else f"{seen.power_w:g} W"
        return Refusal("condition", f"its power is {shown}, not below {only_if.power_below_w:g} W")
    return None
