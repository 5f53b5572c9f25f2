"""Certificates of traceability, and the days that are not like their weekday. In the caller's transaction, audited.

A certificate is never edited: a wrong one is withdrawn with a reason and recorded anew.
"""

from datetime import date, datetime

from api.charging.access import require_host_role
from api.errors import conflict, invalid, not_found
from api.registry.rules import REGISTRARS
from api.registry.service import find_instrument
from api.repeats import check_version
from api.work import Work
from store.tables.registry import Certificate, Host, Instrument, SpecialDay, TraceabilityKind
from wire.clock import to_ms
from wire.ids import new_ulid

COUNTY = "county"


def record_certificate(
    work: Work,
    *,
    instrument_id: str,
    kind: TraceabilityKind,
    number: str,
    body: str,
    valid_from: datetime,
    valid_to: datetime,
) -> Certificate:
    """Record a certificate, valid in [valid_from, valid_to). Raises 403, 404, 422 `validity_reversed`."""
    instrument = find_instrument(work, instrument_id)
    require_host_role(work, instrument.host_id, REGISTRARS, "登记检定校准证书", "record certificates")
    if valid_to <= valid_from:
        raise invalid(
            "validity_reversed",
            "证书的有效期止须晚于有效期起;请更正。",
            "The certificate has to end after it begins; correct its dates.",
            field="valid_to",
        )
    certificate = Certificate(
        certificate_id=new_ulid().lower(),
        instrument_id=instrument.instrument_id,
        kind=kind.value,
        number=number,
        body=body,
        valid_from=valid_from,
        valid_to=valid_to,
        recorded_by=work.actor.person_id,
        recorded_at=work.now,
    )
    work.session.add(certificate)
    work.session.flush()
    work.audit(
        "certificate_recorded",
        f"instrument:{instrument.instrument_id}",
        host_id=instrument.host_id,
        after={"number": number, "valid_from_ms": to_ms(valid_from), "valid_to_ms": to_ms(valid_to)},
    )
    return certificate


def withdraw_certificate(work: Work, certificate_id: str, reason: str) -> Certificate:
    """From now on the certificate does not count; harmless if it is withdrawn already. Raises 403, 404."""
    certificate = work.session.get(Certificate, certificate_id, with_for_update=True)
    if certificate is None:
        raise not_found("证书", "certificate", certificate_id)
    instrument = work.session.get_one(Instrument, certificate.instrument_id)
    require_host_role(work, instrument.host_id, REGISTRARS, "撤销证书", "withdraw certificates")
    if certificate.withdrawn_at is None:
        certificate.withdrawn_at = work.now
        work.session.flush()
        work.audit(
            "certificate_withdrawn",
            f"instrument:{instrument.instrument_id}",
            host_id=instrument.host_id,
            before={"number": certificate.number, "valid_to_ms": to_ms(certificate.valid_to)},
            after={"reason": reason},
        )
    return certificate


def put_special_day(
    work: Work, *, host_id: str | None, day: date, like_weekday: int | None, name_zh: str, name_en: str
) -> SpecialDay:
    """Say that a day is closed, or open like a weekday: for a host, or (None) the county. A later word replaces it.

    Bookings made before stand; an outage moves them. Raises 403, 404 for an unknown host.
    """
    _require_calendar(work, host_id)
    if host_id is not None and work.session.get(Host, host_id) is None:
        raise not_found("依托单位", "host", host_id)
    key = f"{host_id or COUNTY}-{day.isoformat()}"
    row = work.session.get(SpecialDay, key, with_for_update=True)
    before = None if row is None else _day_facts(row)
    if row is None:
        row = SpecialDay(special_day_id=key, host_id=host_id, day=day.isoformat(), row_version=0)
        work.session.add(row)
    row.like_weekday, row.name_zh, row.name_en = like_weekday, name_zh, name_en
    row.recorded_by, row.recorded_at = work.actor.person_id, work.now
    row.row_version += 1
    work.session.flush()
    work.audit("special_day_recorded", f"special_day:{key}", host_id=host_id, before=before, after=_day_facts(row))
    return row


def drop_special_day(work: Work, special_day_id: str, version: int) -> None:
    """The day is like its weekday again. Raises 403, 404, 412; 409 `day_is_past`: what was is kept."""
    row = work.session.get(SpecialDay, special_day_id, with_for_update=True)
    if row is None:
        raise not_found("特殊日期", "special day", special_day_id)
    _require_calendar(work, row.host_id)
    check_version(row.row_version, version)
    if date.fromisoformat(row.day) < work.now.date():
        raise conflict(
            "day_is_past",
            "已过去的日期不能删除;请选择今天或之后的日期。",
            "A day that has passed stays as it was; choose one from today on.",
            day=row.day,
        )
    work.session.delete(row)
    work.session.flush()
    work.audit("special_day_dropped", f"special_day:{special_day_id}", host_id=row.host_id, before=_day_facts(row))


def _require_calendar(work: Work, host_id: str | None) -> None:
    if host_id is None:
        work.require(REGISTRARS, "维护全县节假日", "keep the county's holidays")
    else:
        require_host_role(work, host_id, REGISTRARS, "维护本单位休息日", "keep a host's days off")


def _day_facts(row: SpecialDay) -> dict[str, object]:
    return {"day": row.day, "like_weekday": row.like_weekday, "name_zh": row.name_zh}
