"""The parts that a build was packed from: those still sound, the others built again."""

from collections.abc import Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from egotriad.manifests import Recording
from egotriad.manifests.errors import ShardError
from egotriad.manifests.files import sha256_file
from egotriad.manifests.plugins import DATASETS
from egotriad.manifests.progress import Meter
from egotriad.manifests.split import SPLITS
from egotriad.pipelines import engine
from egotriad.pipelines.dataset import Dataset
from egotriad.pipelines.pack import asked_parts, plan_shards, qa_path
from egotriad.pipelines.part import Part, PartJob, build_part, read_part
from egotriad.pipelines.plan import BuildConfig, plan_build
from egotriad.pipelines.restore import restored

__all__ = ["PartStore"]


@dataclass(slots=True, kw_only=True)
class PartStore:
    """The parts of a build, by its record.

    Attributes:
        folder: where the parts lie.
        provenance: the build's record.
        config: the build's configuration.
        raw: folder of the dataset's raw files.
        places: folders to look for the user's source files in.
        workers: processes.
        rebuilt: recordings that had to be built again.
    """

    folder: Path
    provenance: dict[str, Any]
    config: BuildConfig
    raw: Path
    places: Sequence[Path]
    workers: int
    rebuilt: list[str] = field(default_factory=list)

    def fetch(self, keep: Set[str]) -> list[Part]:
        """Every part; those that feed a shard whose files are not all in `keep` were hashed.

        Raises:
            ShardError: when a part is lost and cannot be built again.
        """
        entries = {entry["recording"]: entry for entry in self.provenance["recordings"]}
        self._rebuild([e for e in entries.values() if read_part(self._marker(e)) is None])
        shards = plan_shards(self._read(), self.config)
        needed = {
            part.recording: part
            for shard in shards
            if not keep >= set(shard.paths(self.config).values())
            for part in shard.parts
        }
        for split in SPLITS:
            if qa_path(split) not in keep:
                needed |= {part.recording: part for part in asked_parts(shards, split)}
        self._rebuild([entries[name] for name, part in needed.items() if not self._sound(part)])
        return self._read()

    def _marker(self, entry: dict[str, Any]) -> Path:
        return self.folder / f"{entry['recording']}.{entry['key']}.done.json"

    def _read(self) -> list[Part]:
        parts = [read_part(self._marker(entry)) for entry in self.provenance["recordings"]]
        return [part for part in parts if part is not None]

    def _sound(self, part: Part) -> bool:
        return all(
            sha256_file(self.folder / name) == facts["sha256"] for name, facts in part.files.items()
        )

    def _rebuild(self, entries: Sequence[dict[str, Any]]) -> None:
        """Builds recordings again, from sources that are still what they were."""
        if not entries:
            return
        jobs = self._jobs({entry["recording"]: entry for entry in entries})
        for entry in entries:
            self._marker(entry).unlink(missing_ok=True)
        with Meter() as meter:
            results = engine.run(build_part, jobs, workers=self.workers)
            for done, (job, result) in enumerate(results, start=1):
                if isinstance(result, Exception):
                    raise result
                self.rebuilt.append(job.plan.recording.recording_id)
                meter("recordings built again", done, len(jobs))

    def _jobs(self, entries: dict[str, dict[str, Any]]) -> list[PartJob]:
        source = self.provenance["source"]
        dataset = cast(Dataset, DATASETS.load(source["dataset"]))
        options: Any = restored(dataset.Options, source["options"], self.places)
        dataset.download(self.raw, options)
        recordings = [
            recording
            for recording in dataset.recordings(self.raw, options)
            if isinstance(recording, Recording) and recording.recording_id in entries
        ]
        absent = sorted(entries.keys() - {recording.recording_id for recording in recordings})
        if absent:
            raise ShardError(
                f"the parts of {', '.join(absent)} are lost, and {dataset.name} does not have such "
                "recordings any more; name the folder of their files with --sources or --raw"
            )
        for recording in recordings:
            _check_sources(recording, entries[recording.recording_id]["sources"])
        return [
            # Under the recorded key, by which the next repair finds it: a copied source has
            # another time, and so would have another key. In the recorded split too: recordings
            # that are not planned here may have decided it.
            PartJob(
                plan=replace(plan, key=entry["key"], split=entry.get("split", plan.split)),
                config=self.config,
                folder=self.folder,
            )
            for plan in plan_build(recordings, self.config)
            for entry in [entries[plan.recording.recording_id]]
        ]


def _check_sources(recording: Recording, recorded: Sequence[dict[str, Any]]) -> None:
    """Refuses sources other than those of the build.

    Raises:
        ShardError: naming the files that differ.
    """
    now = {path.name: sha256_file(path) for path in recording.files}
    then = {source["name"]: source["sha256"] for source in recorded}
    changed = sorted(name for name in now.keys() | then.keys() if now.get(name) != then.get(name))
    if changed:
        raise ShardError(
            f"{recording.recording_id}: {', '.join(changed)} changed since the build, so its lost "
            "part cannot be made again; run build-shards for a new build"
        )
