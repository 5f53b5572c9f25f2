"""Posting months of a host: where a money row goes, and closing a month for good.

A month of a host is open until it is locked; a locked month takes no further row and its seal recomputes for ever.
Whoever posts takes the month's row shared, whoever closes takes it alone, so no row slips in beside the seal.
Late use keeps its service month and is posted into the first open month.
"""

import json
from dataclasses import dataclass

from sqlalchemy import bindparam, select, update
from sqlalchemy.orm import Session

from api.charging.access import require_host_role
from api.charging.months_checklist import OpenPoint, checklist
from api.charging.months_seals import POSTED, ChainSeal, seal_chains
from api.errors import conflict, invalid, not_found
from api.work import Work
from store.canonical import canonical_json, sha256_hex
from store.periods import check_month, month_bounds, next_month
from store.tables.accounts import Role
from store.tables.charging import (
    PeriodState,
    PostingPeriod,
)
from store.tables.disputes import MonthSeal
from store.tables.registry import Host
from store.upsert import insert_if_absent

_SEERS = (Role.COUNTY_OFFICER, Role.FINANCE, Role.ADMIN, Role.AUDITOR)
_MONTH = (PostingPeriod.host_id == bindparam("host"), PostingPeriod.month == bindparam("month"))
_STATE_SHARED = select(PostingPeriod.state).where(*_MONTH).with_for_update(read=True)
_MONTH_ALONE = select(PostingPeriod).where(*_MONTH).with_for_update().execution_options(populate_existing=True)


@dataclass(frozen=True)
class Seal:
    """What a locked month held: number of charges, their sum and a hash over their hashes in code point order."""

    count: int
    sum_fen: int
    sha256: str

    def text(self) -> str:
        """Return the form that is stored."""
        return canonical_json({"count": self.count, "sum_fen": self.sum_fen, "sha256": self.sha256}).decode()

    @staticmethod
    def parse(text: str) -> "Seal":
        """Read the stored form."""
        return Seal(**json.loads(text))


@dataclass(frozen=True)
class ClosedMonth:
    """A month of one host that is locked now. `already`: it was before."""

    host_id: str
    month: int
    seal: Seal
    already: bool
    chains: tuple[ChainSeal, ...] = ()


def take_posting_month(session: Session, host_id: str, earliest: int) -> int:
    """Return the first open month of the host from `earliest` on, held open until the transaction ends."""
    month = earliest
    while True:
        asked = {"host": host_id, "month": month}
        state = session.execute(_STATE_SHARED, asked).scalar_one_or_none()
        if state is None:
            insert_if_absent(session, PostingPeriod, _open_row(host_id, month))
            state = session.execute(_STATE_SHARED, asked).scalar_one()
        if state == PeriodState.OPEN.value:
            return month
        month = next_month(month)


def take_month_alone(session: Session, host_id: str, month: int) -> PostingPeriod:
    """Return the month's row, locked against everybody who posts or closes."""
    asked = {"host": host_id, "month": month}
    row = session.execute(_MONTH_ALONE, asked).scalar_one_or_none()
    if row is None:
        insert_if_absent(session, PostingPeriod, _open_row(host_id, month))
        row = session.execute(_MONTH_ALONE, asked).scalar_one()
    return row


def compute_seal(session: Session, host_id: str, month: int) -> Seal:
    """Return the seal over all charges posted into that month, as the database holds them now."""
    rows = session.execute(POSTED, {"host": host_id, "month": month}).all()
    hashes = sorted(row.row_hash for row in rows)
    return Seal(len(rows), sum(row.total_fen for row in rows), sha256_hex("".join(f"{h}\n" for h in hashes).encode()))


def read_checklist(work: Work, host_id: str, month: int) -> tuple[PeriodState, list[OpenPoint]]:
    """Return whether a host's month is closed, and what is open of it. Refused: 404, 403 for others, 422."""
    if work.session.get(Host, host_id) is None:
        raise not_found("依托单位", "host", host_id)
    require_host_role(work, host_id, _SEERS, "查看关账清单", "see what is open")
    require_month(month)
    row = work.session.get(PostingPeriod, (host_id, month))
    state = PeriodState.OPEN if row is None else PeriodState(row.state)
    return state, checklist(work.session, host_id, month)


