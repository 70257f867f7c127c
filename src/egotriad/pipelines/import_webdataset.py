"""An exported WebDataset back into shards: the same build again, out of other files.

Clips, their order, the configuration and the record of how they came to be are those of the build
that was exported; so, where nothing was left out, are the bytes of the shards.
"""

import json
import tarfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import chain, groupby
from pathlib import Path
from typing import Any

from egotriad.manifests import Clip
from egotriad.manifests.errors import ShardError, located
from egotriad.manifests.files import seal, sha256_file, write_text
from egotriad.manifests.shards_qa import QuestionAnswer, qa_table
from egotriad.pipelines.build import shards_title
from egotriad.pipelines.build_parts import sweep
from egotriad.pipelines.claims import Claims
from egotriad.pipelines.disk import DiskGuard
from egotriad.pipelines.export_source import Progress
from egotriad.pipelines.export_webdataset import QUESTIONS, REJECTED
from egotriad.pipelines.finish import PASSING, finish_build
from egotriad.pipelines.part import Part, file_facts, read_part, table_writers, write_clips
from egotriad.pipelines.plan import BuildConfig
from egotriad.pipelines.provenance import BUILDER, config_record, environment
from egotriad.pipelines.recorded import config_kind
from egotriad.pipelines.restore import restored
from egotriad.pipelines.run_config import RunConfig
from egotriad.pipelines.webdataset_sample import clip_of_sample

__all__ = ["import_webdataset"]


def import_webdataset(
    folder: Path,
    record: dict[str, Any],
    out: Path,
    *,
    places: Sequence[Path] = (),
    progress: Progress,
) -> list[Part]:
    """Writes the shards; returns their parts.

    Recordings that an interrupted import has finished are not written again.

    Args:
        folder: of the export.
        record: what its `export.json` holds.
        out: the build's folder.
        places: folders of files that the build's configuration names (SuperSloMo's weights).
        progress: called after every window.

    Raises:
        ShardError: a tar is missing, damaged, or not as it was exported.
    """
    started = datetime.now(UTC)
    build = _Exported.of(record, (*places, folder))
    _check_files(folder, record["sha256"])
    for entry in _lines(folder / REJECTED):
        build.rejected[_recording(entry)].append(entry)
    for entry in _lines(folder / QUESTIONS):
        build.questions[_recording(entry)].append(QuestionAnswer(**entry))
    with Claims(out / "parts" / "claims") as claims:
        sweep(out / "parts", claims)
        clips = chain.from_iterable(_clips(folder / name) for name in record["tars"])
        parts = _parts(build, _counted(clips, record["windows"], progress), out / "parts")
        if record["options"]["split"] is None:
            absent = build.entries.keys() - {part.recording for part in parts}
            parts += [build.part(recording, (), out / "parts") for recording in sorted(absent)]
        finish_build(
            parts,
            out,
            build.config,
            build.provenance_of(parts, record),
            title=shards_title(build.provenance["source"]["dataset"]),
            started=started,
            claims=claims,
            guard=DiskGuard(out, RunConfig().reserve_bytes),
        )
    return parts


def _parts(build: "_Exported", clips: Iterable[Clip], folder: Path) -> list[Part]:
    """The part of every recording that has clips."""
    parts: dict[str, Part] = {}
    for (source, recording), group in groupby(clips, key=lambda c: (c.source, c.recording)):
        if recording in parts:
            raise ShardError(
                f"{source}/{recording}: its windows are not together; import the tars as they "
                "were exported"
            )
        parts[recording] = build.part(recording, group, folder)
    return list(parts.values())


def _counted(clips: Iterable[Clip], total: int, progress: Progress) -> Iterator[Clip]:
    for done, clip in enumerate(clips, start=1):
        yield clip
        progress("windows imported", done, total)


