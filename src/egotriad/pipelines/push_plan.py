"""What a push would send, and whether it may: decided from the folder alone, without a call.

The rules: private and gated unless whoever pushes types, licence by licence, that they have the
right to hand the data on; only files that SHA256SUMS names; the Hub's limits (huggingface/hub-docs
docs/hub/storage-limits.md).
"""

import logging
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from egotriad.manifests.errors import ShardError, UsageError
from egotriad.manifests.files import sha256_file
from egotriad.manifests.licences import Licence, licences_of
from egotriad.manifests.shards import open_table, read_manifest

__all__ = ["MARKERS", "LocalFile", "PushConfig", "PushPlan", "plan_push"]

_LOG = logging.getLogger(__name__)

MARKERS = ("manifest.jsonl", "SHA256SUMS", "provenance.json")
"""Where all of these are, a revision is complete."""

TABLE_FOLDERS = ("data", "events", "data_qa")
LARGEST_FILE_BYTES = 50 * 10**9
MOST_FILES_PER_FOLDER = 10_000
FREE_PRIVATE_BYTES = 100 * 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class PushConfig:
    """Where to push to, and what was said about the right to do so.

    Attributes:
        repo_id: `NAMESPACE/NAME` of the dataset repository; made if it is not there.
        version: of the dataset; the revision is tagged `v` + version, and tags never move.
        branch: push to this branch instead of `main`; readers of `main` see nothing of it.
        public: make the repository public once everything is there and checked.
        i_have_the_right_to_redistribute: a licence id of the shards, once for each of them; needed
            with --public, kept in provenance.json.
    """

    repo_id: str
    version: str = "1.0.0"
    branch: str | None = None
    public: bool = False
    i_have_the_right_to_redistribute: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", self.repo_id, re.ASCII):
            raise UsageError(f"repository: got {self.repo_id!r}, need NAMESPACE/NAME")
        if not re.fullmatch(r"\d+\.\d+\.\d+", self.version):
            raise UsageError(f"--version: got {self.version!r}, need three numbers like 1.0.0")
        if self.i_have_the_right_to_redistribute and not self.public:
            raise UsageError("--i-have-the-right-to-redistribute belongs to --public; drop it")


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalFile:
    """One file to send."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PushPlan:
    """What a push sends.

    Attributes:
        folder: of the build.
        config: where to.
        licences: of everything in the shards.
        files: path in the folder and in the repository -> the file.
    """

    folder: Path
    config: PushConfig
    licences: tuple[Licence, ...]
    files: dict[str, LocalFile]

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(file.bytes for file in self.files.values())

    @property
    def gate(self) -> Literal["manual", False]:
        """Who gets access: only whom the owner lets in, or everybody."""
        open_to_all = self.config.public and all(item.redistributable for item in self.licences)
        return False if open_to_all else "manual"


def plan_push(folder: Path, config: PushConfig) -> PushPlan:
    """Lists the files of a complete build and decides who may see them.

    Raises:
        ShardError: the folder holds no complete build, or files that SHA256SUMS does not name, or
            something the Hub does not take.
        UsageError: --public without the right typed for every licence in the shards, or for others.
    """
    lines = read_manifest(folder)
    files = _files(folder)
    unlisted = _data_files(folder) ^ {line["path"] for line in lines}
    if unlisted:
        raise ShardError(
            f"{sorted(unlisted)[0]}: is either missing or not of this build "
            f"({len(unlisted)} such files); see verify-shards"
        )
    _check_limits(files, config)
    shards = [folder / line["path"] for line in lines if line["config"] == "windows"]
    licences = licences_of(_licence_ids(shards))
    _check_right(licences, config)
    return PushPlan(folder=folder, config=config, licences=licences, files=files)


def _files(folder: Path) -> dict[str, LocalFile]:
    sums = (folder / "SHA256SUMS").read_text(encoding="utf-8")
    hashes = {name: digest for digest, _, name in (s.partition("  ") for s in sums.splitlines())}
    for name in ("SHA256SUMS", "provenance.json"):
        hashes[name] = sha256_file(_present(folder, name))
    return {
        name: LocalFile(bytes=_present(folder, name).stat().st_size, sha256=hashes[name])
        for name in sorted(hashes)
    }


def _present(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.is_file():
        raise ShardError(f"{name}: is missing; run build-shards again")
    return path


def _data_files(folder: Path) -> set[str]:
    return {
        path.relative_to(folder).as_posix()
        for table in TABLE_FOLDERS
        for path in (folder / table).rglob("*.parquet")
    }


def _licence_ids(shards: list[Path]) -> set[str]:
    ids: set[str] = set()
    for path in shards:
        table = open_table(path, "windows").read(columns=["license_id"])
        ids.update(table.column("license_id").unique().to_pylist())
    return ids


def _check_right(licences: tuple[Licence, ...], config: PushConfig) -> None:
    held = {item.id for item in licences}
    typed = set(config.i_have_the_right_to_redistribute)
    if typed - held:
        raise UsageError(
            f"--i-have-the-right-to-redistribute: got {', '.join(sorted(typed - held))}, "
            f"the shards are under {', '.join(sorted(held))}"
        )
    missing = sorted(held - typed)
    if config.public and missing:
        flags = " ".join(f"--i-have-the-right-to-redistribute {name}" for name in missing)
        raise UsageError(
            f"--public: the shards hold data under {', '.join(missing)}; who may publish them "
            f"types {flags}, everybody else pushes without --public"
        )


def _check_limits(files: dict[str, LocalFile], config: PushConfig) -> None:
    for name, file in files.items():
        if file.bytes > LARGEST_FILE_BYTES:
            raise ShardError(
                f"{name}: has {file.bytes / 1e9:.0f} GB, the Hub takes files up to 50 GB; "
                "build with a smaller --shard-mib"
            )
    for folder, count in Counter(str(Path(name).parent) for name in files).items():
        if count > MOST_FILES_PER_FOLDER:
            raise ShardError(
                f"{folder}: has {count} files, the Hub takes {MOST_FILES_PER_FOLDER} per folder; "
                "build with a larger --shard-mib"
            )
    total = sum(file.bytes for file in files.values())
    if not config.public and total > FREE_PRIVATE_BYTES:
        _LOG.warning(
            "%.0f GB: private repositories are free up to 100 GB, then the namespace needs a plan",
            total / 1e9,
        )
