"""A Parquet file against the schema in the code: columns, encodings, metadata, row groups."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from egotriad.manifests.schema import (
    ROWS_PER_GROUP,
    TABLES,
    file_metadata,
    way_out,
    writer_options,
)
from egotriad.manifests.verify_findings import READ_ERRORS, Finding, Place, refused
from egotriad.manifests.verify_text import private_text

__all__ = ["check_table", "locate_damage", "open_checked"]

BUILDER = re.compile(r"\S+ \S+")
KEYS_OF_PARQUET = {b"ARROW:schema", b"PARQUET:field_id"}


def open_checked(path: Path) -> pq.ParquetFile:
    """A Parquet file whose page checksums are verified on every read."""
    return pq.ParquetFile(path, page_checksum_verification=True)


def locate_damage(path: Path, place: Place) -> list[Finding]:
    """The column chunks of a damaged file that cannot be read; nothing where all can be.

    What is read is thrown away: bytes that are not those that were written prove nothing.
    """
    findings: list[Finding] = []
    with refused(findings, place, "a whole Parquet file"):
        file = open_checked(path)
        for group in range(file.num_row_groups):
            for leaf in range(file.metadata.num_columns):
                where = place.at(row_group=group)
                try:
                    file.reader.read_row_group(group, column_indices=[leaf], use_threads=False)
                except READ_ERRORS as exc:
                    name = file.metadata.schema.column(leaf).path
                    reason = str(exc).splitlines()[0]
                    findings.append(where.finding("damaged", reason, "whole pages", column=name))
    return findings


def check_table(
    file: pq.ParquetFile, table: str, place: Place, config_hash: str | None
) -> Iterator[Finding]:
    """Faults of a file's schema, metadata, row groups and encodings.

    Args:
        file: opened.
        table: `windows`, `events` or `qa`.
        place: the file.
        config_hash: of the build's configuration, None when it is not known.
    """
    schema = file.schema_arrow
    metadata = schema.metadata or {}
    version = metadata.get(b"egotriad.schema_version", b"none").decode()
    if (advice := way_out(version)) is not None:
        yield place.finding("schema-version", version, advice.removeprefix("need "))
        return
    yield from _metadata(metadata, table, place, config_hash)
    yield from _fields(schema, TABLES[table], place)
    yield from _row_groups(file.metadata, table, place)


def _metadata(
    metadata: dict[bytes, bytes], table: str, place: Place, config_hash: str | None
) -> Iterator[Finding]:
    builder = metadata.get(b"egotriad.builder", b"").decode()
    if not BUILDER.fullmatch(builder):
        yield place.finding("metadata", repr(builder), "NAME VERSION", column="egotriad.builder")
    known = config_hash or metadata.get(b"egotriad.config_hash", b"").decode()
    need = file_metadata(table, builder=builder, config_hash=known)
    for key in sorted((need.keys() | metadata.keys()) - KEYS_OF_PARQUET):
        got, due = (values.get(key, b"nothing").decode() for values in (metadata, need))
        if got != due:
            yield place.finding("metadata", got[:80], due[:80], column=key.decode())
        for kind, shown in private_text(got):
            yield place.finding("private", f"{kind} {shown!r}", "none", column=key.decode())


def _fields(schema: pa.Schema, need: pa.Schema, place: Place) -> Iterator[Finding]:
    if schema.names != need.names:
        yield place.finding("schema", ", ".join(schema.names), ", ".join(need.names))
        return
    for got, due in zip(schema, need, strict=True):
        yield from place.unequal("schema", **{due.name: (_described(got), _described(due))})


def _described(field: pa.Field) -> str:
    notes = sorted(
        f"{key.decode()}={value.decode()}"
        for key, value in (field.metadata or {}).items()
        if key not in KEYS_OF_PARQUET
    )
    return " ".join((str(field.type), "null" if field.nullable else "not null", *notes))


def _row_groups(metadata: pq.FileMetaData, table: str, place: Place) -> Iterator[Finding]:
    longest = ROWS_PER_GROUP[table]
    options = writer_options(table)
    for group in range(metadata.num_row_groups):
        facts, here = metadata.row_group(group), place.at(row_group=group)
        if not 1 <= facts.num_rows <= longest:
            yield here.finding("row-group", f"{facts.num_rows} rows", f"1 to {longest}")
        for leaf in range(metadata.num_columns):
            chunk = facts.column(leaf)
            need = _encodings(chunk.path_in_schema, options)
            got = [chunk.compression.lower(), *sorted(set(chunk.encodings) - {"RLE"})]
            yield from here.unequal("encoding", **{chunk.path_in_schema: (got, need)})


def _encodings(leaf: str, options: dict[str, Any]) -> list[str]:
    """What a column chunk must be written with, besides the run lengths of its levels."""
    if options["use_dictionary"] and leaf in options["use_dictionary"]:
        return [options["compression"], "PLAIN", "RLE_DICTIONARY"]
    return [options["compression"], options.get("column_encoding", {}).get(leaf, "PLAIN")]
