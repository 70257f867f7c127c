"""Shards of an earlier schema version, written again in the present one.

```
1.0.0 -> 1.1.0   windows: window_policy, anchor, other_actions; narrations: subject, unsure, group
                 (what no 1.0.0 row tells is null or empty; `other_actions` counts all narrations,
                 as in every row without an anchor); qc: imu_score
1.1.0 -> 1.2.0   events: `ev_y` is byte-stream split; qa: a third table, where there are questions
```
No value that was there changes; the old build is left as it is.
"""

import json
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from egotriad.manifests.errors import ShardError, UsageError
from egotriad.manifests.files import atomic, canonical_json, seal, sha256_file, write_text
from egotriad.manifests.schema import SCHEMA_VERSION, TABLES, way_out
from egotriad.manifests.shards import TableWriter, read_manifest, shards_sha256
from egotriad.pipelines.card_front import front_matter
from egotriad.pipelines.card_yaml import to_yaml
from egotriad.pipelines.croissant import contents_of
from egotriad.pipelines.pack import finish_files, manifest_line, unmark, window_ids
from egotriad.pipelines.provenance import BUILDER
from egotriad.pipelines.stats import shard_stats

__all__ = ["upgrade"]

KNOWN = ("1.0.0", "1.1.0")
FRONT = re.compile(r"---\n.*?\n---\n", re.DOTALL)
ABSENT = {"window_policy": "", "subject": "", "unsure": False}
"""Values of columns that are new and not nullable."""


def upgrade(
    old: Path,
    out: Path,
    *,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> str:
    """Writes a build again in the present schema version; returns the version it had.

    Args:
        old: folder of the build.
        out: folder of the new one.
        progress: called with (stage, files done, files in all).

    Raises:
        UsageError: when there is nothing to do, or `out` is not empty.
        ShardError: when there is no way from its version, or a file is damaged.
    """
    lines = read_manifest(old)
    version = _version(old, lines)
    if out.exists() and not (out / ".upgrade").exists() and any(out.iterdir()):
        raise UsageError(f"{out}: is not empty; name a new folder")
    write_text(out / ".upgrade", version)  # a run that was stopped may go on here
    unmark(out)
    made = []
    for done, line in enumerate(lines, start=1):
        made.append(_rewritten(old, line, out))
        progress("files upgraded", done, len(lines))
    made.sort(key=lambda line: line["path"])
    stats = shard_stats(out, made)
    write_text(out / "stats.json", canonical_json(stats) + "\n")
    _describe(old, out, made, stats, f"{version} to {SCHEMA_VERSION} by {BUILDER}")
    values = json.loads((old / "provenance.json").read_text(encoding="utf-8"))
    values.pop("seal_sha256", None)
    step = {"from": version, "to": SCHEMA_VERSION, "builder": BUILDER}
    steps = [*values.get("upgraded", ()), step | {"sha256sums": shards_sha256(old)}]

    def record(sums_sha256: str) -> None:
        write_text(
            out / "provenance.json", seal(values | {"upgraded": steps, "sha256sums": sums_sha256})
        )

    finish_files(out, made, record=record)
    (out / ".upgrade").unlink()
    return version


def _version(old: Path, lines: Sequence[dict[str, Any]]) -> str:
    versions = sorted({str(line.get("schema_version", "none")) for line in lines})
    if versions == [SCHEMA_VERSION]:
        raise UsageError(f"{old.name}: is of schema version {SCHEMA_VERSION}, the present one")
    for version in versions:
        if version not in KNOWN:
            raise ShardError(f"{old.name}: is of schema version {version}, {way_out(version)}")
    return versions[0]


def _rewritten(old: Path, line: dict[str, Any], out: Path) -> dict[str, Any]:
    """Writes a data file in the present schema; returns its line of the manifest."""
    path, table = line["path"], line["config"]
    source = old / path
    if not source.is_file() or sha256_file(source) != line["sha256"]:
        raise ShardError(
            f"{path}: is missing or damaged; fetch it again, or mend it with the version that "
            "wrote it (verify-shards --repair)"
        )
    file = pq.ParquetFile(source, page_checksum_verification=True)
    config_hash = file.schema_arrow.metadata[b"egotriad.config_hash"].decode()
    with (
        atomic(out / path) as temporary,
        TableWriter(temporary, table, builder=BUILDER, config_hash=config_hash) as writer,
    ):
        for group in range(file.num_row_groups):
            writer.write(_adapted(file.read_row_group(group), TABLES[table]))
    facts = {name: line[name] for name in ("events", "videos", "wearers")}
    return manifest_line(out, path, config_hash, window_ids(out / path, table), **facts)


def _adapted(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Rows under a schema that has every column of theirs and more."""
    columns = []
    for field in schema:
        if field.name not in rows.column_names:
            columns.append(pa.array(_new(field.name, rows), field.type))
        elif rows.schema.field(field.name).type.equals(field.type):
            columns.append(rows[field.name])
        else:
            values = [_filled(value, field.type) for value in rows[field.name].to_pylist()]
            columns.append(pa.array(values, field.type))
    return pa.Table.from_arrays(columns, schema=schema)


def _new(name: str, rows: pa.Table) -> list[Any]:
    """A column that the rows do not have."""
    if name == "other_actions":
        return [len(narrations) for narrations in rows["narrations"].to_pylist()]
    return [ABSENT.get(name)] * rows.num_rows


def _filled(value: Any, kind: pa.DataType) -> Any:
    """A value with every field of its type."""
    if value is None:
        return None
    if pa.types.is_list(kind):
        return [_filled(item, kind.value_type) for item in value]
    if pa.types.is_struct(kind):
        return {f.name: _filled(value.get(f.name, ABSENT.get(f.name)), f.type) for f in kind}
    return value


def _describe(
    old: Path, out: Path, lines: Sequence[dict[str, Any]], stats: dict[str, Any], step: str
) -> None:
    """Takes over what is told of the build; what follows from the schema is written anew."""
    card = (old / "README.md").read_text(encoding="utf-8")
    body = FRONT.sub("", card, count=1).rstrip()
    title = next((row[2:] for row in body.splitlines() if row.startswith("# ")), old.name)
    front = to_yaml(front_matter(title, lines, stats))
    text = f"---\n{front}---\n{body}\n\nUpgraded from schema version {step}.\n"
    write_text(out / "README.md", text)
    if (old / "croissant.json").is_file():
        document = json.loads((old / "croissant.json").read_text(encoding="utf-8"))
        held = {line["config"] for line in lines}
        tables = [name for name in TABLES if name in held]
        document |= contents_of(tables)
        text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
        write_text(out / "croissant.json", text)
    shutil.copyfile(old / "rejected.jsonl", out / "rejected.jsonl")
    if (old / "quarantine").is_dir():
        shutil.copytree(old / "quarantine", out / "quarantine", dirs_exist_ok=True)
