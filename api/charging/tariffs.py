"""Price lists of instruments: proposed by one person, published by another, never edited, found by date.

A proposal is an event of the host's audit chain: whoever prepared it signed in to write it there, and nothing can
change it afterwards. Approving it publishes exactly those bytes with both names.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from api.charging.access import is_system, require_host_role
from api.charging.tariff_body import TariffBody, body_document, canonical_body, parse_body, read_body
from api.charging.tariff_diff import FieldChange, diff
from api.errors import conflict, not_found
from api.work import Work
from store.canonical import sha256_hex
from store.tables.accounts import Person, Role, RoleGrant
from store.tables.audit import AuditEvent
from store.tables.charging import Tariff, TariffVersion
from store.tables.registry import Instrument
from store.types import AnyRow, UtcDateTime
from store.upsert import insert_if_absent
from wire.clock import from_ms, to_ms
from wire.ids import new_ulid

_SIGNERS = (Role.LAB_MANAGER, Role.COUNTY_OFFICER)


@dataclass(frozen=True)
class TariffInForce:
    """One published version. `body_sha256` is over the stored bytes of the document."""

    tariff_id: str
    version: int
    body: TariffBody
    body_sha256: str
    valid_from: datetime
    prepared_by: str
    approved_by: str


@dataclass(frozen=True)
class Proposal:
    """A price list that somebody prepared and nobody has published by this act alone."""

    proposal_id: str
    instrument_id: str
    host_id: str
    body: TariffBody
    body_sha256: str
    valid_from: datetime
    prepared_by: str
    prepared_at: datetime


# Asked with every booking, so put together once.
_VERSION, _TARIFF = TariffVersion.__table__, Tariff.__table__
_IN_FORCE = (
    select(_VERSION)
    .join(_TARIFF, _TARIFF.c.tariff_id == _VERSION.c.tariff_id)
    .where(
        _TARIFF.c.instrument_id == bindparam("instrument"),
        _VERSION.c.valid_from <= bindparam("at", type_=UtcDateTime),
    )
    .order_by(_VERSION.c.valid_from.desc())
    .limit(1)
)


def tariff_in_force(session: Session, instrument_id: str, at: datetime) -> TariffInForce:
    """Return the version whose start is the last one at or before `at`.

    Refused 409 `no_tariff` where none is in force then: never the first, never the next one.
    """
    row = session.execute(_IN_FORCE, {"instrument": instrument_id, "at": at}).one_or_none()
    if row is None:
        raise conflict(
            "no_tariff",
            f"仪器 {instrument_id} 在该时间没有生效的收费标准;请先由依托单位发布收费标准。",
            f"No price list of {instrument_id} is in force at that time; ask its host to publish one first.",
            instrument_id=instrument_id,
            at=at.isoformat(),
        )
    found = _in_force(row)
    session.info.setdefault("tariffs", {})[found.tariff_id, found.version] = found
    return found


def tariff_from(session: Session, columns: Sequence[Any]) -> TariffInForce:
    """Return the version whose columns somebody has read, in the order of the fields of TariffInForce."""
    tariff_id, version, body, *others = columns
    found = TariffInForce(tariff_id, version, read_body(body), *others)
    session.info.setdefault("tariffs", {})[tariff_id, version] = found
    return found


def pinned_tariff(session: Session, tariff_id: str, version: int) -> TariffInForce:
    """Return exactly the version that a booking or charge names. Refused 404 where there is none."""
    known: dict[tuple[str, int], TariffInForce] = session.info.setdefault("tariffs", {})
    if (tariff_id, version) in known:  # a version never changes: read once in a unit of work
        return known[tariff_id, version]
    row = session.get(TariffVersion, (tariff_id, version))
    if row is None:
        raise not_found("收费标准", "tariff version", f"{tariff_id}/{version}")
    found = known[tariff_id, version] = _in_force(row)
    return found


def tariff_versions(session: Session, instrument_id: str) -> list[TariffInForce]:
    """Return all versions of an instrument, newest first; empty where nothing was published."""
    rows = session.execute(
        select(TariffVersion)
        .join(Tariff, Tariff.tariff_id == TariffVersion.tariff_id)
        .where(Tariff.instrument_id == instrument_id)
        .order_by(TariffVersion.version.desc())
    ).scalars()
    return [_in_force(row) for row in rows]


def changes_between(session: Session, instrument_id: str, old: int, new: int) -> tuple[FieldChange, ...]:
    """Return what changed from one published version of an instrument's prices to another. Refused 404."""
    versions = {found.version: found for found in tariff_versions(session, instrument_id)}
    for version in (old, new):
        if version not in versions:
            raise not_found("收费标准", "tariff version", f"{instrument_id}/{version}")
    return diff(versions[old].body, versions[new].body)


