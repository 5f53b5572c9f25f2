"""Putting hosts, labs, instruments and their papers into the registry. Called by the seed, in its transaction."""

from datetime import datetime

from api.errors import conflict, not_found
from api.registry.service import REGISTRARS, find_instrument
from api.work import Work
from store.tables.registry import Certificate, Host, Instrument, Lab, Org, TestItem, TraceabilityKind
from wire.clock import to_ms
from wire.ids import new_ulid


def create_host(work: Work, host: Host) -> Host:
    """Record that an organisation opens labs. Raises 403, 404 for an unknown organisation, 409 `host_exists`."""
    work.require(REGISTRARS, "登记依托单位", "record hosts")
    if work.session.get(Org, host.org_id) is None:
        raise not_found("单位", "organisation", host.org_id)
    if work.session.get(Host, host.host_id) is not None:
        raise conflict("host_exists", f"依托单位 {host.host_id} 已登记。", f"The host {host.host_id} exists.")
    work.session.add(host)
    work.session.flush()
    work.audit("host_created", f"host:{host.host_id}", host_id=host.host_id, after={"org_id": host.org_id})
    return host


def create_lab(work: Work, lab: Lab) -> Lab:
    """Record a lab of a host. Raises 403, 404 for an unknown host, 409 `lab_exists`."""
    work.require(REGISTRARS, "登记实验室", "record labs")
    if work.session.get(Host, lab.host_id) is None:
        raise not_found("依托单位", "host", lab.host_id)
    if work.session.get(Lab, lab.lab_id) is not None:
        raise conflict("lab_exists", f"实验室 {lab.lab_id} 已登记。", f"The lab {lab.lab_id} exists.")
    work.session.add(lab)
    work.session.flush()
    work.audit("lab_created", f"lab:{lab.lab_id}", host_id=lab.host_id, after={"name_zh": lab.name_zh})
    return lab


def create_instrument(work: Work, instrument: Instrument) -> Instrument:
    """Record an instrument of a lab. Raises 403, 404 for an unknown lab of that host, 409 `instrument_exists`."""
    work.require(REGISTRARS, "登记仪器", "record instruments")
    lab = work.session.get(Lab, instrument.lab_id)
    if lab is None or lab.host_id != instrument.host_id:
        raise not_found("实验室", "lab", instrument.lab_id)
    if work.session.get(Instrument, instrument.instrument_id) is not None:
        raise conflict("instrument_exists", f"仪器 {instrument.code} 已登记。", f"{instrument.code} exists.")
    work.session.add(instrument)
    work.session.flush()
    work.audit(
        "instrument_created",
        f"instrument:{instrument.instrument_id}",
        host_id=instrument.host_id,
        after={
            "code": instrument.code,
            "lab_id": instrument.lab_id,
            "name_zh": instrument.name_zh,
            "use_detection": instrument.use_detection,
            "run_threshold_w": instrument.run_threshold_w,
            "original_value_fen": instrument.original_value_fen,
        },
    )
    return instrument


def add_test_item(work: Work, item: TestItem) -> TestItem:
    """Record what an instrument tests. Raises 403, 404."""
    work.require(REGISTRARS, "登记检测项目", "record test items")
    instrument = find_instrument(work, item.instrument_id)
    work.session.add(item)
    work.session.flush()
    after = {"instrument_id": item.instrument_id, "name_zh": item.name_zh, "standard": item.standard}
    work.audit("test_item_added", f"test_item:{item.test_item_id}", host_id=instrument.host_id, after=after)
    return item


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
    """Record a traceability certificate, valid in [valid_from, valid_to). Raises 403, 404."""
    work.require(REGISTRARS, "登记检定校准证书", "record certificates")
    instrument = find_instrument(work, instrument_id)
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