def close_month(work: Work, host_id: str | None, month: int) -> list[ClosedMonth]:
    """Lock a month (Asia/Shanghai, yyyymm) of one host, or of all where `host_id` is None: all of them or none.

    Refused: 403 without the role, 404 for an unknown host, 409 `month_not_over`, 409 `month_not_done` with the list of
    what is open, by host. Closing a locked month again changes nothing and returns its seal.
    """
    work.require((Role.FINANCE, Role.COUNTY_OFFICER), "关账", "close a month")
    require_month(month)
    if work.now < month_bounds(month)[1]:
        raise conflict(
            "month_not_over",
            f"{month} 月尚未结束;请在月末之后关账。",
            f"Month {month} is not over yet; close it after its last day.",
            month=month,
        )
    hosts = sorted(work.session.execute(select(Host.host_id)).scalars())
    if host_id is not None and host_id not in hosts:
        raise not_found("依托单位", "host", host_id)
    chosen = hosts if host_id is None else [host_id]
    rows = [(one, take_month_alone(work.session, one, month)) for one in chosen]
    _refuse_while_open(work.session, [one for one, row in rows if row.state != PeriodState.LOCKED.value], month)
    return [_lock(work, one, row) for one, row in rows]


def require_month(month: int) -> None:
    """Raise 422 `bad_month` unless it is a month written yyyymm."""
    try:
        check_month(month)
    except ValueError as error:
        raise invalid("bad_month", f"{month} 不是月份;请写成 202611。", f"{error}.", field="month") from None


def _refuse_while_open(session: Session, hosts: list[str], month: int) -> None:
    found = {one: points for one in hosts if (points := checklist(session, one, month))}
    if not found:
        return
    zh = ";".join(f"{one}:" + "、".join(f"{p.zh} {p.count}" for p in points) for one, points in found.items())
    en = "; ".join(f"{one}: " + ", ".join(f"{p.count} {p.en}" for p in points) for one, points in found.items())
    raise conflict(
        "month_not_done",
        f"{month} 月还不能关账,请先处理:{zh}。",
        f"Month {month} cannot be closed yet; settle these first. {en}.",
        month=month,
        open={
            one: [{"what": p.what, "count": p.count, "subjects": list(p.subjects)} for p in points]
            for one, points in found.items()
        },
    )


def _lock(work: Work, host_id: str, row: PostingPeriod) -> ClosedMonth:
    if row.state == PeriodState.LOCKED.value:
        assert row.seal is not None
        return ClosedMonth(
            host_id, row.month, Seal.parse(row.seal), True, sealed_chains(work.session, host_id, row.month)
        )
    seal = compute_seal(work.session, host_id, row.month)
    work.session.execute(
        update(PostingPeriod)
        .where(PostingPeriod.host_id == host_id, PostingPeriod.month == row.month)
        .values(state=PeriodState.LOCKED.value, seal=seal.text(), locked_by=work.actor.person_id, locked_at=work.now)
    )
    chains = seal_chains(work.session, host_id, row.month)
    work.audit(
        "month.locked",
        f"month:{host_id}:{row.month}",
        host_id=host_id,
        after={**vars(seal), "chains": [dict(vars(chain)) for chain in chains]},
    )
    return ClosedMonth(host_id, row.month, seal, False, tuple(chains))


def sealed_chains(session: Session, host_id: str, month: int) -> tuple[ChainSeal, ...]:
    """Return the seals of each chain that were kept when the month was locked; empty while it is open."""
    rows = session.execute(
        select(MonthSeal).where(MonthSeal.host_id == host_id, MonthSeal.month == month).order_by(MonthSeal.chain)
    ).scalars()
    return tuple(ChainSeal(row.chain, row.row_count, row.row_sum, row.sha256) for row in rows)


def _open_row(host_id: str, month: int) -> dict[str, object]:
    return {
        "host_id": host_id,
        "month": month,
        "state": PeriodState.OPEN.value,
        "seal": None,
        "locked_by": None,
        "locked_at": None,
    }
