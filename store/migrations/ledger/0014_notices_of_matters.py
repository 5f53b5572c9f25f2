"""Notices that are not about a booking are notices too: until now each was its row of the outbox, with its key for facts.

Carried over with what was read of them (events of the county's audit chain), and back again.
"""

import json
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

# What the version that wrote them called the events of these actions.
_KINDS = {
    "charge.posted": "charge-posted",
    "statement.issued": "statement-issued",
    "statement.finalized": "statement-final",
    "statement.overdue": "statement-overdue",
    "invoice.recorded": "invoice-recorded",
    "dispute.raised": "dispute-raised",
    "correction.proposed": "correction-proposed",
    "correction.decided": "correction-decided",
    "dispute.ended": "dispute-ended",
    "anomaly.found": "anomaly-found",
    "use_claim.claimed": "use-claim-asked",
    "use_claim.confirmed": "use-claim-confirmed",
    "use_claim.refused": "use-claim-refused",
    "use_claim.withdrawn": "use-claim-withdrawn",
    "use_claim.expired": "use-claim-expired",
    "tariff.proposed": "tariff-proposed",
    "tariff.published": "tariff-published",
    "certificate.expiring": "certificate-expiring",
    "registration_submitted": "registration-pending",
    "registration_decided": "registration-decided",
    "invitation_accepted": "invitation-accepted",
    "reward_run.noticed": "reward-noticed",
    "reward_objection.raised": "reward-objection",
    "reward_objection.answered": "reward-objection-answered",
    "reward_run.approved": "reward-approved",
    "reward_run.paid": "reward-paid",
}
_PARTIES, _ALL_PARTIES = "'customer', 'manager'", "'customer', 'manager', 'county', 'person'"
_ONE_EVENT = (
    "(booking_id IS NULL) = (event_no IS NULL) AND (chain_id IS NULL) = (seq IS NULL)"
    " AND (booking_id IS NULL) <> (chain_id IS NULL)"
)
_BITE = 1_000

_mail = sa.table("mail", *map(sa.column, ("source", "source_id", "state", "written_at", "next_at", "attempts")))
_audit = sa.table("audit_event", *map(sa.column, ("chain_id", "seq", "at", "action", "subject", "body")))
_notice = sa.table(
    "notice",
    *map(
        sa.column,
        (
            "notice_id",
            "person_id",
            "party",
            "kind",
            "booking_id",
            "event_no",
            "chain_id",
            "seq",
            "facts",
            "at",
            "read_at",
        ),
    ),
)


def upgrade() -> None:
    _drop_indexes()
    with op.batch_alter_table("notice") as table:
        table.alter_column("booking_id", existing_type=sa.String(), nullable=True)
        table.alter_column("event_no", existing_type=sa.BigInteger(), nullable=True)
        table.add_column(sa.Column("chain_id", sa.String(), nullable=True))
        table.add_column(sa.Column("seq", sa.BigInteger(), nullable=True))
        table.drop_constraint(op.f("ck_notice_party_known"), type_="check")
        table.create_check_constraint(op.f("ck_notice_party_known"), f"party IN ({_ALL_PARTIES})")
        table.create_check_constraint(op.f("ck_notice_of_one_event"), _ONE_EVENT)
    _make_indexes()
    given = sa.text("chain_id IS NOT NULL")
    op.create_index(
        "uq_notice_matter",
        "notice",
        ["chain_id", "seq", "person_id"],
        unique=True,
        sqlite_where=given,
        postgresql_where=given,
    )
    _carry_over()


def downgrade() -> None:
    """What was read stays known: it is in the audit chain."""
    _carry_back()
    op.drop_index("uq_notice_matter", "notice")
    _drop_indexes()
    with op.batch_alter_table("notice") as table:
        table.drop_constraint(op.f("ck_notice_of_one_event"), type_="check")
        table.drop_constraint(op.f("ck_notice_party_known"), type_="check")
        table.create_check_constraint(op.f("ck_notice_party_known"), f"party IN ({_PARTIES})")
        table.drop_column("seq")
        table.drop_column("chain_id")
        table.alter_column("event_no", existing_type=sa.BigInteger(), nullable=False)
        table.alter_column("booking_id", existing_type=sa.String(), nullable=False)
    _make_indexes()


