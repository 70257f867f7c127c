"""Command lines of the data side: `build-shards` and `inspect-shards`."""

import dataclasses
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, cast

from cyclopts import App, Parameter, default_name_transform

from egotriad.manifests.cli import finish, run_app
from egotriad.manifests.config_file import CONFIG_FLAG, from_config_file
from egotriad.manifests.errors import UsageError
from egotriad.manifests.plugins import DATASETS
from egotriad.pipelines.build_cli import BuildTask, dry_run_build, run_build
from egotriad.pipelines.dataset import Dataset
from egotriad.pipelines.engine import EngineConfig
from egotriad.pipelines.inspect import write_inspection
from egotriad.pipelines.plan import BuildConfig
from egotriad.pipelines.run_config import RunConfig

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
        config=from_config_file,
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
        engine: Annotated[EngineConfig | None, Parameter(name="*")] = None,
        run: Annotated[RunConfig | None, Parameter(name="*")] = None,
        raw: Path | None = None,
        limit: int | None = None,
        max_reject_rate: float = 0.5,
        dry_run: bool = False,
        measure: float | None = None,
        hours: float | None = None,
        config_file: Annotated[Path | None, Parameter(name=CONFIG_FLAG)] = None,
        json: bool = False,
    ) -> int:
        """Build shards from this dataset.

        Args:
            out: folder of the shards; running again resumes.
            options: the dataset's own options.
            config: the build's options.
            engine: where recordings are built.
            run: what is done now, and when it stops.
            raw: folder of the raw files; OUT.raw when not given.
            limit: build only the first so many recordings.
            max_reject_rate: exit with 3 when a larger share of the windows was rejected.
            dry_run: say what would be built, how large it gets and how long it takes; decode
                nothing and download nothing.
            measure: with --dry-run, build so many seconds of the recordings on trial, and reckon
                with what they cost here.
            hours: with --dry-run, reckon for so many recorded hours like these.
            config_file: TOML file of options, named as the flags are; flags win.
            json: print the result as one line of JSON.
        """
        task = BuildTask(
            dataset=dataset,
            options=options if options is not None else options_type(),
            config=BuildConfig(**dataclasses.asdict(config if config is not None else flags())),
            engine=engine or EngineConfig(),
            run=run or RunConfig(),
            raw=raw or out.with_name(f"{out.name}.raw"),
            out=out,
            limit=limit,
        )
        if dry_run:
            return dry_run_build(task, measure_s=measure, hours=hours, as_json=json)
        if measure is not None or hours is not None:
            raise UsageError("--measure and --hours belong to --dry-run; add it or drop them")
        return run_build(task, max_reject_rate=max_reject_rate, as_json=json)

    return command


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
