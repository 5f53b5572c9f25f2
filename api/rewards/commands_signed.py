"""`openlab rewards marks …` and `openlab rewards assessments …`: what officers record with its evidence and a second
person decides about. Added to the command line by commands.py; the services are those of the endpoints."""

import json
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from api.accounts.acting import acting_as
from api.command_line import open_ledger
from api.pagination import PageAsked
from api.rewards.assessments import ProposalSeen, decide_assessment, grades_page, proposals_page, propose_assessment
from api.rewards.marks import MarkSeen, decide_mark, marks_page, propose_mark, withdraw_mark
from api.rewards.schemas_marks import MarkAnswer
from api.rewards.schemas_steps import AssessmentAnswer, AssessmentProposalAnswer
from api.schemas import Answer
from store.tables.rewards import Grade, MarkCode

marks = typer.Typer(help="What keeps fees of a booking out of a reward, as two people record.", no_args_is_help=True)
assessments = typer.Typer(help="The yearly grades of hosts, as two people record.", no_args_is_help=True)

AnswerT = TypeVar("AnswerT", bound=Answer)

NEWEST = PageAsked(limit=200)
DataDir = Annotated[Path | None, typer.Option(help="Folder of the databases, where no URL is set.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a program.")]
As = Annotated[str, typer.Option("--as", help="Login of the person who does it.", metavar="LOGIN")]
Evidence = Annotated[str, typer.Option(help="What it rests on.")]
File = Annotated[
    Path | None, typer.Option(help="A file that shows it; its sha256 is recorded.", exists=True, dir_okay=False)
]
OpenOnly = Annotated[bool, typer.Option("--open", help="Only what nobody has decided about.")]
Approve = Annotated[bool, typer.Option("--approve/--refuse", help="What you decide.")]
Note = Annotated[str, typer.Option(help="Why you refuse it.")]


