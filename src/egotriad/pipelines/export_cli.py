"""Command lines `egotriad export` and `egotriad import`: shards to other formats, and back."""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter
from rich.console import Console

from egotriad.converters.event_files_fields import Size
from egotriad.manifests.cli import EXIT_INCOMPLETE, finish, run_app
from egotriad.manifests.errors import UsageError
from egotriad.manifests.licences import licences_of
from egotriad.manifests.progress import Meter
from egotriad.pipelines.engine import default_workers
from egotriad.pipelines.export import ExportConfig, ExportReport, Format, export_shards
from egotriad.pipelines.import_dsec import DsecOptions
from egotriad.pipelines.import_shards import (
    ImportReport,
    import_dsec_folder,
    import_export,
    is_export,
)

__all__ = ["export", "import_"]

OWN_OPTIONS = {
    "windows_per_tar": ("webdataset",),
    "per": ("dsec",),
    "spans": ("eventgpt", "llava"),
    "question": ("eventgpt", "llava"),
}
"""Options that mean something for some formats only."""


def export(tokens: Sequence[str] | None = None) -> int:
    """`egotriad export SHARDS OUT --format ...`: shards into the files of other programs."""
    return run_app(_export_app, tokens)


def _export_app(words: list[str]) -> App:
    app = App(name="export", version_flags=[])
    app.default(_export)
    return app


def _export(
    shards: str,
    out: Path,
    /,
    *,
    format: Format,
    split: str | None = None,
    windows_per_tar: int | None = None,
    per: Literal["window", "recording"] | None = None,
    spans: str | None = None,
    question: str | None = None,
    json: bool = False,
) -> int:
    """Write shards in another format, in one folder that appears when it is whole.

    Args:
        shards: folder, URL or Hub id of a build.
        out: the new folder.
        format: webdataset, dsec (HDF5), tonic, eventgpt (npy and instructions), llava (images).
        split: only this one of train, validation and test.
        windows_per_tar: of webdataset; 64 when not given.
        per: of dsec: files for each window (when not given) or for each recording.
        spans: of eventgpt and llava: what is shown of windows with events longer than 100 ms, as
            --event-spans of build-shards; 0.05s@peak when not given.
        question: of eventgpt and llava: what the narration answers.
        json: print the result as one line of JSON.
    """
    own = {"windows_per_tar": windows_per_tar, "per": per, "spans": spans, "question": question}
    given: dict[str, Any] = {name: value for name, value in own.items() if value is not None}
    for name in given:
        if format not in OWN_OPTIONS[name]:
            flag = "--" + name.replace("_", "-")
            raise UsageError(
                f"{flag}: belongs to {' and '.join(OWN_OPTIONS[name])}, means nothing for {format}"
            )
    config = ExportConfig(format=format, split=split, **given)
    with Meter() as meter:
        report = export_shards(shards, out, config, progress=meter)
    return finish(
        dataclasses.asdict(report) | {"out": str(report.out)},
        as_json=json,
        show=lambda console: _show_export(console, report, format),
    )


def _show_export(console: Console, report: ExportReport, format: str) -> None:
    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    say(
        f"{report.windows} windows ({report.events:,} events) as {format} in {report.out}, "
        f"{report.files} files"
    )
    for reason, count in report.left_out.items():
        say(f"left out {count}: {reason}")
    closed = [item.id for item in licences_of(report.licences) if not item.redistributable]
    if closed:
        say(f"under the licence {', '.join(closed)}: do not hand it on")


def import_(tokens: Sequence[str] | None = None) -> int:
    """`egotriad import SOURCE OUT`: files of other programs into shards."""
    return run_app(_import_app, tokens)


def _import_app(words: list[str]) -> App:
    app = App(name="import", version_flags=[])
    app.default(_import)
    return app


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecordingFlags:
    """Of recordings in DSEC's layout.

    Attributes:
        licence: of recordings whose recording.json says none; unknown, so closed, when not given.
        wearer: who wore the camera, where recording.json does not say it.
        size: sensor, WIDTHxHEIGHT in pixels, where the files do not say it (DSEC's own: 640x480).
        windows: grid (when not given), point, until-next or adaptive.
        window_s: length of windows, seconds; 5 when not given.
        event_spans: where in a window events are taken; full when not given.
        imu_rate_hz: rate of the IMU grid; 200 when not given.
        max_gap_fraction: a window with a larger share of missing IMU samples is rejected; 0 when
            not given.
        workers: processes; all cores when not given.
    """

    licence: str | None = None
    wearer: str | None = None
    size: str | None = None
    windows: Literal["grid", "point", "until-next", "adaptive"] | None = None
    window_s: Annotated[float | None, Parameter(name="--window-seconds")] = None
    event_spans: str | None = None
    imu_rate_hz: float | None = None
    max_gap_fraction: float | None = None
    workers: int | None = None


def _import(
    source: Path,
    out: Path,
    /,
    *,
    recordings: Annotated[RecordingFlags | None, Parameter(name="*")] = None,
    sources: tuple[Path, ...] = (),
    json: bool = False,
) -> int:
    """Make shards of an exported WebDataset, or of recordings of an event camera (events.h5).

    An export of shards as webdataset gives the same clips again. Folders with events.h5 in DSEC's
    layout, and imu.csv and narrations.csv beside it, are built like any recording.

    Args:
        source: folder of the export, or of the recordings.
        out: folder of the shards; running again resumes.
        recordings: options of recordings in DSEC's layout.
        sources: of an export, folders of files that the build's configuration names.
        json: print the result as one line of JSON.
    """
    flags = dataclasses.asdict(recordings or RecordingFlags())
    given = {name: value for name, value in flags.items() if value is not None}
    if is_export(source):
        if given:
            names = ", ".join("--" + name.replace("_", "-") for name in given)
            raise UsageError(f"{names}: the export says it itself; leave it out")
        with Meter() as meter:
            report = import_export(source, out, places=sources, progress=meter)
    else:
        workers = given.pop("workers", None) or default_workers()
        size = given.pop("size", None)
        known = {name: given.pop(name) for name in ("licence", "wearer") if name in given}
        options = DsecOptions(**known, size_wh=None if size is None else _size(size))
        report = import_dsec_folder(source, out, options, workers=workers, **given)
    return finish(
        dataclasses.asdict(report) | {"out": str(report.out)},
        as_json=json,
        show=lambda console: _show_import(console, report),
        code=EXIT_INCOMPLETE if report.failed else 0,
    )


def _size(text: str) -> Size:
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if match is None:
        raise UsageError(f"--size: got {text!r}, need WIDTHxHEIGHT in pixels, as 640x480")
    return int(match[1]), int(match[2])


def _show_import(console: Console, report: ImportReport) -> None:
    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    say(
        f"{report.clips} clips ({report.events:,} events) of {report.recordings} recordings in "
        f"{report.out}"
    )
    for reason, count in report.rejected.items():
        say(f"rejected {count} windows: {reason} (see rejected.jsonl)")
    for message in report.failed.values():
        say(f"failed: {message}")
