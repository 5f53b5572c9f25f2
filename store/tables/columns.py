"""Shorthand that many tables share."""

from enum import StrEnum
from typing import Annotated, Any

from sqlalchemy import CheckConstraint, ForeignKey, String
from sqlalchemy.orm import MappedColumn, mapped_column

TextKey = Annotated[str, mapped_column(String, primary_key=True)]
IntegerKey = Annotated[int, mapped_column(primary_key=True, autoincrement=False)]


def refers_to(target: str, **options: Any) -> MappedColumn[Any]:
    """A column that names a row of another table, which then cannot be deleted."""
    return mapped_column(ForeignKey(target, ondelete="RESTRICT"), **options)


def one_of(column: str, values: type[StrEnum]) -> CheckConstraint:
    """A column that holds one of an enum's values, whoever writes it."""
    listed = ", ".join(f"'{value.value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=f"{column}_known")


def revision_chain() -> tuple[CheckConstraint, CheckConstraint]:
    """Odd revisions state, even ones reverse the one before; none can be skipped or made twice.

    Together with a unique key on (source, revision) and a foreign key on (source, prev_revision) this makes a
    second live statement of the same thing impossible in plain SQL.
    """
    return (
        CheckConstraint("revision >= 1", name="revision_from_one"),
        CheckConstraint(
            "(revision = 1 AND prev_revision IS NULL)"
            " OR (revision > 1 AND prev_revision IS NOT NULL AND prev_revision = revision - 1)",
            name="revision_follows",
        ),
    )
