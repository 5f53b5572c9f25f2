"""The public catalogue, and the county office's registry of organisations, agents and meterings, over HTTP."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from api.deps import Once, public_reads, reads, tagged, writes
from api.errors import forbidden
from api.pagination import WantedPage
from api.problems import problems
from api.registry import repository, revoking, schemas, service, views
from api.schemas import Page
from api.work import Work
from store.tables.accounts import Role
from store.tables.registry import OrgKind

router = APIRouter(tags=["registry"])

Everybody = Annotated[Work, public_reads()]
Office = Annotated[Work, writes(*service.REGISTRARS)]
COUNTY = (Role.COUNTY_OFFICER, Role.FINANCE, Role.ADMIN, Role.AUDITOR)


@router.get("/hosts", summary="The organisations that open labs")
def list_hosts(page: WantedPage, work: Everybody) -> Page[schemas.HostAnswer]:
    """With their place on the map and how many labs and instruments they open."""
    rows, next_cursor = repository.hosts(work.session, page)
    return Page(items=views.hosts_shown(work, rows), next_cursor=next_cursor)


@router.get("/labs", summary="The open labs")
def list_labs(
    page: WantedPage, work: Everybody, host: Annotated[str | None, Query(description="Only of this host")] = None
) -> Page[schemas.LabAnswer]:
    """Of one host or of all."""
    rows, next_cursor = repository.labs(work.session, host, page)
    return Page(items=views.labs_shown(work, rows), next_cursor=next_cursor)


@router.get("/instruments", summary="Search the instruments")
def list_instruments(
    page: WantedPage,
    work: Everybody,
    host: Annotated[str | None, Query(description="Host id")] = None,
    lab: Annotated[str | None, Query(description="Lab id")] = None,
    category: Annotated[str | None, Query(description="Category code")] = None,
    town: Annotated[str | None, Query(description="Name of the town, zh or en")] = None,
    text: Annotated[str | None, Query(max_length=100, description="Anywhere in names, code, tests or lab")] = None,
) -> Page[schemas.InstrumentAnswer]:
    """Every condition given must hold. In the order of their ids."""
    wanted = repository.CatalogueFilter(host, lab, category, town, text)
    rows, next_cursor = repository.instruments(work.session, wanted, page)
    return Page(items=[schemas.InstrumentAnswer.model_validate(row) for row in rows], next_cursor=next_cursor)


@router.get(
    "/instruments/{instrument_id}",
    summary="One instrument with its tests, papers and state",
    response_model=schemas.InstrumentDetail,
    responses=problems(404),
)
def get_instrument(instrument_id: str, work: Everybody) -> Response:
    """`witness` is what the instrument itself says: running or not, and up to when its use is in the ledger."""
    return tagged(views.instrument_detail(work, instrument_id))


@router.get(
    "/instruments/{instrument_id}/meterings", summary="Who metered an instrument since when", responses=problems(404)
)
def list_meterings(
    instrument_id: str,
    page: WantedPage,
    work: Annotated[Work, reads(Role.LAB_MANAGER, Role.COUNTY_OFFICER, Role.FINANCE, Role.ADMIN)],
) -> Page[schemas.MeteringAnswer]:
    """The latest first. A lab manager sees those of their own host: they name serials and who installed what."""
    instrument = service.find_instrument(work, instrument_id)
    if not work.actor.has(*COUNTY) and not work.actor.manages(instrument.host_id):
        raise forbidden(
            "只能查看本单位仪器的计量关系;其他单位的请联系县科技局。",
            "You see who meters the instruments of your own host; ask the county office about others.",
            host_id=instrument.host_id,
        )
    rows, next_cursor = repository.meterings(work.session, instrument.instrument_id, page)
    return Page(items=[schemas.MeteringAnswer.model_validate(row) for row in rows], next_cursor=next_cursor)


@router.post(
    "/instruments/{instrument_id}/meterings",
    status_code=201,
    summary="Record which meter speaks for an instrument from when on",
    response_model=schemas.MeteringAnswer,
    responses=problems(404),
)
def record_metering(instrument_id: str, asked: schemas.MeteringAsked, once: Once, work: Office) -> Response:
    """A dated fact: it is added, never edited, and starts after the one before."""
    return once(
        lambda: schemas.MeteringAnswer.model_validate(
            service.record_metering(
                work,
                instrument_id=instrument_id,
                agent_id=asked.agent_id,
                effective_at=asked.effective_at,
                meter_serial=asked.meter_serial,
                ct_ratio_milli=asked.ct_ratio_milli,
                profile=asked.profile,
                sample_period_ms=asked.sample_period_ms,
                installed_by=asked.installed_by,
            )
        )
    )


@router.get("/agents", summary="The registered agents")
def list_agents(
    page: WantedPage, work: Annotated[Work, reads(Role.LAB_MANAGER, Role.COUNTY_OFFICER, Role.ADMIN)]
) -> Page[schemas.AgentAnswer]:
    """A lab manager sees those of their own host."""
    county = work.actor.has(Role.COUNTY_OFFICER, Role.ADMIN, Role.AUDITOR)
    rows, next_cursor = repository.agents(work.session, None if county else work.actor.host_ids, page)
    return Page(items=[schemas.AgentAnswer.model_validate(row) for row in rows], next_cursor=next_cursor)


@router.post(
    "/agents",
    status_code=201,
    summary="Register an agent of a host",
    response_model=schemas.AgentAnswer,
    responses=problems(404),
)
def register_agent(asked: schemas.AgentAsked, once: Once, work: Office) -> Response:
    """From now on its word counts for the instruments that a metering gives it."""
    return once(lambda: schemas.AgentAnswer.model_validate(service.register_agent(work, asked.agent_id, asked.host_id)))


@router.post(
    "/agents/{agent_id}/revocation",
    status_code=201,
    summary="Revoke an agent: from now on its word does not count",
    response_model=schemas.AgentRevocationAnswer,
    responses=problems(404),
)
def revoke_agent(agent_id: str, once: Once, work: Office) -> Response:
    """What it had sent before stays what it is; what it still keeps is not taken in. To replace an agent record the
    metering that follows first, wait until nothing waits at the old one, and revoke it then."""

    def revoked() -> schemas.AgentRevocationAnswer:
        agent = schemas.AgentAnswer.model_validate(service.revoke_agent(work, agent_id))
        told = [schemas.CautionAnswer.model_validate(one) for one in revoking.cautions(work, agent_id)]
        return schemas.AgentRevocationAnswer(**agent.model_dump(), cautions=told)

    return once(revoked)


@router.get("/orgs", summary="The organisations known to the county")
def list_orgs(
    page: WantedPage,
    work: Annotated[Work, reads(Role.COUNTY_OFFICER, Role.FINANCE, Role.ADMIN)],
    kind: Annotated[OrgKind | None, Query(description="Only of this kind")] = None,
) -> Page[schemas.OrgAnswer]:
    """In the order of their ids."""
    rows, next_cursor = repository.orgs(work.session, None if kind is None else kind.value, page)
    return Page(items=[schemas.OrgAnswer.model_validate(row) for row in rows], next_cursor=next_cursor)


@router.post("/orgs", status_code=201, summary="Record an organisation", response_model=schemas.OrgAnswer)
def create_org(asked: schemas.OrgAsked, once: Once, work: Office) -> Response:
    """Its social credit code must be valid and new."""
    return once(
        lambda: schemas.OrgAnswer.model_validate(
            service.create_org(work, uscc=asked.uscc, kind=asked.kind, name_zh=asked.name_zh, name_en=asked.name_en)
        )
    )
