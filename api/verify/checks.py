"""The table of checks: what `openlab verify` asks, by subject. Adding a check is adding a line."""

from collections.abc import Iterable, Iterator

from sqlalchemy.orm import Session

from api.verify import billing, bundles, charges, invariants, money, proof, recorded, run_steps, runs, usage
from api.verify.finding import Finding, NamedCheck, Outcome

__all__ = [
    "Finding",
    "Outcome",
    "all_checks",
    "bundle_checks",
    "chain_checks",
    "charge_checks",
    "export_checks",
    "run_checks",
    "statement_checks",
    "verify",
]


def verify(session: Session, checks: Iterable[NamedCheck]) -> Iterator[Outcome]:
    """Run checks one after the other in a read-only session; each stops at its first row that does not hold.

    What cannot even be read (a stored document that is none) is a row that does not hold.
    """
    for check in checks:
        try:
            finding = next(check.run(session), None)
        except (ValueError, LookupError, TypeError) as error:
            finding = Finding("unreadable", check.name, f"a stored row cannot be read: {error}")
        yield Outcome(check.name, finding)
        session.expunge_all()


def chain_checks() -> list[NamedCheck]:
    """Usage as it came, and the audit chains."""
    return [
        NamedCheck("usage chains", usage.usage_chains),
        NamedCheck("sessions folded again", usage.sessions),
        NamedCheck("audit chains", proof.audit_chains),
    ]


def charge_checks(month: int | None = None) -> list[NamedCheck]:
    """Charges posted into a month (yyyymm), or all of them."""
    return [
        NamedCheck("tariff versions", charges.tariffs),
        NamedCheck("charges priced again", charges.over_charges(month, charges.price)),
        NamedCheck("charge evidence", charges.over_charges(month, charges.evidence)),
        NamedCheck("charge totals (8)", charges.over_charges(month, charges.totals)),
        NamedCheck("charge reversals (10)", charges.over_charges(month, charges.reversal)),
        NamedCheck("charge hashes", charges.over_charges(month, charges.row_hash)),
        NamedCheck("charges as recorded", recorded.charges(month)),
    ]


def statement_checks(number: str | None = None) -> list[NamedCheck]:
    """The statement with this number, or all of them."""
    return [NamedCheck("statements (13)", billing.statements(number))]


def run_checks(run_id: str | None = None) -> list[NamedCheck]:
    """One reward run, or all of them."""
    return [
        NamedCheck("reward policies", runs.policies),
        NamedCheck("reward inputs", runs.run_inputs(run_id)),
        NamedCheck("reward results", runs.run_results(run_id)),
        NamedCheck("reward steps", run_steps.run_steps(run_id)),
        NamedCheck("reward payments", run_steps.run_payments(run_id)),
        NamedCheck("reward runs as recorded", recorded.runs(run_id)),
    ]


def export_checks(data: bytes) -> list[NamedCheck]:
    """A file that was exported, against the run it names, and that run against what it rests on."""
    return [NamedCheck("exported file", runs.export_file(data)), *run_checks(runs.run_named_in(data))]


def bundle_checks(data: bytes) -> list[NamedCheck]:
    """An archive that was taken out, against the ledger, and its run against what it rests on."""
    return [NamedCheck("bundle", bundles.bundle_file(data)), *run_checks(bundles.run_bundled_in(data))]


def all_checks() -> list[NamedCheck]:
    """Everything, in the order of the line: usage, charges, statements, rewards, exports."""
    return [
        *chain_checks(),
        NamedCheck("usage of bookings", usage.booking_use),
        NamedCheck("reversed usage (3)", invariants.reversed_usage_nets_to_zero),
        NamedCheck("odometers (4)", invariants.ledger_has_the_odometers_difference),
        NamedCheck("one session at a time (5)", invariants.sessions_do_not_overlap),
        NamedCheck("use is priced (11)", invariants.finished_use_is_priced),
        *charge_checks(),
        *statement_checks(),
        NamedCheck("settlements (14)", money.settlements),
        NamedCheck("invoices", money.invoices),
        NamedCheck("disputes", money.disputes),
        NamedCheck("statements as recorded", recorded.statements),
        NamedCheck("payments as recorded", recorded.money),
        NamedCheck("closed months (22)", billing.seals),
        NamedCheck("sealed chains (22)", money.sealed_chains),
        NamedCheck("internal use (16)", invariants.internal_use_never_counts),
        NamedCheck("affiliates (17)", invariants.affiliates_never_count),
        NamedCheck("reward bases (18)", invariants.bases_are_the_sums_of_inputs),
        NamedCheck("reward lines", invariants.inputs_name_what_is_there),
        *run_checks(),
        NamedCheck("carried amounts", runs.carried),
        NamedCheck("marks of bookings", run_steps.marks),
        NamedCheck("exports", runs.exports),
    ]
