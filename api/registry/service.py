"""Organisations, agents and meterings: what the county office records. In the caller's transaction, audited."""

from datetime import datetime

from api.accounts.uscc import read_uscc
from api.errors import conflict, invalid, not_found
from api.registry import repository
from api.registry.rules import REGISTRARS
from api.work import Work
from store.canonical import sha256_hex
from store.tables.registry import Agent, Host, Instrument, Metering, Org, OrgKind, OrgState
from wire.clock import to_ms
from wire.ids import is_wire_id, new_ulid
from wire.profiles import profile_sha256

__all__ = ["REGISTRARS", "create_org", "find_instrument", "record_metering", "register_agent", "revoke_agent"]


def find_instrument(work: Work, instrument_id: str) -> Instrument:
    """Return an instrument by its wire id, or by its code in any case. Raises 404."""
    instrument = work.session.get(Instrument, instrument_id.lower())
    if instrument is None:
        raise not_found("仪器", "instrument", instrument_id)
    return instrument


def create_org(
    work: Work,
    *,
    uscc: str,
    kind: OrgKind,
    name_zh: str,
    name_en: str = "",
    org_id: str | None = None,
    state: OrgState = OrgState.ACTIVE,
) -> Org:
    """Record an organisation. Raises 403, 422 `uscc_invalid`, 409 `uscc_taken`."""
    work.require(REGISTRARS, "登记单位", "record organisations")
    code = read_uscc(uscc)
    if repository.org_by_uscc(work.session, code) is not None:
        raise conflict(
            "uscc_taken",
            f"代码 {code} 的单位已登记;请使用已有记录,或核对代码。",
            f"An organisation with the code {code} exists; use that one, or check the code.",
            uscc=code,
        )
    org = Org(
        org_id=org_id or new_ulid().lower(),
        uscc=code,
        kind=kind.value,
        state=state.value,
        name_zh=name_zh,
        name_en=name_en,
        created_at=work.now,
        row_version=1,
    )
    work.session.add(org)
    work.session.flush()
    after = {"uscc": code, "kind": kind.value, "state": state.value, "name_zh": name_zh}
    work.audit("org_created", f"org:{org.org_id}", host_id=None, after=after)
    return org


def register_agent(work: Work, agent_id: str, host_id: str) -> Agent:
    """Let an agent's word count for instruments of one host. Its broker credential is made where it is installed.

    Raises 403, 404 for an unknown host, 422 `bad_wire_id`, 409 `agent_exists`.
    """
    work.require(REGISTRARS, "登记采集终端", "register agents")
    if not is_wire_id(agent_id):
        raise invalid(
            "bad_wire_id",
            "编号须为 3 至 32 个小写字母、数字或 -;请更正。",
            "An id is 3 to 32 characters of a-z, 0-9 and '-'; correct it.",
            field="agent_id",
        )
    if work.session.get(Host, host_id) is None:
        raise not_found("依托单位", "host", host_id)
    if work.session.get(Agent, agent_id) is not None:
        raise conflict(
            "agent_exists",
            f"采集终端 {agent_id} 已登记;请换一个编号。",
            f"The agent {agent_id} exists; choose another id.",
            agent_id=agent_id,
        )
    agent = Agent(
        agent_id=agent_id,
        host_id=host_id,
        registered_by=work.actor.person_id,
        registered_at=work.now,
        revoked_at=None,
    )
    work.session.add(agent)
    work.session.flush()
    work.audit("agent_registered", f"agent:{agent_id}", host_id=host_id)
    return agent


def revoke_agent(work: Work, agent_id: str) -> Agent:
    """From now on the agent's word does not count; harmless if it is revoked already. Raises 403, 404."""
    work.require(REGISTRARS, "停用采集终端", "revoke agents")
    agent = work.session.get(Agent, agent_id, with_for_update=True)
    if agent is None:
        raise not_found("采集终端", "agent", agent_id)
    if agent.revoked_at is None:
        agent.revoked_at = work.now
        work.session.flush()
        work.audit("agent_revoked", f"agent:{agent_id}", host_id=agent.host_id)
    return agent


def record_metering(
    work: Work,
    *,
    instrument_id: str,
    agent_id: str,
    effective_at: datetime,
    meter_serial: str,
    ct_ratio_milli: int,
    profile: str,
    sample_period_ms: int,
    installed_by: str,
) -> Metering:
    """Record that from `effective_at` on this meter speaks for the instrument through this agent.

    `profile` is the detector profile's text; its sha256 is what agents and records cite: over the canonical profile,
    however it is written here, and over the text where that says no profile. Facts are added in the order of time:
    an earlier one would change what sessions already cite. Raises 403, 404, 422 `other_host` and `agent_revoked`,
    409 `metering_not_later` and `meter_taken`: one meter speaks for one instrument at a time.
    """
    work.require(REGISTRARS, "登记计量关系", "record meterings")
    instrument = find_instrument(work, instrument_id)
    agent = work.session.get(Agent, agent_id)
    if agent is None:
        raise not_found("采集终端", "agent", agent_id)
    if agent.host_id != instrument.host_id:
        raise invalid(
            "other_host",
            f"采集终端 {agent_id} 属于 {agent.host_id},仪器属于 {instrument.host_id};请选择同一单位的终端。",
            f"The agent {agent_id} belongs to {agent.host_id}, the instrument to {instrument.host_id}; choose"
            " an agent of that host.",
            field="agent_id",
        )
    if agent.revoked_at is not None:
        raise invalid(
            "agent_revoked",
            f"采集终端 {agent_id} 已停用;请换用其他终端。",
            f"The agent {agent_id} is revoked; choose another.",
            field="agent_id",
        )
    last = repository.latest_metering_start(work.session, instrument.instrument_id)
    if last is not None and effective_at <= last:
        raise conflict(
            "metering_not_later",
            "计量关系须晚于该仪器已有的最后一条;请改为更晚的时间。",
            "A metering starts after the instrument's last one; choose a later time.",
            last_ms=to_ms(last),
        )
    taken = repository.metered_by(work.session, meter_serial, effective_at, instrument.instrument_id)
    if taken is not None:
        raise conflict(
            "meter_taken",
            f"电表 {meter_serial} 在该时间仍计量仪器 {taken};请先为 {taken} 登记其此后的电表(没有则填 -),或核对编号:"
            "厂家不同而编号相同的在编号前加厂名,一表多路的在编号后加路号。",
            f"The meter {meter_serial} still speaks for {taken} at that time; first record the meter that {taken} has"
            " from then on ('-' for none), or check the serial: put the make before it where two makes share a number,"
            " the channel behind it where one meter has several.",
            instrument_id=taken,
        )
    metering = Metering(
        instrument_id=instrument.instrument_id,
        effective_at=effective_at,
        agent_id=agent_id,
        meter_serial=meter_serial,
        ct_ratio_milli=ct_ratio_milli,
        profile=profile,
        profile_sha256=profile_sha256(profile) or sha256_hex(profile.encode()),
        sample_period_ms=sample_period_ms,
        installed_by=installed_by,
        recorded_by=work.actor.person_id,
        recorded_at=work.now,
    )
    work.session.add(metering)
    work.session.flush()
    work.audit(
        "metering_recorded",
        f"instrument:{instrument.instrument_id}",
        host_id=instrument.host_id,
        after={
            "agent_id": agent_id,
            "effective_at_ms": to_ms(effective_at),
            "meter_serial": meter_serial,
            "ct_ratio_milli": ct_ratio_milli,
            "profile_sha256": metering.profile_sha256,
            "installed_by": installed_by,
        },
    )
    return metering
