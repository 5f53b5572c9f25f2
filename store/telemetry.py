"""A telemetry message as samples and readings of the time series. Used by the gateway and the replay of quarantine."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from store.series import STATE_CODES, Reading, Sample
from store.tables.usage import UsageRecordRow
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
