"""The checker of a bundle comes to what the product came to, and names what was changed, without the product."""

import ast
import importlib.util
import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.bundle.service import archive, checker
from api.rewards.computing import frozen_shares
from api.rewards.policy_body import PolicyBody, parse_policy, policy_document, shipped_policies
from api.rewards.rules import ChargeFacts
from store.canonical import canonical_json, sha256_hex
from store.tables.charging import ChargePurpose
from store.tables.rewards import Grade, MarkCode
from tests.api.bundle.making import Made, facts_of

SHIPPED = {policy.policy_id: policy.body for policy in shipped_policies()}
VECTORS = [
    ("FLAT10", None, 350_000, 3_500_000),
    ("FLAT10", None, 25_000_000, 200_000_000),
    ("FLAT20", None, 350_000, 7_000_000),
    ("FLAT20", None, 25_000_001, 500_000_000),
    ("XC-DEMO", Grade.GOOD, 80_000, 1_600_000),
    ("XC-DEMO", Grade.GOOD, 350_000, 5_750_000),
    ("XC-DEMO", Grade.EXCELLENT, 350_000, 6_900_000),
    ("XC-DEMO", Grade.PASS, 350_000, 4_600_000),
    ("XC-DEMO", Grade.FAIL, 350_000, 0),
    ("XC-DEMO", Grade.EXCELLENT, 2_500_000, 30_000_000),
    ("XC-DEMO", Grade.GOOD, 2_500_000, 28_000_000),
]


def _load() -> Any:
    spec = importlib.util.find_spec("api.bundle.check")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CHECK = _load()


def said_of(data: bytes, folder: Path) -> str:
    """What the checker says of an archive, "" where everything comes out again."""
    path = folder / "bundle.zip"
    path.write_bytes(data)
    try:
        CHECK.check(CHECK.Folder(path))
    except CHECK.Differs as differs:
        return str(differs)
    return ""


def run_alone(data: bytes, folder: Path) -> subprocess.CompletedProcess[str]:
    """Unpack a bundle into an empty folder and run its program with Python alone: no site packages, no environment."""
    place = folder / "unpacked"
    with zipfile.ZipFile(io.BytesIO(data)) as packed:
        packed.extractall(place)
    command = [sys.executable, "-I", "-S", "check.py"]
    return subprocess.run(command, cwd=place, env={}, capture_output=True, text=True, timeout=60)


def changed(body: PolicyBody, **fields: object) -> PolicyBody:
    return parse_policy(policy_document(body) | fields)