def _drop_indexes() -> None:
    # SQLite makes the table anew, and an index with a condition is made by hand on both.
    op.drop_index("ix_notice_unread", "notice")
    op.drop_index("ix_notice_person_id_notice_id", "notice")


def _make_indexes() -> None:
    unread = sa.text("read_at IS NULL")
    op.create_index("ix_notice_person_id_notice_id", "notice", ["person_id", "notice_id"])
    op.create_index(
        "ix_notice_unread", "notice", ["person_id", "notice_id"], sqlite_where=unread, postgresql_where=unread
    )


def _carry_over() -> None:
    connection, read = op.get_bind(), _read_marks()
    for rows in _bites(sa.select(_mail).where(_mail.c.source == "notice", _mail.c.source_id.like("%/%/%/%/%"))):
        made = []
        for row in rows:
            person, notice, party, chain, seq = row.source_id.rsplit("/", 4)
            event = connection.execute(
                sa.select(_audit.c.action, _audit.c.body).where(_audit.c.chain_id == chain, _audit.c.seq == int(seq))
            ).one()
            made.append(
                {
                    "notice_id": notice,
                    "person_id": person,
                    "party": party,
                    "kind": _kind(event.action, json.loads(event.body)["after"] or {}),
                    "chain_id": chain,
                    "seq": int(seq),
                    "facts": "",
                    "at": row.written_at,
                    "read_at": _read_at(read.get(person, []), notice),
                }
            )
        connection.execute(_notice.insert(), made)
        for row, one in zip(rows, made, strict=True):
            _rename(row.source_id, one["notice_id"])


def _carry_back() -> None:
    connection = op.get_bind()
    for rows in _bites(sa.select(_notice).where(_notice.c.chain_id.is_not(None))):
        for row in rows:
            key = f"{row.person_id}/{row.notice_id}/{row.party}/{row.chain_id}/{row.seq}"
            if not _rename(row.notice_id, key):
                connection.execute(
                    sa.text(
                        "INSERT INTO mail (source, source_id, state, written_at, next_at, attempts, last_error, ended_at)"
                        " VALUES ('notice', :key, 'dropped', :at, :at, 0, '', :at)"
                    ),
                    {"key": key, "at": row.at},
                )
        connection.execute(_notice.delete().where(_notice.c.notice_id.in_([row.notice_id for row in rows])))


def _bites(wanted: Any) -> Iterator[list[Any]]:
    """Yield rows, so many at a time, until those that come were all carried."""
    while rows := list(op.get_bind().execute(wanted.limit(_BITE))):
        yield rows


def _rename(before: str, after: str) -> bool:
    mail = sa.update(_mail).where(_mail.c.source == "notice", _mail.c.source_id == before)
    return bool(op.get_bind().execute(mail.values(source_id=after)).rowcount)


def _kind(action: str, after: dict[str, Any]) -> str:
    if action == "anomaly.found" and after["rule"] == "session_without_booking":
        return "unbooked-use"
    return _KINDS[action]


def _read_marks() -> dict[str, list[tuple[str, bool, int]]]:
    """What each person read: a notice, or everything up to one, and when; the earliest first."""
    found: dict[str, list[tuple[str, bool, int]]] = {}
    said = sa.select(_audit).where(_audit.c.action == "notices_read").order_by(_audit.c.seq)
    for row in op.get_bind().execute(said):
        after = json.loads(row.body)["after"]
        mark = (after.get("until") or after["notice"], "until" in after, row.at)
        found.setdefault(row.subject.removeprefix("inbox:"), []).append(mark)
    return found


def _read_at(marks: list[tuple[str, bool, int]], notice: str) -> int | None:
    return next((at for name, up_to, at in marks if name == notice or (up_to and notice <= name)), None)
