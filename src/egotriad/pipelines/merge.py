"""Several builds into one: whole files are copied, and nobody comes to lie in two splits.

The rules, in the order in which they are applied:

1. All inputs are of the present schema version, none is given twice, their order does not matter.
2. They agree in what a model reads from a row (`facts.ONE_VALUE`: one event simulator, one IMU
   rate, one sensor); how windows were chosen may differ, every row tells it.
3. A wearer, a recording, a split group lies in one split; otherwise the merge is refused.
4. A window that several builds hold with the same content is kept once; with another content the
   merge is refused. Other windows of the same recording are welcome. The same holds for questions.
5. Every row keeps its licence; the card lists them all, and `push-shards` asks for the strictest.

A file without repeated windows is copied byte for byte under its new number, so its hash is that of
the input's manifest; others are written again without them, row group by row group.
"""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from egotriad.manifests.errors import ShardError, UsageError
from egotriad.manifests.files import atomic, canonical_json, seal, sha256_file, write_text
from egotriad.manifests.schema import FOLDERS, SCHEMA_VERSION
from egotriad.manifests.split import SPLITS
from egotriad.pipelines.describe import describe
from egotriad.pipelines.facts import BuildFacts, merged_facts
from egotriad.pipelines.merge_inputs import Input, Questions, Windows, agree, open_inputs
from egotriad.pipelines.merge_rows import same_rows, write_without
from egotriad.pipelines.pack import finish_files, unmark
from egotriad.pipelines.provenance import BUILDER, environment, source_revision
from egotriad.pipelines.stats import value_counts

