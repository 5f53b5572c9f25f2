"""Builders for usage: a registry of a few instruments, and streams of records as an agent would write them."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy.orm import Session

from store.ledger import Arrival
from store.tables.registry import Agent, Host, Instrument, Lab, Metering, Org
from wire.clock import from_ms, to_ms
from wire.ids import new_ulid, session_id
from wire.messages import ClockQuality, Odometer, PowerState, RecordKind, UsageRecord, encode, timestamp

NINE = to_ms(datetime(2026, 3, 2, 1, 0, tzinfo=UTC))
"""09:00 of a Monday in Xinchang."""
LONG_AGO = datetime(2025, 1, 1, tzinfo=UTC)


def add_registry(session: Session, instruments: int = 2, host: str = "h01") -> list[str]:
    """Put one host with one lab and some instruments in, each with its agent `a-<instrument>`; return their ids."""
    org = f"org-{host}"
    session.add(
        Org(
            org_id=org,
            uscc=f"9199{host.upper():0>14}",
            kind="host",
            state="active",
            name_zh="示例单位",
            name_en="Example host",
            created_at=LONG_AGO,
            row_version=1,
        )
    )
    session.flush()
    session.add(
        Host(
            host_id=host,
            org_id=org,
            host_type="enterprise",
            cluster_zh="轴承",
            cluster_en="bearings",
            town_zh="羽林街道",
            town_en="Yulin",
            latitude_e6=29_500_000,
            longitude_e6=120_900_000,
            row_version=1,
        )
    )
    session.flush()
    session.add(Lab(lab_id=f"{host}-l1", host_id=host, name_zh="实验室", name_en="Lab", row_version=1))
    session.flush()
    ids = [f"xc-{host}-{number:02d}" for number in range(1, instruments + 1)]
    for instrument in ids:
        session.add(
            Instrument(
                instrument_id=instrument,
                code=instrument.upper(),
                lab_id=f"{host}-l1",
                host_id=host,
                name_zh="试验机",
                name_en="Tester",
                category_code="02",
                category_zh="物理性能测试仪器",
                category_en="physical-property testing",
                model="T-1",
                supply="220V-1ph",
                power_rated_w=1500,
                power_standby_w=30,
                power_idle_w=120,
                power_running_w=750,
                run_threshold_w=300,
                use_detection="power",
                original_value_fen=18_000_000,
                share_mode="external",
                run_status="normal",
                approval="automatic",
                buffer_minutes=0,
                max_slot_minutes=24 * 60,
                traceability_months=12,
                row_version=1,
            )
        )
        session.add(
            Agent(
                agent_id=f"a-{instrument}", host_id=host, registered_by="test", registered_at=LONG_AGO, revoked_at=None
            )
        )
        session.flush()
        session.add(
            Metering(
                instrument_id=instrument,
                effective_at=LONG_AGO,
                agent_id=f"a-{instrument}",
                meter_serial="M-1",
                ct_ratio_milli=1000,
                profile="{}",
                profile_sha256="0" * 64,
                sample_period_ms=1000,
                installed_by="test",
                recorded_by="test",
                recorded_at=LONG_AGO,
            )
        )
    session.flush()
    return ids


class StreamWriter:
    """Writes the usage stream of one agent with one instrument, as the edge does: touching intervals, odometers."""

    def __init__(self, instrument: str, agent: str | None = None, start_ms: int = NINE, boot: str = "boot-1") -> None:
        self.instrument = instrument
        self.agent = agent or f"a-{instrument}"
        self.stream = new_ulid()
        self.now_ms = start_ms
        self.mono_ms = 1_000
        self.boot = boot
        self.seq = 0
        self.odo = Odometer()
        self.quality = ClockQuality.NTP
        self.session: str | None = None
        self.records: list[UsageRecord] = []

    def tick(self, state: PowerState, seconds: float, **fields: object) -> UsageRecord:
        """The instrument was in `state` for some time."""
        return self._write(RecordKind.TICK, state, round(seconds * 1000), self.session, **fields)

    def open(self, seconds_before: float = 0, **fields: object) -> UsageRecord:
        """A run begins, after some standby."""
        self.session = session_id(self.instrument, self.stream, self.seq + 1)
        ms = round(seconds_before * 1000)
        return self._write(RecordKind.OPEN, PowerState.STANDBY, ms, self.session, reason="power", **fields)

    def close(self, seconds_before: float = 0, **fields: object) -> UsageRecord:
        """The run ends, after some more running."""
        name, self.session = self.session, None
        ms = round(seconds_before * 1000)
        return self._write(RecordKind.CLOSE, PowerState.RUNNING, ms, name, reason="power", **fields)

    def gap(self, seconds: float, **fields: object) -> UsageRecord:
        """Nobody knows what the instrument did."""
        ms = round(seconds * 1000)
        return self._write(RecordKind.GAP, PowerState.UNKNOWN, ms, self.session, flags=("gap",), **fields)

    def card(
        self, card: str | None, said: str, at_ms: int, quality: ClockQuality = ClockQuality.NTP, **fields: Any
    ) -> UsageRecord:
        """A card was held to the reader: a fact of its own, with no odometer."""
        self.seq += 1
        given: dict[str, Any] = {
            "stream": self.stream,
            "seq": self.seq,
            "boot": self.boot,
            "kind": RecordKind.CHECKIN,
            "inst": self.instrument,
            "from_ms": self.mono_ms,
            "to_ms": self.mono_ms,
            "state": PowerState.UNKNOWN,
            "odo": Odometer(),
            "ts": timestamp(at_ms),
            "ts_q": quality,
            "reason": said,
            "user_hint": card,
        }
        record = UsageRecord(**(given | fields))
        self.records.append(record)
        return record

    def run(self, minutes: float, standby_s: float = 60) -> str:
        """One whole run with a tick a minute; return its session id."""
        self.open(standby_s)
        assert self.session is not None
        name, left = self.session, round(minutes * 60)
        while left > 60:
            self.tick(PowerState.RUNNING, 60)
            left -= 60
        self.close(left)
        return name

    def arrivals(self, records: list[UsageRecord] | None = None) -> list[Arrival]:
        """Records as the gateway hands them to the ledger."""
        chosen = self.records if records is None else records
        return [Arrival(self.agent, r.stream, r.seq, encode(r), r) for r in chosen]

    def _write(
        self, kind: RecordKind, state: PowerState, ms: int, session: str | None, **fields: object
    ) -> UsageRecord:
        self.seq += 1
        self.odo = self.odo.plus(state, ms)
        start = self.mono_ms
        self.mono_ms += ms
        self.now_ms += ms
        record = UsageRecord(
            stream=self.stream,
            seq=self.seq,
            boot=self.boot,
            kind=kind,
            inst=self.instrument,
            session=session,
            from_ms=start,
            to_ms=self.mono_ms,
            state=state,
            odo=self.odo,
            ts=timestamp(self.now_ms),
            ts_q=self.quality,
            **fields,  # type: ignore[arg-type]
        )
        self.records.append(record)
        return record


def at(ms: int) -> datetime:
    """The aware datetime of an instant in milliseconds."""
    return from_ms(ms)