def changes_by_proposal(session: Session, proposal_id: str) -> tuple[FieldChange, ...]:
    """Return what a proposal changes against the latest published version; everything where there is none."""
    proposal = find_proposal(session, proposal_id)
    versions = tariff_versions(session, proposal.instrument_id)
    return diff(versions[0].body if versions else None, proposal.body)


def publish_tariff(
    work: Work, instrument_id: str, body: TariffBody, valid_from: datetime, prepared_by: str, approved_by: str
) -> TariffInForce:
    """Publish the next version of an instrument's prices, in force from `valid_from` (aware) until the version after.

    Both people must be active and sign for this host (lab manager of it, or county officer), and a person who acts
    here acts as the approver. Refused: 404, 403, 409 `same_person`, 409 `signer_not_entitled`, 409 `not_after_latest`,
    409 `tariff_backdated` (the system, which seeds history, may date back).
    """
    instrument = _instrument(work.session, instrument_id)
    require_host_role(work, instrument.host_id, (Role.COUNTY_OFFICER,), "发布收费标准", "publish prices")
    if prepared_by == approved_by or (not is_system(work.actor) and work.actor.person_id != approved_by):
        raise conflict(
            "same_person",
            "收费标准须由一人编制、另一人批准;请由另一位有权人员批准。",
            "Prices are prepared by one person and approved by another; ask a colleague to approve.",
            prepared_by=prepared_by,
        )
    for person_id in (prepared_by, approved_by):
        _require_signer(work.session, person_id, instrument.host_id)
    if valid_from < work.now and not is_system(work.actor):
        raise conflict(
            "tariff_backdated",
            "收费标准不能从过去的时间起生效;请改为之后的时间。",
            "Prices cannot take effect in the past; choose a later time.",
            valid_from=valid_from.isoformat(),
        )
    tariff = _take_tariff(work, instrument)
    latest = work.session.execute(
        select(TariffVersion.version, TariffVersion.valid_from)
        .where(TariffVersion.tariff_id == tariff.tariff_id)
        .order_by(TariffVersion.version.desc())
        .limit(1)
    ).first()
    if latest is not None and valid_from <= latest.valid_from:
        raise conflict(
            "not_after_latest",
            f"请选择晚于现有版本的生效时间:{latest.valid_from.isoformat()}。",
            f"A new price list starts after the latest one; choose a time later than {latest.valid_from.isoformat()}.",
            latest_valid_from=latest.valid_from.isoformat(),
        )
    document = canonical_body(body)
    row = TariffVersion(
        tariff_id=tariff.tariff_id,
        version=1 if latest is None else latest.version + 1,
        valid_from=from_ms(to_ms(valid_from)),
        body=document.decode(),
        body_sha256=sha256_hex(document),
        prepared_by=prepared_by,
        approved_by=approved_by,
        published_at=work.now,
    )
    work.session.add(row)
    work.session.flush()
    work.audit(
        "tariff.published",
        f"tariff:{instrument_id}",
        host_id=instrument.host_id,
        after={
            "version": row.version,
            "body_sha256": row.body_sha256,
            "valid_from_ms": to_ms(valid_from),
            "prepared_by": prepared_by,
            "approved_by": approved_by,
        },
    )
    return _in_force(row)