__all__ = ["MergeReport", "merge"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeReport:
    """What a merge did.

    Attributes:
        out: the new build's folder.
        builds: how many were merged.
        windows: what it holds; repeated: windows that came more than once and were kept once.
        copied, rewritten: data files taken over as they were, and written again without rows.
        licences: of its rows.
    """

    out: Path
    builds: int
    windows: int
    repeated: int
    copied: int
    rewritten: int
    licences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _File:
    """A data file of an input, and the rows of it that are left out."""

    build: Input
    line: dict[str, Any]
    partner: dict[str, Any] | None
    left_out: frozenset[int]

    @property
    def rows(self) -> int:
        return int(self.line["rows"]) - len(self.left_out)


def merge(
    folders: Sequence[Path],
    out: Path,
    *,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> MergeReport:
    """Merges builds by the rules above; killed anywhere and run again, it gives the same bytes.

    Args:
        folders: of the builds.
        out: folder of the merged build.
        progress: called with (stage, files done, files in all).

    Raises:
        UsageError: when a build is named twice, or `out` holds something else.
        ShardError: when a rule refuses the merge, or an input is damaged.
    """
    inputs = open_inputs(folders)
    _check_out(out, inputs)
    agree(inputs)
    shards, questions = _chosen_shards(inputs), _chosen_questions(inputs)
    unmark(out)
    lines: list[dict[str, Any]] = []
    total = sum(2 if file.partner else 1 for file in shards) + len(questions)
    for series in _series([*shards, *questions]):
        for index, file in enumerate(series):
            lines += _write(file, out, f"{file.line['split']}-{index:05d}-of-{len(series):05d}")
            progress("files merged", len(lines), total)
    lines.sort(key=lambda line: line["path"])
    facts = merged_facts([fact for one in inputs for fact in one.facts])
    return _finish(inputs, out, lines, facts, sum(len(file.left_out) for file in shards))


def _check_out(out: Path, inputs: Sequence[Input]) -> None:
    if any(out.resolve() == one.folder.resolve() for one in inputs):
        raise UsageError(f"{out}: is one of the builds to merge; name another folder with --out")
    try:
        other = "merged" not in json.loads((out / "provenance.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        other = (out / "parts").exists() or (out / "manifest.jsonl").exists()
    if other:
        raise UsageError(f"{out}: holds another build; name another folder with --out")


def _chosen_shards(inputs: Sequence[Input]) -> list[_File]:
    """The windows files of all inputs with their partners, in the order of the merged build."""
    windows, files = Windows(), []
    for one, line in _lines(inputs, "windows"):
        name = line["path"].partition("/")[2]
        partners = [other for other in one.lines if other["path"] == f"{FOLDERS['events']}/{name}"]
        again = windows.add(one.folder.name, one.folder / line["path"], line["split"])
        partner = partners[0] if partners else None
        files.append((_File(one, line, partner, frozenset(again)), again))
    windows.check()
    for file, again in files:
        same_rows(file.build.folder / file.line["path"], again)
    return [file for file, _ in files if file.rows]


def _chosen_questions(inputs: Sequence[Input]) -> list[_File]:
    questions = Questions()
    files = [
        _File(one, line, None, questions.add(one.folder / line["path"]))
        for one, line in _lines(inputs, "qa")
    ]
    return [file for file in files if file.rows]


def _lines(inputs: Sequence[Input], table: str) -> list[tuple[Input, dict[str, Any]]]:
    """Lines of a table, by the first window of the file."""
    found = [(one, line) for one in inputs for line in one.lines if line["config"] == table]
    return sorted(found, key=lambda entry: (entry[1]["first_window_id"], entry[1]["sha256"]))


def _series(files: Sequence[_File]) -> list[list[_File]]:
    """The files of each table and split, which are numbered together."""
    keys = [(table, split) for table in ("windows", "qa") for split in SPLITS]
    return [[f for f in files if (f.line["config"], f.line["split"]) == key] for key in keys]


def _write(file: _File, out: Path, name: str) -> list[dict[str, Any]]:
    """Puts a file and its partner where they belong; returns their lines of the manifest."""
    written = []
    for line in filter(None, (file.line, file.partner)):
        path = f"{FOLDERS[line['config']]}/{name}.parquet"
        source = file.build.folder / line["path"]
        if file.left_out:
            changed = write_without(source, line, out, path, file.left_out)
        else:
            _copy(source, out / path, line["sha256"])
            changed = line
        _, index, _, count = name.split("-")
        written.append(changed | {"path": path, "index": int(index), "count": int(count)})
    return written


def _copy(source: Path, path: Path, sha256: str) -> None:
    if path.is_file() and sha256_file(path) == sha256:
        return
    with atomic(path) as temporary:
        shutil.copyfile(source, temporary)
        if sha256_file(temporary) != sha256:
            raise ShardError(
                f"{source.parent.parent.name}/{source.parent.name}/{source.name}: is damaged; "
                "verify-shards --repair mends it, or fetch it again"
            )


def _finish(
    inputs: Sequence[Input],
    out: Path,
    lines: Sequence[dict[str, Any]],
    facts: BuildFacts,
    repeated: int,
) -> MergeReport:
    rejected = _rejected(inputs, out)
    records = {record["sha256sums"]: record for one in inputs for record in one.records}
    merged = [records[key] for key in sorted(records)]
    names = sorted({record["source"]["dataset"] for record in merged})
    title = f"{' + '.join(names)} shards"
    stats = describe(out, lines, facts, title=title, rejected=rejected)
    windows = sum(line["rows"] for line in lines if line["config"] == "windows")

    def record(sums_sha256: str) -> None:
        provenance: Mapping[str, Any] = {
            "builder": BUILDER,
            "revision": source_revision(),
            "environment": environment(),
            "config": {"hash": facts.hash, "schema_version": SCHEMA_VERSION},
            "counts": {"built_windows": windows, "repeated_windows": repeated},
            "merged": merged,
            "sha256sums": sums_sha256,
        }
        write_text(out / "provenance.json", seal(provenance))

    finish_files(out, lines, record=record)
    known = {line["sha256"] for one in inputs for line in one.lines}
    copied = sum(line["sha256"] in known for line in lines)
    return MergeReport(
        out=out,
        builds=len(merged),
        windows=windows,
        repeated=repeated,
        copied=copied,
        rewritten=len(lines) - copied,
        licences=tuple(value_counts(stats, "license_id")),
    )


def _rejected(inputs: Sequence[Input], out: Path) -> Counter[str]:
    """Joins what was left out of the inputs: windows, and records of recordings."""
    texts = [(one.folder / "rejected.jsonl").read_text(encoding="utf-8") for one in inputs]
    told = sorted({line for text in texts for line in text.splitlines()})
    entries = sorted((json.loads(line) for line in told), key=lambda entry: entry["window_id"])
    write_text(out / "rejected.jsonl", "".join(canonical_json(entry) + "\n" for entry in entries))
    shutil.rmtree(out / "quarantine", ignore_errors=True)
    for one in inputs:
        for file in sorted((one.folder / "quarantine").glob("*.json")):
            name = f"{one.sums_sha256[:8]}.{file.name}"
            write_text(out / "quarantine" / name, file.read_text(encoding="utf-8"))
    return Counter(entry["reason"] for entry in entries)