@marks.command("list")
def list_marks(
    booking: Annotated[str | None, typer.Option(help="Only of this booking.")] = None,
    code: Annotated[MarkCode | None, typer.Option(help="Only of this kind.")] = None,
    open_only: OpenOnly = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """List the newest 200 marks and withdrawals with what was decided about each.

    Example: openlab rewards marks list --open
    """
    with open_ledger(data_dir=data_dir) as ledger, ledger.look("rewards") as work:
        seen, _ = marks_page(work.session, NEWEST, booking, code, open_only)
        _tell([MarkAnswer.of(one) for one in seen], _mark, as_json=as_json)


@marks.command("propose")
def mark_booking(
    code: Annotated[MarkCode, typer.Argument(help="What keeps the fees out.")],
    login: As,
    evidence: Evidence,
    booking: Annotated[str | None, typer.Option(help="The booking.")] = None,
    charge: Annotated[str | None, typer.Option(help="Or one of its charges.")] = None,
    file: File = None,
    data_dir: DataDir = None,
) -> None:
    """Record of a booking what keeps its fees out. Counts once a second person has approved it.

    Example: openlab rewards marks propose statutory --charge 01JD… --as officer-1 --evidence "order 12 of the county"
    """
    with open_ledger(data_dir=data_dir) as ledger, acting_as(ledger, login) as work:
        row = propose_mark(work, code, evidence, charge, booking, _hash(file))
        typer.echo(_mark(MarkAnswer.of(MarkSeen(row, None, False))))


@marks.command("withdraw")
def withdraw(
    mark_id: Annotated[str, typer.Argument(help="The mark.")],
    login: As,
    evidence: Evidence,
    file: File = None,
    data_dir: DataDir = None,
) -> None:
    """Record that a mark does not hold. It stands until a second person has approved this.

    Example: openlab rewards marks withdraw 01JD… --as officer-1 --evidence "the order was lifted"
    """
    with open_ledger(data_dir=data_dir) as ledger, acting_as(ledger, login) as work:
        row = withdraw_mark(work, mark_id, evidence, _hash(file))
        typer.echo(_mark(MarkAnswer.of(MarkSeen(row, None, False))))


@marks.command("decide")
def decide_about_mark(
    mark_id: Annotated[str, typer.Argument(help="The mark, or the withdrawal of one.")],
    login: As,
    approve: Approve,
    note: Note = "",
    data_dir: DataDir = None,
) -> None:
    """Approve or refuse a mark, or its withdrawal, as its second person. Once.

    Example: openlab rewards marks decide 01JD… --as finance-1 --approve
    """
    with open_ledger(data_dir=data_dir) as ledger, acting_as(ledger, login) as work:
        typer.echo(_mark(MarkAnswer.of(decide_mark(work, mark_id, approve, note))))


@assessments.command("list")
def list_grades(
    year: Annotated[int | None, typer.Option(help="Only of this year.")] = None,
    host: Annotated[str | None, typer.Option(help="Only of this host.")] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """List the recorded grades by host, year and version; the newest version of a year counts.

    Example: openlab rewards assessments list --year 2026
    """
    with open_ledger(data_dir=data_dir) as ledger, ledger.look("rewards") as work:
        rows, cursor = grades_page(work, NEWEST, year, host)
        while cursor is not None:
            more, cursor = grades_page(work, PageAsked(NEWEST.limit, cursor), year, host)
            rows += more
        _tell([AssessmentAnswer.model_validate(row) for row in rows], _grade, as_json=as_json)


@assessments.command("proposals")
def list_proposals(open_only: OpenOnly = False, as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """List the newest 200 proposed grades with what was decided about each.

    Example: openlab rewards assessments proposals --open
    """
    with open_ledger(data_dir=data_dir) as ledger, ledger.look("rewards") as work:
        seen, _ = proposals_page(work.session, NEWEST, open_only)
        _tell([AssessmentProposalAnswer.of(one) for one in seen], _proposal, as_json=as_json)


@assessments.command("propose")
def propose_grade(
    host: Annotated[str, typer.Argument(help="The host.")],
    year: Annotated[int, typer.Argument(help="The calendar year.", min=2000, max=2999)],
    grade: Annotated[Grade, typer.Argument(help="The outcome.")],
    login: As,
    evidence: Evidence,
    data_dir: DataDir = None,
) -> None:
    """Prepare a host's grade. Counts once a second person has approved it.

    Example: openlab rewards assessments propose h01 2026 good --as officer-1 --evidence "minutes of the panel"
    """
    with open_ledger(data_dir=data_dir) as ledger, acting_as(ledger, login) as work:
        row = propose_assessment(work, host, year, grade, evidence)
        typer.echo(_proposal(AssessmentProposalAnswer.of(ProposalSeen(row, None))))


@assessments.command("decide")
def decide_about_grade(
    proposal_id: Annotated[str, typer.Argument(help="The proposed grade.")],
    login: As,
    approve: Approve,
    note: Note = "",
    data_dir: DataDir = None,
) -> None:
    """Approve or refuse a proposed grade as its second person. Once.

    Example: openlab rewards assessments decide 01JD… --as finance-1 --refuse --note "the minutes say otherwise"
    """
    with open_ledger(data_dir=data_dir) as ledger, acting_as(ledger, login) as work:
        typer.echo(_proposal(AssessmentProposalAnswer.of(decide_assessment(work, proposal_id, approve, note))))


def _tell(shown: Sequence[AnswerT], line: Callable[[AnswerT], str], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps([one.model_dump(mode="json") for one in shown], ensure_ascii=False, indent=2))
        return
    for one in shown:
        typer.echo(line(one))


def _mark(one: MarkAnswer) -> str:
    what = f"withdraws {one.withdraws}" if one.withdraws is not None else "mark"
    stands = ", stands" if one.stands else ""
    return (
        f"{one.mark_id}  {_decided(one)}{stands}  {one.code.value} of booking {one.booking_id} ({what})"
        f" by {one.prepared_by}: {one.evidence}"
    )


def _grade(one: AssessmentAnswer) -> str:
    people = f"{one.prepared_by} and {one.approved_by}"
    return f"{one.host_id:12} {one.year} version {one.version}  {one.grade.value:9} by {people}: {one.evidence}"


def _proposal(one: AssessmentProposalAnswer) -> str:
    return (
        f"{one.proposal_id}  {_decided(one)}  {one.host_id} {one.year} {one.grade.value} by {one.prepared_by}:"
        f" {one.evidence}"
    )


def _decided(one: MarkAnswer | AssessmentProposalAnswer) -> str:
    if one.approved is None:
        return "open"
    return f"{'approved' if one.approved else 'refused'} by {one.decided_by}"


def _hash(file: Path | None) -> str | None:
    return None if file is None else sha256(file.read_bytes()).hexdigest()
