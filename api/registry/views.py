"""Turn rows of the registry into what the API shows. Reads only, in the caller's transaction."""

from collections.abc import Sequence
from typing import Any

from api.registry import repository, schemas
from api.registry.service import find_instrument
from api.schemas import Answer
from api.work import Work
from store.tables.registry import Certificate, Host, Instrument, Lab
from wire.messages import PowerState


def hosts_shown(work: Work, rows: Sequence[Host]) -> list[schemas.HostAnswer]:
    """Hosts with their names and how much they open."""
    keys = [host.host_id for host in rows]
    labs = repository.count_by(work.session, Lab, Lab.host_id, keys)
    instruments = repository.count_by(work.session, Instrument, Instrument.host_id, keys)
    orgs = repository.names_of_orgs(work.session, {host.org_id for host in rows})
    return [
        schemas.HostAnswer(
            **_same_names(schemas.HostAnswer, host),
            name_zh=orgs[host.org_id].name_zh,
            name_en=orgs[host.org_id].name_en,
            retired=host.retired_at is not None,
            lab_count=labs.get(host.host_id, 0),
            instrument_count=instruments.get(host.host_id, 0),
        )
        for host in rows
    ]


def labs_shown(work: Work, rows: Sequence[Lab]) -> list[schemas.LabAnswer]:
    """Labs with the number of their instruments, each at its own place or its host's."""
    counts = repository.count_by(work.session, Instrument, Instrument.lab_id, [lab.lab_id for lab in rows])
    return [
        schemas.LabAnswer(
            **_same_names(schemas.LabAnswer, lab)
            | place_of(lab, work.session.get_one(Host, lab.host_id))
            | {"retired": lab.retired_at is not None, "instrument_count": counts.get(lab.lab_id, 0)}
        )
        for lab in rows
    ]


def place_of(lab: Lab, host: Host) -> dict[str, Any]:
    """Return town and position of a lab: its own, or its host's."""
    town = lab if lab.town_zh else host
    spot = host if lab.latitude_e6 is None else lab
    return {
        "town_zh": town.town_zh,
        "town_en": town.town_en,
        "latitude_e6": spot.latitude_e6,
        "longitude_e6": spot.longitude_e6,
    }


def _same_names(answer: type[Answer], row: object) -> dict[str, Any]:
    return {name: getattr(row, name) for name in answer.model_fields if hasattr(row, name)}


def instrument_detail(work: Work, instrument_id: str) -> schemas.InstrumentDetail:
    """All that the public may know about an instrument. Raises 404."""
    instrument = find_instrument(work, instrument_id)
    lab = work.session.get_one(Lab, instrument.lab_id)
    host = work.session.get_one(Host, instrument.host_id)
    org = repository.names_of_orgs(work.session, [host.org_id])[host.org_id]
    items = repository.test_items(work.session, instrument.instrument_id)
    papers = [paper_shown(work, row) for row in repository.certificates(work.session, instrument.instrument_id)]
    return schemas.InstrumentDetail(
        **_same_names(schemas.InstrumentDetail, instrument),
        lab_name_zh=lab.name_zh,
        lab_name_en=lab.name_en,
        host_name_zh=org.name_zh,
        host_name_en=org.name_en,
        test_items=[schemas.TestItemAnswer.model_validate(item) for item in items],
        certificates=papers,
        certificate_valid=any(paper.valid_now for paper in papers),
        witness=witness_of(work, instrument.instrument_id),
    )


def witness_of(work: Work, instrument_id: str) -> schemas.Witness:
    """What the instrument itself says, through the agent that meters it now."""
    metering = repository.metering_in_force(work.session, instrument_id, work.now)
    status = None if metering is None else repository.agent_status(work.session, metering.agent_id)
    position = repository.position(work.session, instrument_id)
    return schemas.Witness(
        agent_id=None if metering is None else metering.agent_id,
        online=None if status is None else status.online,
        heard_at=None if status is None else status.heard_at,
        state=PowerState.UNKNOWN if position is None else PowerState(position.state),
        accounted_to=None if position is None else position.accounted_to,
    )


def paper_shown(work: Work, row: Certificate) -> schemas.CertificateAnswer:
    """A certificate, and whether it counts at this moment."""
    return schemas.CertificateAnswer(
        **_same_names(schemas.CertificateAnswer, row),
        valid_now=row.withdrawn_at is None and row.valid_from <= work.now < row.valid_to,
    )
