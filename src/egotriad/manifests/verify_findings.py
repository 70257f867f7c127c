"""What verification finds: one record per fault, with the place, what is there and what is due."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from egotriad.manifests.errors import ShardError

__all__ = ["DAMAGE", "READ_ERRORS", "Finding", "Place", "refused"]

DAMAGE = frozenset({"missing", "bytes", "sha256", "damaged"})
"""Kinds of findings about bytes that are not those that were written."""

READ_ERRORS = (pa.ArrowException, OSError, ValueError, MemoryError)
"""What pyarrow raises over bytes that are not Parquet, or not any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One fault.

    Attributes:
        file: path in the build's folder.
        what: kind of fault, a short word that does not change (`missing`, `sha256`, `order`, ...).
        got, need: what is there and what should be.
        where: window, column or line; empty when the whole file is meant.
        row_group, row: place in a Parquet file (the row counts from the file's start), or None.
    """

    file: str
    what: str
    got: str
    need: str
    where: str = ""
    row_group: int | None = None
    row: int | None = None

    def __str__(self) -> str:
        row = "" if self.row is None else f"row {self.row}"
        if not row and self.row_group is not None:
            row = f"row group {self.row_group}"
        place = ", ".join(filter(None, (row, self.where)))
        return f"{self.file}: {place + ': ' if place else ''}{self.what}: got {self.got}, " + (
            f"need {self.need}"
        )

    @property
    def is_damage(self) -> bool:
        """Whether bytes were lost or changed after they had been written."""
        return self.what in DAMAGE


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a check is looking; makes findings there."""

    file: str
    where: str = ""
    row_group: int | None = None
    row: int | None = None

    def at(self, **place: Any) -> "Place":
        """A place inside this one."""
        return replace(self, **place)

    def finding(self, what: str, got: object, need: object, *, column: str = "") -> Finding:
        """A fault here, if a column is given in that column."""
        return Finding(
            file=self.file,
            what=what,
            got=str(got),
            need=str(need),
            where=" ".join(filter(None, (self.where, column))),
            row_group=self.row_group,
            row=self.row,
        )

    def unequal(self, what: str, **pairs: tuple[object, object]) -> Iterator[Finding]:
        """A fault for every column=(got, need) whose two values differ."""
        for column, (got, need) in pairs.items():
            if got != need:
                yield self.finding(what, got, need, column=column)


@contextmanager
def refused(findings: list[Finding], place: Place, need: str) -> Iterator[None]:
    """Turns an error of reading inside into a finding of kind `damaged`."""
    try:
        yield
    except (*READ_ERRORS, ShardError) as exc:
        findings.append(place.finding("damaged", str(exc).splitlines()[0], need))
