"""Command lines of the data side: `build-shards` and `inspect-shards`."""

import dataclasses
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, cast

from cyclopts import App, Parameter, default_name_transform
from rich.console import Console

from egotriad.manifests.cli import EXIT_INCOMPLETE, finish, run_app
from egotriad.manifests.plugins import DATASETS
from egotriad.pipelines.build import BuildReport, build
from egotriad.pipelines.dataset import Dataset
from egotriad.pipelines.engine import default_workers
from egotriad.pipelines.inspect import write_inspection
from egotriad.pipelines.plan import BuildConfig

__all__ = ["build_shards", "inspect_shards"]


def build_shards(tokens: Sequence[str] | None = None) -> int:
    """`build-shards DATASET`: paired IMU / event / narration shards from recordings."""
    return run_app(_build_app, tokens)


def _build_app(words: list[str]) -> App:
    app = App(
        name="build-shards",
        help="Build paired IMU / event-camera / narration shards from recordings.",
        version_flags=[],
        default_parameter=Parameter(name_transform=_flag),
    )
    if words and not words[0].startswith("-"):
        # Only the dataset asked for is imported.
        dataset = cast(Dataset, DATASETS.load(words[0]))
        app.command(_build_command(dataset), name=words[0])
    else:
        for name in DATASETS.names():
            app.command(_pointer(name), name=name)
    return app


def _flag(name: str) -> str:
    """A field's name as a flag, its unit spelled out: `window_s` -> `window-seconds`."""
    return re.sub("-s$", "-seconds", default_name_transform(name))


def _pointer(name: str) -> Callable[[], None]:
    def point() -> None:
        """Shown in the list of datasets."""

    point.__doc__ = f"See: build-shards {name} --help"
    return point


def _build_command(dataset: Dataset) -> Callable[..., int]:
    # The flags' defaults are the dataset's, so that --help tells the truth.
    defaults = dict(dataset.build_defaults)
    types = {f.name: f.type for f in dataclasses.fields(BuildConfig)}
    flags: Any = dataclasses.dataclass(frozen=True, kw_only=True)(
        type(
            "BuildFlags",
            (BuildConfig,),
            {
                "__annotations__": {name: types[name] for name in defaults},
                "__doc__": BuildConfig.__doc__,
                **defaults,
            },
        )
    )
    options_type: Any = dataset.Options

    def command(
        *,
        out: Path,
        options: Annotated[options_type, Parameter(name="*")] = None,
        config: Annotated[flags, Parameter(name="*")] = None,
        raw: Path | None = None,
        workers: int | None = None,
        limit: int | None = None,
        max_reject_rate: float = 0.5,
        json: bool = False,
    ) -> int:
        """Build shards from this dataset.

        Args:
            out: folder of the shards; running again resumes.
            options: the dataset's own options.
            config: the build's options.
            raw: folder of the raw files; OUT.raw when not given.
            workers: processes; all cores when not given.
            limit: build only the first so many recordings.
            max_reject_rate: exit with 3 when a larger share of the windows was rejected.
            json: print the result as one line of JSON.
        """
        report = build(
            dataset,
            options if options is not None else options_type(),
            BuildConfig(**dataclasses.asdict(config if config is not None else flags())),
            raw=raw or out.with_name(f"{out.name}.raw"),
            out=out,
            workers=workers or default_workers(),
            limit=limit,
        )
        missing = report.failed or report.reject_rate > max_reject_rate
        return finish(
            dataclasses.asdict(report) | {"out": str(report.out)},
            as_json=json,
            show=lambda console: _show_build(console, report),
            code=EXIT_INCOMPLETE if missing else 0,
        )

    return command


def _show_build(console: Console, report: BuildReport) -> None:
    console.print(
        f"{report.clips} clips ({report.hours:.3f} h, {report.events:,} events) of "
        f"{report.recordings} recordings in {report.out}"
        + (f", {report.reused} recordings were built before" if report.reused else ""),
        highlight=False,
    )
    for reason, count in report.rejected.items():
        console.print(f"rejected {count} windows: {reason} (see rejected.jsonl)", highlight=False)
    for message in report.failed.values():
        console.print(f"failed: {message}", highlight=False, markup=False)


def inspect_shards(tokens: Sequence[str] | None = None) -> int:
    """`inspect-shards FOLDER`: a page that shows what lies in shards."""
    return run_app(_inspect_app, tokens)


def _inspect_app(words: list[str]) -> App:
    app = App(name="inspect-shards", version_flags=[])
    app.default(_inspect)
    return app


def _inspect(
    shards: Path,
    /,
    *,
    out: Path | None = None,
    clips: int = 12,
    split: str | None = None,
    json: bool = False,
) -> int:
    """Write an HTML page with numbers, IMU traces, event frames and narrations of shards.

    Args:
        shards: folder of a build.
        out: the page; SHARDS/inspect.html when not given.
        clips: how many clips to draw, spread over all of them.
        split: only this split.
        json: print the result as one line of JSON.
    """
    page = out or shards / "inspect.html"
    summary = write_inspection(shards, page, clips=clips, split=split)
    return finish(
        summary | {"page": str(page)},
        as_json=json,
        show=lambda console: console.print(
            f"{summary['clips']} clips, {summary['events']:,} events; look at {page}",
            highlight=False,
        ),
    )
