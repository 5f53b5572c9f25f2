"""What a person wants to hear, by e-mail and of whose bookings, and in which language. Their own affairs only."""

import json
from dataclasses import dataclass

from api.errors import invalid
from api.notices.texts import KINDS
from api.repeats import check_version
from api.work import Work
from store.canonical import canonical_json
from store.tables.accounts import Person
from store.tables.notices import NoticePreference
from store.upsert import insert_or_update

_CHANGED = ("without_email", "firm_bookings", "row_version")


@dataclass(frozen=True)
class Wanted:
    """What somebody wants. `row_version` 0: they never said, so it is everything, of their own bookings."""

    language: str
    email: str | None
    without_email: frozenset[str]
    firm_bookings: bool
    row_version: int


def of_caller(work: Work) -> Wanted:
    """Return what the caller wants."""
    person = work.session.get_one(Person, work.actor.person_id)
    row = work.session.get(NoticePreference, person.person_id)
    if row is None:
        return Wanted(person.language, person.email, frozenset(), False, 0)
    muted = frozenset(json.loads(row.without_email)) & frozenset(KINDS)
    return Wanted(person.language, person.email, muted, row.firm_bookings, row.row_version)


def change(work: Work, language: str, without_email: frozenset[str], firm_bookings: bool, version: int) -> Wanted:
    """Say what the caller wants from now on; notices that were written stay. Raises 412, 422 `unknown_kind`."""
    unknown = sorted(without_email - frozenset(KINDS))
    if unknown:
        listed = ", ".join(unknown)
        raise invalid(
            "unknown_kind",
            f"没有这类通知:{listed};请从 kinds 中选择。",
            f"There is no such kind of notice: {listed}; choose one of `kinds`.",
            field="without_email",
            unknown=unknown,
        )
    person = work.session.get_one(Person, work.actor.person_id, with_for_update=True)
    before = of_caller(work)
    check_version(before.row_version, version)
    said = {"without_email": sorted(without_email), "firm_bookings": int(firm_bookings), "language": language}
    insert_or_update(
        work.session,
        NoticePreference,
        {
            "person_id": person.person_id,
            "without_email": canonical_json(sorted(without_email)).decode(),
            "firm_bookings": firm_bookings,
            "row_version": version + 1,
        },
        ("person_id",),
        _CHANGED,
    )
    if person.language != language:
        person.language = language
        person.row_version += 1
    work.session.flush()
    work.audit("notice_preferences", f"person:{person.person_id}", host_id=None, after=said)
    return Wanted(language, person.email, without_email, firm_bookings, version + 1)
