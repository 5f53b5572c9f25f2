"""What must hold before a prepared run is locked. Called by the reward service, under the lock of all policies."""

from sqlalchemy.orm import Session

from api.errors import conflict
from api.rewards import repository
from api.rewards.computing import result_document, run_head, stored_result
from api.rewards.policies import policy_version, version_from
from api.rewards.repository import RunLine
from api.rewards.snapshot import InputSums
from store.canonical import sha256_hex
from store.tables.rewards import RewardRun, RunState


def refuse_if_damaged(session: Session, run: RewardRun) -> None:
    """Raise 409 `run_damaged` where the stored rows are not what was hashed."""
    sums = InputSums()
    for row in repository.stored_inputs(session, run.run_id):
        sums.add(row)
    policy = policy_version(session, run.policy_id, run.policy_version)
    results = [stored_result(row) for row in repository.stored_results(session, run.run_id)]
    document = result_document(run_head(run, policy.body_sha256), results)
    if sums.sha256 != run.input_sha256 or sha256_hex(document) != run.result_sha256:
        raise conflict(
            "run_damaged",
            f"核算 {run.run_id} 的数据与其校验值不符;请勿批准,并运行 openlab verify。",
            f"The rows of run {run.run_id} are not what was hashed; do not approve it, and run openlab verify.",
            run_id=run.run_id,
        )


def refuse_if_outdated(session: Session, run: RewardRun) -> None:
    """Raise 409 `run_outdated` where a run was locked since this one was prepared, so that its difference is stale, or
    where another version of the policy came into force for its period, which nothing was granted by yet."""
    _refuse_if_superseded(session, run)
    stored = repository.stored_results(session, run.run_id)
    granted = repository.granted_before(session, RunLine.of(run), run.run_no)
    owed = repository.owed_by_host(session)
    then = {row.host_id: (row.granted_before_fen, row.carried_in_fen) for row in stored}
    now = {host: (granted.get(host, 0), owed.get(host, 0)) for host in {*then, *granted, *owed}}
    if then != now:
        raise conflict(
            "run_outdated",
            "编制之后又有其他核算被锁定;请撤回并重新编制。",
            "Another run was locked after this one was prepared; withdraw it and prepare it again.",
            run_id=run.run_id,
        )


def _refuse_if_superseded(session: Session, run: RewardRun) -> None:
    if repository.newest_run(session, RunLine.of(run), RunState.LOCKED) is not None:
        return  # what was granted once stays under the policy it was granted by
    row = version_from(session, run.policy_id, run.period_first)
    if row is None or row.version != run.policy_version:
        raise conflict(
            "run_outdated",
            "编制之后该期间的奖励政策有了新版本;请撤回并重新编制。",
            "Another version of the policy was published for this period; withdraw the run and prepare it again.",
            run_id=run.run_id,
        )


def refuse_if_rewarded_elsewhere(session: Session, run: RewardRun) -> None:
    """Raise 409 `rewarded_elsewhere` where a fee would be rewarded twice."""
    charge_id = repository.rewarded_elsewhere(session, run)
    if charge_id is not None:
        raise conflict(
            "rewarded_elsewhere",
            f"收费 {charge_id} 已在其他政策或期间的奖励中计入;同一笔收费只能奖励一次;请重新核算。",
            f"Charge {charge_id} counts in a locked run of another policy or period; a fee is rewarded once,"
            " so prepare the run anew; read that run.",
            charge_id=charge_id,
        )
