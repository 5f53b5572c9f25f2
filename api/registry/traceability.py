"""Whether an instrument's certificates let a test be booked. Pure; called by the booking rules and the catalogue.

A report with a CMA or CNAS mark needs a certificate that is valid for the whole slot: without one the booking is
refused. Everything else may be booked, and is flagged: data for research and development only.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from store.tables.registry import ACCREDITED

FLAG_ZH = "数据仅供研发参考"
FLAG_EN = "data for research and development only"


@dataclass(frozen=True)
class Validity:
    """A certificate's validity [valid_from, valid_to); aware."""

    valid_from: datetime
    valid_to: datetime


class Standing(StrEnum):
    """What the certificates say of a time: one covers it, there are some but none covers it, or there is none."""

    VALID = "valid"
    EXPIRED = "expired"
    NONE = "none"


class Verdict(StrEnum):
    """What follows for a booking."""

    OK = "ok"
    FLAG = "flag"
    REFUSE = "refuse"


def standing(papers: Iterable[Validity], from_at: datetime, to_at: datetime) -> Standing:
    """Return what the certificates say of [from_at, to_at). One that follows another without a gap covers with it."""
    listed = sorted(papers, key=lambda paper: (paper.valid_from, paper.valid_to))
    if not listed:
        return Standing.NONE
    covered = from_at
    for paper in listed:
        if paper.valid_from <= covered < paper.valid_to:
            covered = paper.valid_to
    return Standing.VALID if covered >= to_at and covered > from_at else Standing.EXPIRED


def certificate_verdict(found: Standing, report_types: Iterable[str]) -> Verdict:
    """Return what follows for a booking of tests with these report types; of no named test: an internal report."""
    if found is Standing.VALID:
        return Verdict.OK
    return Verdict.REFUSE if any(each in ACCREDITED for each in report_types) else Verdict.FLAG
