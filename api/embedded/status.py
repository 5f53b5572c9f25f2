"""What is happening right now, in one line: read from the ledger, for the demo's terminal."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from store.money import yuan
from store.periods import SHANGHAI
from store.tables.charging import Charge
from store.tables.registry import Instrument
from store.tables.usage import AgentStatus, MeterPosition, UsageSession, UsageStream


@dataclass(frozen=True)
class Status:
    """A glance at the whole platform."""

    at: datetime
    agents_online: int
    running: int
    records: int
    sessions: int
    charges: int
    last_charge: str

    def line(self) -> str:
        """Return the glance as a line of text, time in Asia/Shanghai."""
        when = self.at.astimezone(SHANGHAI).strftime("%Y-%m-%d %H:%M:%S")
        return (
            f"{when}  {self.agents_online} agents online  {self.running} instruments running  "
            f"{self.records:,} records committed  {self.sessions} sessions  {self.charges} charges"
            + (f"  last: {self.last_charge}" if self.last_charge else "")
        )


def glance(session: Session, now: datetime) -> Status:
    """Read the status. Cheap enough to be asked every second."""
    last = session.execute(
        select(Charge.total_fen, Instrument.code)
        .join(Instrument, Instrument.instrument_id == Charge.instrument_id)
        .order_by(Charge.recorded_at.desc(), Charge.charge_id.desc())
        .limit(1)
    ).one_or_none()
    return Status(
        at=now,
        agents_online=_count(session, AgentStatus.online.is_(True), AgentStatus.agent_id),
        running=_count(session, MeterPosition.open_session_id.is_not(None), MeterPosition.instrument_id),
        records=int(session.scalar(select(func.sum(UsageStream.upto)).where(UsageStream.kind == "usage")) or 0),
        sessions=session.scalar(select(func.count()).select_from(UsageSession)) or 0,
        charges=session.scalar(select(func.count()).select_from(Charge)) or 0,
        last_charge="" if last is None else f"{yuan(last.total_fen)} CNY for {last.code}",
    )


def _count(session: Session, condition: object, column: object) -> int:
    return session.scalar(select(func.count(column.distinct())).where(condition)) or 0  # type: ignore[attr-defined,arg-type]
