"""Make the archive of a run, and keep that it left the house. Same ledger, same bytes."""

import hashlib
import io
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources

from sqlalchemy.orm import Session

from api.bundle import members
from api.errors import conflict
from api.exports.service import EXPORTERS, file_name
from api.rewards.policies import policy_version
from api.rewards.service import find_run
from api.work import Work
from store.canonical import canonical_json, sha256_hex
from store.tables.rewards import RewardRun, RunState

MANIFEST = "manifest.json"
CHECKER = "check.py"
_FIXED = (1980, 1, 1, 0, 0, 0)
_README = """\
This archive holds reward run {run_id} ({policy_id} version {policy_version}, {period}) and all it rests on.
To compute it again, on any machine with Python 3.9 or newer and nothing else, unpack it and run

    python check.py

It exits 0, or 1 and names the first difference. Compare the result it prints with the one that was signed:
{result_sha256}

本压缩包包含该次奖励核算及其全部依据。解压后运行 python check.py 即可在任何装有 Python 3.9 以上的电脑上重新计算;
一致时退出码为 0,不一致时为 1 并指出第一处差异。请将其打印的结果校验值与签字文件上的核对。

result.json        what every host gets; its bytes have the hash result_sha256
inputs.tsv         every charge: counted, or left out for one reason; its bytes have the hash input_sha256
policy.json        the policy, byte for byte
facts.tsv          what was known of every charge at the watermark
affiliations.tsv   how hosts and other parties stood to each other, and since when
assessments.json   the grades of the year
{marks}history.json       the results of the runs that were locked before: what was granted, what is owed
chains.json        the audit event of this run, and the ends of the hash chains of audit and usage before it
"""
_README_MARKS = "marks.json         what people recorded of bookings that keeps their fees out, with its evidence\n"


@dataclass(frozen=True)
class Bundle:
    """An archive that was made."""

    run_id: str
    file_name: str
    data: bytes
    result_sha256: str


def make_bundle(work: Work, run_id: str) -> Bundle:
    """Make the archive of a run and record (in the audit chain) who took it out and when.

    Refused: 403, 404, 409 `run_withdrawn`.
    """
    work.require(EXPORTERS, "导出奖励核算", "export reward runs")
    run = find_run(work.session, run_id)
    if run.state == RunState.WITHDRAWN.value:
        raise conflict(
            "run_withdrawn",
            f"核算 {run_id} 已撤回({run.close_reason}),不能导出;请导出有效的核算。",
            f"Run {run_id} was withdrawn ({run.close_reason}); there is nothing to export; choose a run that stands.",
            run_id=run_id,
        )
    data = bundle_bytes(work.session, run)
    work.audit(
        "reward_run.bundled",
        f"reward_run:{run_id}",
        host_id=None,
        after={"file_sha256": sha256_hex(data), "result_sha256": run.result_sha256},
    )
    name = file_name(run, run.state != RunState.LOCKED.value, "zip")
    return Bundle(run_id, name, data, run.result_sha256)


def bundle_bytes(session: Session, run: RewardRun) -> bytes:
    """Return the archive of a run; records nothing."""
    policy = policy_version(session, run.policy_id, run.policy_version)
    named = members.run_member(run)
    head = {name: str(getattr(run, name)) for name in ("run_id", "policy_id", "policy_version", "result_sha256")}
    head["marks"] = _README_MARKS if policy.body.looks_at_marks else ""
    parts: dict[str, Iterable[bytes]] = {
        "README.txt": [_README.format(**head, period=named["period"]).encode()],
        "affiliations.tsv": members.affiliations_member(session, run),
        "assessments.json": [canonical_json(members.assessments_member(session, run))],
        "chains.json": [canonical_json(members.chains_member(session, run))],
        CHECKER: [checker()],
        "facts.tsv": members.facts_member(session, run, policy),
        "history.json": [canonical_json(members.history_member(session, run))],
        "inputs.tsv": members.inputs_member(session, run),
        "policy.json": [members.policy_member(session, run)],
        "result.json": [members.result_member(session, run, policy)],
        "run.json": [canonical_json(named)],
    }
    if policy.body.looks_at_marks:
        parts[members.MARKS] = [canonical_json(members.marks_member(session, run))]
    return archive(parts)


def archive(parts: Mapping[str, Iterable[bytes]]) -> bytes:
    """Return members as one archive with a manifest of their hashes; equal members give equal bytes."""
    file = io.BytesIO()
    hashes: dict[str, str] = {}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as made:
        for name, content in sorted(parts.items()):
            hashes[name] = _write(made, name, content)
        _write(made, MANIFEST, [canonical_json({"schema": members.SCHEMA, "members": hashes})])
    return file.getvalue()


def checker() -> bytes:
    """Return the program that goes into every bundle."""
    return (resources.files("api.bundle") / CHECKER).read_bytes()


def _write(file: zipfile.ZipFile, name: str, content: Iterable[bytes]) -> str:
    entry = zipfile.ZipInfo(name, _FIXED)
    entry.compress_type, entry.create_system, entry.external_attr = zipfile.ZIP_DEFLATED, 3, 0o644 << 16
    running = hashlib.sha256()
    with file.open(entry, "w", force_zip64=True) as member:
        for part in _in_chunks(content):
            running.update(part)
            member.write(part)
    return running.hexdigest()


def _in_chunks(content: Iterable[bytes]) -> Iterator[bytes]:
    """A few large parts instead of many small ones."""
    held = bytearray()
    for part in content:
        held += part
        if len(held) >= 1 << 20:
            yield bytes(held)
            held.clear()
    yield bytes(held)