def propose_tariff(work: Work, instrument_id: str, body: TariffBody, valid_from: datetime) -> Proposal:
    """Record a price list under the actor's name for somebody else to approve. Nothing is in force by it."""
    instrument = _instrument(work.session, instrument_id)
    require_host_role(work, instrument.host_id, (Role.COUNTY_OFFICER,), "编制收费标准", "prepare prices")
    proposal_id = new_ulid()
    work.audit(
        "tariff.proposed",
        f"tariff_proposal:{proposal_id}",
        host_id=instrument.host_id,
        after={
            "instrument_id": instrument_id,
            "host_id": instrument.host_id,
            "valid_from_ms": to_ms(valid_from),
            "body": body_document(body),
        },
    )
    return find_proposal(work.session, proposal_id)


def find_proposal(session: Session, proposal_id: str) -> Proposal:
    """Return a proposal as it stands in the audit chain. Refused 404."""
    event = session.execute(
        select(AuditEvent).where(
            AuditEvent.subject == f"tariff_proposal:{proposal_id}", AuditEvent.action == "tariff.proposed"
        )
    ).scalar_one_or_none()
    if event is None:
        raise not_found("收费标准草案", "price proposal", proposal_id)
    fields = json.loads(event.body)["after"]
    body = parse_body(fields["body"])
    return Proposal(
        proposal_id,
        fields["instrument_id"],
        fields["host_id"],
        body,
        sha256_hex(canonical_body(body)),
        from_ms(fields["valid_from_ms"]),
        event.actor,
        event.at,
    )


def approve_proposal(work: Work, proposal_id: str, body_sha256: str) -> TariffInForce:
    """Publish a proposal with the actor as the second person. `body_sha256` says which text was read and approved.

    Refused: as `publish_tariff`, and 409 `other_body` where the hash is not the proposal's.
    """
    proposal = find_proposal(work.session, proposal_id)
    if body_sha256 != proposal.body_sha256:
        raise conflict(
            "other_body",
            "所批准的内容与草案不一致;请重新阅读草案。",
            "What you approve is not what was proposed; read the proposal again.",
            body_sha256=proposal.body_sha256,
        )
    return publish_tariff(
        work,
        proposal.instrument_id,
        proposal.body,
        proposal.valid_from,
        proposal.prepared_by,
        work.actor.person_id,
    )


def _in_force(row: TariffVersion | AnyRow) -> TariffInForce:
    body = read_body(row.body)
    return TariffInForce(
        row.tariff_id, row.version, body, row.body_sha256, row.valid_from, row.prepared_by, row.approved_by
    )


def _take_tariff(work: Work, instrument: Instrument) -> Tariff:
    """Return the instrument's tariff, locked: two publications queue up."""
    values = {
        "tariff_id": f"tariff-{instrument.instrument_id}",
        "instrument_id": instrument.instrument_id,
        "host_id": instrument.host_id,
        "created_at": work.now,
    }
    insert_if_absent(work.session, Tariff, values)
    return work.session.execute(
        select(Tariff).where(Tariff.instrument_id == instrument.instrument_id).with_for_update()
    ).scalar_one()


def _require_signer(session: Session, person_id: str, host_id: str) -> None:
    grants = session.execute(
        select(RoleGrant.role, RoleGrant.host_scope)
        .join(Person, Person.person_id == RoleGrant.person_id)
        .where(RoleGrant.person_id == person_id, RoleGrant.role.in_([role.value for role in _SIGNERS]), Person.active)
    ).all()
    if not any(grant.role == Role.COUNTY_OFFICER.value or grant.host_scope == host_id for grant in grants):
        raise conflict(
            "signer_not_entitled",
            f"{person_id} 无权签署依托单位 {host_id} 的收费标准;请由有权人员办理。",
            f"{person_id} may not sign these prices; ask a lab manager of host {host_id}.",
            person_id=person_id,
            host_id=host_id,
        )


def _instrument(session: Session, instrument_id: str) -> Instrument:
    instrument = session.get(Instrument, instrument_id)
    if instrument is None:
        raise not_found("仪器", "instrument", instrument_id)
    return instrument