@pytest.mark.parametrize(("policy", "grade", "base", "reward_fen"), VECTORS)
def test_every_published_example_comes_out_without_the_product(
    policy: str, grade: Grade | None, base: int, reward_fen: int, tmp_path: Path
) -> None:
    made = Made(SHIPPED[policy], [facts_of("c1", "h01", base * 100)], {} if grade is None else {"h01": grade})
    assert made.results()[0].reward_fen == reward_fen
    done = run_alone(made.archived(), tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{reward_fen // 100}.{reward_fen % 100:02d} yuan" in done.stdout


def test_the_published_example_of_a_short_budget_comes_out(tmp_path: Path) -> None:
    body = changed(
        SHIPPED["FLAT10"],
        tiers=[{"from_fen": 0, "to_fen": None, "rate_bp": 10_000}],
        host_cap_fen=None,
        budget_fen=40_000_000,
        on_budget_short="prorate",
    )
    facts = [facts_of(f"c{n}", f"h0{n}", fen) for n, fen in enumerate((6_900_000, 5_750_000, 30_000_000))]
    first = Made(body, facts)
    assert [row.reward_fen for row in first.results()] == [6_471_278, 5_392_731, 28_135_991]
    assert said_of(first.archived(), tmp_path) == ""
    later = Made(
        body,
        [*facts, facts_of("c9", "h02", 777)],
        history=first.as_history(1),
        granted={row.host_id: row.reward_fen for row in first.results()},
        frozen=frozen_shares(first.results()),
        run_no=2,
    )
    assert [row.payable_fen for row in later.results()][:2] == [0, 0]
    assert said_of(later.archived(), tmp_path) == ""


def test_what_is_owed_is_carried(tmp_path: Path) -> None:
    first = Made(SHIPPED["FLAT10"], [facts_of("c1", "h01", 100_000), facts_of("c2", "h02", 50_000)])
    less = [facts_of("c1", "h01", 100_000, reversed=True), facts_of("c2", "h02", 50_000)]
    second = Made(SHIPPED["FLAT10"], less, history=first.as_history(1), granted={"h01": 10_000, "h02": 5_000}, run_no=2)
    assert [row.carried_out_fen for row in second.results()] == [-10_000, 0]
    assert said_of(second.archived(), tmp_path) == ""


MARKS = [code.value for code in MarkCode]
GOOD_FLAGS = ("has_session", "certificate_valid", "invoiced")
RARELY = st.sampled_from([False] * 6 + [True])
amounts = st.sampled_from([0, 1, 5, 49, 50, 9_999_999, 10_000_000, 10_000_001]) | st.integers(0, 10**11)
some_facts = st.builds(
    facts_of,
    charge_id=st.text("aZ_0试", min_size=1, max_size=6),
    host_id=st.sampled_from(["h01", "h02", "Ä"]),
    total_fen=amounts,
    purpose=st.sampled_from([purpose.value for purpose in ChargePurpose]),
    revision=st.sampled_from([1, 1, 1, 2, 3]),
    net_fen=amounts,
    cash_fen=amounts,
    voucher_fen=amounts,
    waived_fen=st.just(0) | amounts,
    coverage_bp=st.sampled_from([0, 9_499, 9_500, 10_000]),
    payer_region=st.sampled_from(["330624", "330624", "330106", "310000", ""]),
    marks=st.just(())
    | st.sets(st.sampled_from(MARKS), max_size=2).map(lambda found: tuple(sorted(found, key=MARKS.index))),
    **{
        name: st.booleans() if name in GOOD_FLAGS else RARELY
        for name in (
            *("reversed", "internal", "has_session", "certificate_valid", "affiliated", "session_cleared"),
            *("coverage_cleared", "certificate_cleared", "anomaly_confirmed", "anomaly_open", "invoiced"),
        )
    },
)


def _fits(one: ChargeFacts) -> ChargeFacts:
    """Amounts that a charge can have: tenders within its total, net at most gross, a reversal negative."""
    voucher = one.voucher_fen % (one.total_fen + 1)
    waived = one.waived_fen % (one.total_fen - voucher + 1)
    sign = -1 if one.revision % 2 == 0 else 1
    return one._replace(
        total_fen=sign * one.total_fen,
        net_fen=sign * (one.net_fen % (one.total_fen + 1)),
        voucher_fen=voucher,
        waived_fen=waived,
        cash_fen=one.cash_fen % (one.total_fen - voucher - waived + 1)
        if one.cash_fen % 2
        else one.total_fen - voucher - waived,
    )


@settings(max_examples=150, deadline=None)
@given(
    st.lists(some_facts.map(_fits), max_size=12, unique_by=lambda one: one.charge_id),
    st.sampled_from(sorted(SHIPPED)),
    st.fixed_dictionaries(
        {},
        optional={
            "basis": st.sampled_from(["paid", "invoiced"]),
            "amount": st.sampled_from(["gross", "net"]),
            "voucher_counts": st.booleans(),
            "exclusions": st.sets(st.sampled_from([e for e in CHECK.EXCLUSIONS if e != "out_of_area"])).map(sorted),
            "area_codes": st.sampled_from([["33"], ["3306"], ["310000", "3306"]]),
            "instrument_fee_cap_fen": st.none() | amounts,
            "coverage_min_bp": st.sampled_from([0, 9_500, 10_000]),
            "min_payout_fen": st.sampled_from([0, 1, 100_000]),
            "host_cap_fen": st.none() | amounts,
            "prorate": st.integers(0, 10**9),
        },
    ),
    st.dictionaries(st.sampled_from(["h01", "h02", "Ä"]), st.sampled_from(list(Grade))),
)
def test_the_checker_agrees_with_the_product_whatever_the_facts_and_the_policy(
    tmp_path_factory: pytest.TempPathFactory,
    facts: list[ChargeFacts],
    policy: str,
    fields: dict[str, Any],
    grades: dict[str, Grade],
) -> None:
    if "area_codes" in fields:
        usual = list(SHIPPED[policy].exclusions)
        fields["exclusions"] = sorted({*fields.get("exclusions", usual), "out_of_area"})
    budget = fields.pop("prorate", None)
    if budget is not None:
        fields |= {"budget_fen": budget, "on_budget_short": "prorate"}
    made = Made(changed(SHIPPED[policy], **fields), facts, grades)
    assert said_of(made.archived(), tmp_path_factory.getbasetemp()) == ""


GOOD = Made(
    SHIPPED["XC-DEMO"],
    [
        facts_of("c1", "h01", 100_000),
        facts_of("c2", "h01", 40_000, cash_fen=0),
        facts_of("c3", "h02", 5, affiliated=True),
    ],
    {"h01": Grade.GOOD, "h02": Grade.PASS},
)


def _replaced(name: str, old: bytes, new: bytes) -> Callable[[dict[str, bytes]], None]:
    def change(parts: dict[str, bytes]) -> None:
        assert old in parts[name], parts[name]
        parts[name] = parts[name].replace(old, new, 1)

    return change


def _whole_lie(parts: dict[str, bytes]) -> None:
    """A result whose own hash was made again everywhere in the bundle but in the audit chain."""
    result = json.loads(parts["result.json"])
    result["results"][0]["explanation"] = result["results"][0]["explanation"].replace("单位", "他人")
    parts["result.json"] = canonical_json(result)
    run = json.loads(parts["run.json"]) | {"result_sha256": sha256_hex(parts["result.json"])}
    parts["run.json"] = canonical_json(run)


NEW = Made(
    changed(
        SHIPPED["FLAT10"],
        exclusions=["affiliated", "bulk", "out_of_area"],
        area_codes=["3306"],
        instrument_fee_cap_fen=120_000,
    ),
    [
        facts_of("c1", "h01", 100_000),
        facts_of("c2", "h01", 40_000),
        facts_of("c3", "h01", 5),
        facts_of("c4", "h01", 10_000, marks=("bulk",)),
        facts_of("c5", "h01", 10_000, marks=("medical",), payer_region="310101"),
    ],
)


def test_marks_area_and_the_cap_of_an_instrument_come_out_without_the_product(tmp_path: Path) -> None:
    wanted = [("eligible", 100_000), ("eligible", 20_000), ("instrument_cap", 0), ("bulk", 0), ("out_of_area", 0)]
    assert [(row.reason, row.eligible_fen) for row in NEW.rows()] == wanted
    done = run_alone(NEW.archived(), tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "120.00 yuan" in done.stdout


CHANGES: dict[str, tuple[Callable[[dict[str, bytes]], None], str]] = {
    "amount of a charge": (
        _replaced("inputs.tsv", b"c1\th01\t100000\t100000", b"c1\th01\t100000\t100001"),
        "charge c1:",
    ),
    "reason of a charge": (_replaced("inputs.tsv", b"\tunpaid", b"\tno_session"), "charge c2:"),
    "a charge left out": (_replaced("inputs.tsv", b"c2\th01\t40000\t0\tunpaid\n", b""), "no facts of charge c3"),
    "a fact": (_replaced("facts.tsv", b"\t100000\t100000\t100000\t", b"\t100000\t100000\t900\t"), "charge c1:"),
    "an affiliation": (_replaced("affiliations.tsv", b"\taffiliated\t", b"\tindependent\t"), "charge c3:"),
    "a grade": (_replaced("assessments.json", b'"good"', b'"excellent"'), "host h01: grade"),
    "the policy": (_replaced("policy.json", b"2000", b"2001"), "policy.json:"),
    "a payable amount": (
        _replaced("result.json", b'"payable_fen":20000,', b'"payable_fen":20001,'),
        "host h01: payable_fen",
    ),
    "an explanation": (_replaced("result.json", b"tiers_e4", b"tiers_e5"), "host h01: explanation"),
    "a host's name": (_whole_lie, "chains.json: the audit event names another result"),
    "the audit event": (_replaced("chains.json", b"reward_run:R1", b"reward_run:R2"), "chains.json: the audit event"),
    "a run's own hash": (
        _replaced("run.json", b'"result_sha256":"', b'"result_sha256":"0'),
        "result.json: not what was hashed",
    ),
    "history": (
        lambda parts: parts.__setitem__("history.json", json.dumps(GOOD.as_history(0)).encode()),
        "host h01: granted_before_fen",
    ),
}


def _signed_alone(parts: dict[str, bytes]) -> None:
    parts["marks.json"] = parts["marks.json"].replace(b'"decided_by":"b"', b'"decided_by":"a"')


NEW_CHANGES: dict[str, tuple[Callable[[dict[str, bytes]], None], str]] = {
    "a mark taken away": (lambda parts: parts.__setitem__("marks.json", b"[]"), "charge c4:"),
    "a mark of one person": (_signed_alone, "marks.json: one person alone"),
    "another instrument": (_replaced("facts.tsv", b"b-c2\ti-1", b"b-c2\ti-2"), "charge c2:"),
    "another area": (_replaced("facts.tsv", b"310101", b"330601"), "charge c5:"),
    "an unknown field of the policy": (
        _replaced("policy.json", b'"area_codes"', b'"area_codez"'),
        "policy.json:",
    ),
}


def test_a_policy_with_a_field_that_the_checker_does_not_know_is_refused(tmp_path: Path) -> None:
    parts = {name: b"".join(content) for name, content in GOOD.parts().items()}
    policy = json.loads(parts["policy.json"]) | {"bonus_fen": 0}
    parts["policy.json"] = canonical_json(policy)
    result = json.loads(parts["result.json"])
    result["run"]["policy_sha256"] = sha256_hex(parts["policy.json"])
    parts["result.json"] = canonical_json(result)
    said = said_of(archive({name: [content] for name, content in parts.items()}), tmp_path)
    assert said.startswith("policy.json: its fields are")
    assert "bonus_fen" in said


@pytest.mark.parametrize("what", NEW_CHANGES)
def test_a_change_of_what_a_policy_looks_at_besides_is_named(what: str, tmp_path: Path) -> None:
    change, named = NEW_CHANGES[what]
    parts = {name: b"".join(content) for name, content in NEW.parts().items()}
    change(parts)
    assert named in said_of(archive({name: [content] for name, content in parts.items()}), tmp_path)


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_is_named_even_if_the_manifest_was_made_again(what: str, tmp_path: Path) -> None:
    change, named = CHANGES[what]
    parts = {name: b"".join(content) for name, content in GOOD.parts().items()}
    change(parts)
    assert named in said_of(archive({name: [content] for name, content in parts.items()}), tmp_path)


def test_a_changed_byte_of_any_member_is_named(tmp_path: Path) -> None:
    assert said_of(GOOD.archived(), tmp_path) == ""
    with zipfile.ZipFile(io.BytesIO(GOOD.archived())) as packed:
        contents = {name: packed.read(name) for name in packed.namelist()}
    for name in contents:
        forged = io.BytesIO()
        with zipfile.ZipFile(forged, "w") as file:
            for other, content in contents.items():
                changed_content = content.replace(content[-1:], b"~", 1) if other == name else content
                file.writestr(other, changed_content)
        try:
            assert said_of(forged.getvalue(), tmp_path) != "", name
        except (ValueError, LookupError, TypeError):  # the program itself answers with 1: the next test
            continue


def test_what_cannot_be_read_ends_with_one_sentence_and_not_with_a_trace(tmp_path: Path) -> None:
    parts = dict(GOOD.parts()) | {"history.json": [b"{"]}
    done = run_alone(archive(parts), tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith("DIFFERS the bundle cannot be read")


def test_another_result_than_the_one_that_was_signed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "b.zip"
    path.write_bytes(GOOD.archived())
    signed = json.loads(b"".join(GOOD.parts()["run.json"]))["result_sha256"]
    CHECK.check(CHECK.Folder(path), signed)
    with pytest.raises(CHECK.Differs, match="not the one you named"):
        CHECK.check(CHECK.Folder(path), "0" * 64)


def test_the_checker_imports_the_standard_library_only() -> None:
    tree = ast.parse(checker())
    imported = {
        (node.module or "") if isinstance(node, ast.ImportFrom) else alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert {name.split(".")[0] for name in imported} <= sys.stdlib_module_names


def test_equal_runs_give_equal_bytes() -> None:
    assert GOOD.archived() == GOOD.archived()
