"""Every refusal says what to do next, in Chinese and in English: all sentences that the code can refuse with are read.

They are found in the source, however they are made: by `Refused` and the functions beside it, by the faults of the
registry, by a module's own helper that hands its sentences on to one of these, or as a row of a table of refusals.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import api

ROOT = Path(api.__file__).parent
MAKERS = {"Refused": (2, 3), "conflict": (1, 2), "invalid": (1, 2), "forbidden": (0, 1), "Fault": (3, 4)}
"""Callable -> where its Chinese and its English sentence stand."""
# Chinese asks politely; English begins a clause with what to do.
_ASKS = re.compile("请")
_VERBS = """
    add ask change check choose close compare correct decide do export finish give keep leave look make migrate
    move name open order pay prepare press propose publish put read record reload remove reopen replace retire
    reverse run say see send set settle share show sign split start state submit switch take tell try turn use
    verify wait withdraw write approve upload download enter pick cancel confirm issue answer edit
"""
_BEGINS = re.compile(
    rf"(^|[.;:,–-]\s+|\b(or|and|then|first|please|now|once|otherwise|instead),?\s+)"
    rf"((then|please|first|or|and|so|either|to [a-z ]+,)\s+)?({'|'.join(_VERBS.split())})\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Sentence:
    """A refusal as it stands in the source; what is filled in later is `…`."""

    where: str
    zh: str
    en: str


def _text(node: ast.expr | None) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    if isinstance(node, ast.BinOp):
        left, right = _text(node.left), _text(node.right)
        return None if left is None or right is None else left + right
    return None


def _handed(call: ast.Call, place: int, name: str) -> ast.expr | None:
    named = next((each.value for each in call.keywords if each.arg == name), None)
    return named or (call.args[place] if len(call.args) > place else None)


def _called(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")


def _own_makers(tree: ast.Module) -> dict[str, tuple[int, int]]:
    """Functions of a module that hand their own `zh` and `en` on to a maker."""
    found = dict(MAKERS)
    for function in [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]:
        names = [argument.arg for argument in function.args.args]
        for call in [node for node in ast.walk(function) if isinstance(node, ast.Call)]:
            if (places := MAKERS.get(_called(call))) and {"zh", "en"} <= set(names):
                handed = [_handed(call, place, name) for place, name in zip(places, ("zh", "en"), strict=True)]
                if all(isinstance(node, ast.Name) and node.id in ("zh", "en") for node in handed):
                    found[function.name] = names.index("zh"), names.index("en")
    return found


def _of_tree(path: Path, tree: ast.Module) -> Iterator[Sentence]:
    makers = _own_makers(tree)
    for node in ast.walk(tree):
        said: list[str | None] = []
        if isinstance(node, ast.Call) and _called(node) in makers:
            places = zip(makers[_called(node)], ("zh", "en"), strict=True)
            said = [_text(_handed(node, place, name)) for place, name in places]
        elif isinstance(node, ast.Tuple) and len(node.elts) == 3:
            code, *rest = (_text(each) for each in node.elts)
            said = rest if code is not None and re.fullmatch("[a-z]+(_[a-z]+)+", code) else []
            said = said if said and said[0] is not None and said[0].endswith("。") else []
        zh, en = said if len(said) == 2 else (None, None)
        if zh is not None and en is not None:
            yield Sentence(f"{path.relative_to(ROOT.parent)}:{node.lineno}", zh, en)


@cache
def sentences() -> tuple[Sentence, ...]:
    found: list[Sentence] = []
    for path in sorted(ROOT.rglob("*.py")):
        found += _of_tree(path, ast.parse(path.read_text(encoding="utf-8")))
    return tuple(found)


def test_the_walk_finds_refusals_however_they_are_declared() -> None:
    """Or the two tests below would be content with nothing."""
    found = sentences()
    assert len(found) > 320
    for part in ("accounts/service.py", "booking/opening_rules.py", "registry/rules.py", "problems.py", "deps.py"):
        assert any(part in each.where for each in found), part


def test_every_refusal_says_in_chinese_what_to_do_next() -> None:
    silent = [f"{each.where}: {each.zh}" for each in sentences() if not _ASKS.search(each.zh)]
    assert silent == []


def test_every_refusal_says_in_english_what_to_do_next() -> None:
    # A sentence that is filled in as a whole is another module's, which says it.
    written = [each for each in sentences() if re.search("[a-z]", each.en)]
    silent = [f"{each.where}: {each.en}" for each in written if not _BEGINS.search(each.en)]
    assert silent == []