@dataclass(slots=True, kw_only=True)
class _Exported:
    """The build that was exported.

    Attributes:
        config: its configuration.
        provenance: its own record.
        entries: recording -> what that record says of it.
        rejected: recording -> its windows that did not become rows.
        questions: recording -> those about its windows.
    """

    config: BuildConfig
    provenance: dict[str, Any]
    entries: dict[str, dict[str, Any]]
    rejected: dict[str, list[dict[str, str]]] = field(default_factory=lambda: defaultdict(list))
    questions: dict[str, list[QuestionAnswer]] = field(default_factory=lambda: defaultdict(list))

    @classmethod
    def of(cls, record: dict[str, Any], places: Sequence[Path]) -> "_Exported":
        """Raises ShardError when the build had no record that can be understood."""
        provenance = record["provenance"]
        try:
            values = provenance["config"]["values"]
            entries = {entry["recording"]: entry for entry in provenance["recordings"]}
        except (TypeError, KeyError) as exc:
            raise ShardError(
                "export.json: does not say how the shards were built: their provenance.json was "
                "missing, or they were merged of several builds; export and import each build"
            ) from exc
        config = restored(config_kind(values), values, places)
        return cls(config=config, provenance=provenance, entries=entries)

    def part(self, recording: str, clips: Iterable[Clip], folder: Path) -> Part:
        """The part of a recording, written if it is not there; `clips` are consumed."""
        if recording not in self.entries:
            raise ShardError(
                f"{recording}: the build's provenance.json knows no such recording; export again"
            )
        entry = self.entries[recording]
        stem = f"{recording}.{entry['key']}"
        if Path(stem).name != stem:
            raise ShardError(f"{stem!r}: cannot be the name of a file; the export is not ours")
        marker = folder / f"{stem}.done.json"
        finished = read_part(marker)
        if finished is not None:
            for _ in clips:
                pass
            return finished
        asked = self.questions[recording]
        tables = [
            "windows",
            *(["events"] if self.config.events else []),
            *(["qa"] if asked else []),
        ]
        paths = {table: folder / f"{stem}.{table}.parquet" for table in tables}
        owner = _Owner()
        with located(recording), table_writers(paths, self.config) as writers:
            written = write_clips(owner.seen(clips), writers, preview=self.config.preview)
            if asked:
                writers["qa"].write(qa_table(asked))
        rows, count, duration_us = written
        part = Part(
            recording=recording,
            wearer=owner.wearer,
            key=entry["key"],
            split=owner.split,
            split_group=owner.split_group,
            rows=rows,
            event_count=count if self.config.events else None,
            duration_us=duration_us,
            files=file_facts(paths.values()),
            sources=entry["sources"],
            rejected=self.rejected[recording],
            notes=entry["notes"],
            imu=entry["imu"],
        )
        write_text(marker, seal(asdict(part)))
        return part

    def provenance_of(self, parts: Sequence[Part], record: dict[str, Any]) -> dict[str, Any]:
        """The build's own record, without its hashes and times, with what was imported and how."""
        kept = {key: value for key, value in self.provenance.items() if key not in PASSING}
        names = {part.recording for part in parts}
        built = sum(part.rows for part in parts)
        rejected = Counter(entry["reason"] for part in parts for entry in part.rejected)
        return {
            **kept,
            "config": config_record(self.config),
            "counts": {
                **kept["counts"],
                "planned_windows": built + rejected.total(),
                "built_windows": built,
                "rejected_windows": dict(sorted(rejected.items())),
                "recordings": len(parts),
            },
            "recordings": [entry for entry in kept["recordings"] if entry["recording"] in names],
            "imported": {
                "format": record["format"],
                "exported_by": record["builder"],
                "exported_split": record["options"]["split"],
                "shards_sha256": record["shards_sha256"],
                "built": self.provenance.get("utc"),
                "builder": BUILDER,
                "environment": environment(),
            },
        }


@dataclass(slots=True)
class _Owner:
    """Whose a recording is, as its clips say; nobody's as long as there is none."""

    wearer: str | None = None
    split: str = ""
    split_group: str = ""

    def seen(self, clips: Iterable[Clip]) -> Iterator[Clip]:
        """The clips, looked at as they pass."""
        for clip in clips:
            self.wearer, self.split = clip.wearer, clip.split
            self.split_group = clip.origin.split_group
            yield clip


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The JSON objects of a file, none where there is no file."""
    if path.is_file():
        with path.open(encoding="utf-8") as lines:
            yield from map(json.loads, lines)


def _recording(entry: dict[str, Any]) -> str:
    """The recording of what is said about a window."""
    return str(entry["window_id"]).split("/")[-2]


def _check_files(folder: Path, hashes: dict[str, str]) -> None:
    """A tar has no checksums, and a flipped bit in it would pass as data."""
    for name, need in hashes.items():
        path = folder / name
        if not path.is_file():
            raise ShardError(f"{name}: is missing from {folder}; fetch the export again")
        if sha256_file(path) != need:
            raise ShardError(f"{name}: is damaged, it is not what was exported; fetch it again")


def _clips(path: Path) -> Iterator[Clip]:
    for key, members in _samples(path):
        with located(f"{path.name}: sample {key}"):
            clip = clip_of_sample(members)
        yield clip


def _samples(path: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Key and members of every sample of a tar."""
    try:
        with tarfile.open(path, "r:") as tar:
            files = (member for member in tar if member.isfile())
            for key, members in groupby(files, key=lambda member: member.name.partition(".")[0]):
                sample = {}
                for member in members:
                    stored = tar.extractfile(member)
                    sample[member.name.partition(".")[2]] = stored.read() if stored else b""
                yield key, sample
    except (tarfile.TarError, EOFError) as exc:
        raise ShardError(f"{path.name}: is no whole tar ({exc}); fetch it again") from exc
