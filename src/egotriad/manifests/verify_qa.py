"""Rows of the `qa` table: each question once, about a window of its split, with both texts."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow.parquet as pq

from egotriad.manifests.verify_findings import Finding, Place
from egotriad.manifests.verify_text import private_text

__all__ = ["check_qa"]

TEXTS = ("question", "answer")


def check_qa(
    file: pq.ParquetFile,
    split: str,
    place: Place,
    windows: Mapping[str, str] | None,
    seen: set[str],
    ids: list[str],
) -> Iterator[Finding]:
    """Faults of every row of a `qa` file.

    Args:
        file: opened, with the right schema.
        split: the file's, by its name.
        place: the file.
        windows: window_id -> split of the whole build, None when they are not all known.
        seen: the qa_ids of the files before; gets those of this one.
        ids: gets the window_id of each row.
    """
    for group in range(file.num_row_groups):
        for row in file.read_row_group(group, use_threads=False).to_pylist():
            here = place.at(row_group=group, row=len(ids), where=row["qa_id"])
            if row["qa_id"] in seen:
                yield here.finding("duplicate", "a question that came before", "each once")
            seen.add(row["qa_id"])
            ids.append(row["window_id"])
            if windows is not None and windows.get(row["window_id"]) != split:
                got = f"{row['window_id']} in {windows.get(row['window_id'], 'no split')}"
                yield here.finding("qa-window", got, f"a window of {split}", column="window_id")
            for column in TEXTS:
                if not row[column].strip():
                    yield here.finding("qa-text", "nothing", "a text", column=column)
            yield from _private(row, here)


def _private(row: dict[str, Any], place: Place) -> Iterator[Finding]:
    for column, value in row.items():
        text = json.dumps(value, ensure_ascii=False)
        for kind, shown in private_text(text, names=column not in TEXTS):
            yield place.finding("private", f"{kind} {shown!r}", "none", column=column)
