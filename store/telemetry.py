"""A telemetry message as samples and readings of the time series. Used by the gateway and the replay of quarantine."""

from collections.abc import Sequence

from sqlalchemy import and_, select
from sqlalchemy.orm import Session

from store.ledger.labels import Label, set_again, step_of
from store.series import STATE_CODES, Reading, Sample
from store.tables.usage import EntryKind, UsageEntry, UsageRecordRow
from wire.messages import ClockQuality, RecordKind, Telemetry, UsageRecord, timestamp_ms

_CLOCKS_LOOKED_AT = 100


class ClockUnset(Exception):
    """The agent's clock was not set when it labelled these samples, and no record of the same boot says what it was."""

    WHY = "its clock was not set and nothing dates these samples yet; replay it once the agent's clock is set"


def boot_offset(session: Session, agent_id: str, boot: str) -> int:
    """Return wall time less monotonic time of a boot, as its agent said it when the clock was set (milliseconds).

    Raises ClockUnset where it never did.
    """
    payloads = session.execute(
        select(UsageRecordRow.payload)
        .where(UsageRecordRow.agent_id == agent_id, UsageRecordRow.kind == RecordKind.CLOCK.value)
        .order_by(UsageRecordRow.received_at.desc(), UsageRecordRow.seq.desc())
        .limit(_CLOCKS_LOOKED_AT)
    ).scalars()
    for record in map(UsageRecord.model_validate_json, payloads):
        if record.boot == boot and record.ts_q is not ClockQuality.UNSET:
            return timestamp_ms(record.ts) - record.to_ms
    raise ClockUnset(ClockUnset.WHY)


def clocks_told(session: Session, agent_id: str) -> list[UsageRecord]:
    """Return the newest clock records of an agent. Found through the links that state them: an agent has few of those,
    and a hundred thousand records."""
    payloads = session.execute(
        select(UsageRecordRow.payload)
        .join(
            UsageEntry,
            and_(
                UsageEntry.agent_id == UsageRecordRow.agent_id,
                UsageEntry.stream == UsageRecordRow.stream,
                UsageEntry.last_seq == UsageRecordRow.seq,
            ),
        )
        .where(
            UsageEntry.agent_id == agent_id,
            UsageEntry.kind == EntryKind.EVENT.value,
            UsageEntry.reason == RecordKind.CLOCK.value,
        )
        .order_by(UsageEntry.recorded_at.desc(), UsageEntry.last_seq.desc())
        .limit(_CLOCKS_LOOKED_AT)
    ).scalars()
    return [UsageRecord.model_validate_json(payload) for payload in payloads]


def offset_since_told(message: Telemetry, clocks: Sequence[UsageRecord]) -> int | None:
    """Return wall time less monotonic time of samples whose clock was told to be wrong after they were labelled, by the
    rule that dates sessions again (store.ledger.labels); None where their label stands. `clocks` are their agent's."""
    told = label = Label(timestamp_ms(message.ts), message.boot, message.t0_ms, message.ts_q, None)
    for clock in sorted((one for one in clocks if one.boot == message.boot), key=lambda one: one.to_ms):
        step_ms = step_of(clock)
        if step_ms is not None and clock.to_ms >= message.t0_ms:
            label = set_again(label, clock, step_ms, is_over=True) or label
    return None if label is told else label.at_ms - label.mono_ms


def samples_of(message: Telemetry, offset_ms: int | None = None) -> list[Sample]:
    """Return the samples of a batch, power in whole milliwatts. Their instants come from its wall-clock label, or from
    the boot's monotonic time and `offset_ms` where the clock was set afterwards.

    Raises OverflowError for a power or energy beyond all numbers.
    """
    t0_ms = _first_ms(message, offset_ms)
    energies = message.energy_wh or (None,) * len(message.dt_ms)
    return [
        Sample(
            instrument_id=message.inst,
            at_ms=t0_ms + dt_ms,
            power_mw=round(power_w * 1000),
            state=STATE_CODES[state],
            energy_mwh=None if energy_wh is None else round(energy_wh * 1000),
        )
        for dt_ms, power_w, state, energy_wh in zip(
            message.dt_ms, message.power_w, message.state, energies, strict=True
        )
    ]


def readings_of(message: Telemetry, offset_ms: int | None = None) -> list[Reading]:
    """Return what else the meter showed, dated with the last sample of the batch; `offset_ms` as for `samples_of`."""
    at_ms = _first_ms(message, offset_ms) + message.dt_ms[-1]
    return [Reading(message.inst, at_ms, quantity, value) for quantity, value in message.extra.items()]


def _first_ms(message: Telemetry, offset_ms: int | None) -> int:
    return timestamp_ms(message.ts) if offset_ms is None else message.t0_ms + offset_ms
