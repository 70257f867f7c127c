"""Questions and answers about windows: the optional table `qa` of a build."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from egotriad.manifests.errors import ShardError
from egotriad.manifests.schema import QA
from egotriad.manifests.shards_read import complete
from egotriad.manifests.shards_table import read_group, table_of

__all__ = ["QuestionAnswer", "qa_table", "read_qa"]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionAnswer:
    """One question about a window, and its answer.

    Attributes:
        qa_id: unique in a build (`{window_id}/{number}`, or the source's own id).
        window_id: the window it is about, a row of `windows` in the same split.
        question, answer: the texts.
        task: kind of question in the source's words (`activity`, `caption`, ...), None without.
    """

    qa_id: str
    window_id: str
    question: str
    answer: str
    task: str | None = None


def qa_table(rows: Sequence[QuestionAnswer]) -> pa.Table:
    """Rows of the `qa` table, for `TableWriter.write`."""
    columns = [
        pa.array([getattr(row, field.name) for row in rows], type=field.type) for field in QA
    ]
    return pa.Table.from_arrays(columns, schema=QA)


def read_qa(path: Path | str, *, split: str | None = None) -> Iterator[QuestionAnswer]:
    """Every question of a build, in the build's order, in bounded memory.

    Args:
        path: folder, URL or Hub id of the build.
        split: train, validation or test; None = all.

    Raises:
        ShardError: when there is no complete build, it has no questions (of that split), or a file
            is missing, damaged or of another version.
    """
    source, lines = complete(path)
    files = [
        line["path"] for line in lines if line["config"] == "qa" and split in (None, line["split"])
    ]
    if not files:
        where = "" if split is None else f" in split {split!r}"
        raise ShardError(f"{source.name}: holds no questions{where}; not every dataset has any")
    source.fetch(files)
    for file in files:
        parquet = table_of(source, file, "qa")
        for group in range(parquet.num_row_groups):
            for row in read_group(parquet, group, file, QA.names).to_pylist():
                yield QuestionAnswer(**row)
