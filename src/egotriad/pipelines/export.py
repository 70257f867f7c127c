"""Shards into the files that other programs open.

| format | what is written | who opens it |
|---|---|---|
| webdataset | tars: text, JSON, IMU and events as npy | webdataset, `datasets`; `import` |
| dsec | HDF5 events, IMU and narrations as CSV | DSEC's own code; `import` |
| tonic | structured npy for each window, and a list of them | Tonic |
| eventgpt | npy of less than 100 ms, instructions as JSON | EventGPT |
| llava | images of events, instructions as JSON | LLaVA and what was derived from it |

An export is one folder, which appears when it is whole. `export.json` in it says what it is of.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from egotriad.converters.event_frames import MAX_EXTENT_US
from egotriad.converters.spans import SpanPolicy
from egotriad.manifests.errors import UsageError
from egotriad.manifests.files import seal, write_text
from egotriad.manifests.schema import SCHEMA_VERSION
from egotriad.pipelines.export_dsec import export_dsec
from egotriad.pipelines.export_instructions import export_eventgpt, export_llava
from egotriad.pipelines.export_source import ExportSource, Progress
from egotriad.pipelines.export_tonic import export_tonic
from egotriad.pipelines.export_webdataset import export_webdataset
from egotriad.pipelines.provenance import BUILDER

__all__ = ["EXPORT_RECORD", "ExportConfig", "ExportReport", "Format", "export_shards"]

Format = Literal["webdataset", "dsec", "tonic", "eventgpt", "llava"]

EXPORT_RECORD = "export.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportConfig:
    """What is exported, and how.

    Attributes:
        format: see the module.
        split: only this split; None = all.
        windows_per_tar: of webdataset.
        per: of dsec: files for each `window`, or for each whole `recording`.
        spans: of eventgpt and llava: what is shown of windows whose events are longer than 100 ms,
            as `build-shards --event-spans`; shorter ones are shown as they are.
        question: of eventgpt and llava: what the narration answers.
    """

    format: Format
    split: str | None = None
    windows_per_tar: int = 64
    per: Literal["window", "recording"] = "window"
    spans: str = "0.05s@peak"
    question: str = "What is the person wearing the camera doing?"

    def __post_init__(self) -> None:
        if self.format not in get_args(Format):
            raise UsageError(f"--format: got {self.format!r}, need {', '.join(get_args(Format))}")
        if self.per not in ("window", "recording"):
            raise UsageError(f"--per: got {self.per!r}, need 'window' or 'recording'")
        if self.windows_per_tar < 1:
            raise UsageError(f"--windows-per-tar: got {self.windows_per_tar}, need 1 or more")
        longest_us = SpanPolicy.parse(self.spans).duration_us
        if longest_us is None or longest_us > MAX_EXTENT_US:
            raise UsageError(
                f"--spans: got {self.spans!r}, need spans of at most {MAX_EXTENT_US / 1e6:g} s, "
                "which is all that EventGPT takes"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportReport:
    """What an export did.

    Attributes:
        out: its folder.
        windows, events, files: what is in it.
        left_out: reason -> number of windows, or of spans of windows.
        licences: ids of the licences that the data are under.
    """

    out: Path
    windows: int
    events: int
    files: int
    left_out: dict[str, int]
    licences: tuple[str, ...]


def export_shards(
    shards: Path | str, out: Path, config: ExportConfig, *, progress: Progress
) -> ExportReport:
    """Writes a build in another format, a window at a time.

    Args:
        shards: folder, URL or Hub id of the build.
        out: the folder to write; it must not hold anything yet.
        config: what and how.
        progress: called with (what is counted, done, total).

    Raises:
        ShardError: no complete build, no such split, or a file that is damaged.
        UsageError: `out` holds something, or a window that the format cannot hold.
        MissingDependency: the format needs a package that is not installed.
    """
    source = ExportSource(shards, split=config.split, progress=progress)
    with _whole_folder(out) as folder:
        described = _write(source, folder, config)
        files = sum(path.is_file() for path in folder.rglob("*"))
        record = {
            "format": config.format,
            "builder": BUILDER,
            "schema_version": SCHEMA_VERSION,
            "options": asdict(config),
            "shards_sha256": source.sha256,
            "provenance": source.provenance,
            "windows": source.windows,
            "left_out": dict(sorted(source.left_out.items())),
            **described,
        }
        write_text(folder / EXPORT_RECORD, seal(record))
    return ExportReport(
        out=out,
        windows=source.windows,
        events=source.events,
        files=files + 1,
        left_out=dict(sorted(source.left_out.items())),
        licences=tuple(sorted(source.licences)),
    )


def _write(source: ExportSource, folder: Path, config: ExportConfig) -> dict[str, Any]:
    """Writes the files; what of them goes into the record."""
    spans = SpanPolicy.parse(config.spans)
    writers: dict[Format, Callable[[], dict[str, Any] | None]] = {
        "webdataset": lambda: export_webdataset(source, folder, config.windows_per_tar),
        "dsec": lambda: export_dsec(source, folder, config.per),
        "tonic": lambda: export_tonic(source, folder),
        "eventgpt": lambda: export_eventgpt(source, folder, spans, config.question),
        "llava": lambda: export_llava(source, folder, spans, config.question),
    }
    if config.format != "webdataset" and source.asked:
        source.left_out["question"] += source.asked
    return writers[config.format]() or {}


@contextmanager
def _whole_folder(out: Path) -> Iterator[Path]:
    """Gives a temporary folder beside `out`; it gets that name when all went well."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out}: is not empty; choose a new folder, or delete this one")
    for stale in out.parent.glob(f"{out.name}.tmp-*"):
        if not _alive(stale.name.rpartition("-")[2]):
            shutil.rmtree(stale, ignore_errors=True)
    temporary = out.with_name(f"{out.name}.tmp-{os.getpid()}")
    try:
        temporary.mkdir(parents=True)
    except OSError as exc:
        raise UsageError(f"{out}: cannot be made ({exc.strerror}); choose another place") from exc
    try:
        yield temporary
        temporary.replace(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True
