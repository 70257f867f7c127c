"""Command line `egotriad convert`: one file into another."""

import dataclasses
import errno
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter
from rich.console import Console

from egotriad.converters.dvs_config import PRESETS, DvsConfig
from egotriad.converters.event_files import FORMATS, event_format, open_events
from egotriad.converters.event_files_fields import Size
from egotriad.converters.interpolate import UpsampleConfig
from egotriad.manifests.cli import finish, run_app
from egotriad.manifests.errors import RecordingError, UsageError
from egotriad.manifests.progress import Meter
from egotriad.pipelines.convert import (
    EventTally,
    ImuTally,
    Origin,
    convert_events,
    convert_imu,
    convert_video,
)

__all__ = ["convert"]


def convert(tokens: Sequence[str] | None = None) -> int:
    """`egotriad convert SOURCE TARGET`: events, videos and IMU from one file into another."""
    return run_app(_convert_app, tokens)


def _convert_app(words: list[str]) -> App:
    app = App(name="convert", version_flags=[])
    app.default(_convert)
    return app


@dataclasses.dataclass(frozen=True, kw_only=True)
class EventOptions:
    """Of event files.

    Attributes:
        from_format: format of the source, where its content does not show it.
        origin: where time 0 lies. `file`: where the source has it, its clock offset is left out;
            `absolute`: the offset is added to the times; `first`: the first event. Not given: times
            and offset as they are.
        start_us: leave out events before this time of the source, microseconds.
        end_us: leave out events from this time of the source on, microseconds.
    """

    from_format: Annotated[str | None, Parameter(name="--from")] = None
    origin: Origin | None = None
    start_us: int | None = None
    end_us: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class VideoOptions:
    """Of videos that become events.

    Attributes:
        preset: the camera: ideal, clean (when not given), noisy or v2e-defaults.
        timing: events at their own threshold `crossing` (when not given), or on v2e's `slots`.
        upsample: frames between frames: none, linear, flow (when not given) or superslomo.
        upsample_factor: steps per interval, or auto (when not given): no more than a pixel in one.
        checkpoint: SuperSloMo39.ckpt, for superslomo.
        seed: of the camera's noise; 0 when not given.
    """

    preset: str | None = None
    timing: Literal["crossing", "slots"] | None = None
    upsample: Literal["none", "linear", "flow", "superslomo"] | None = None
    upsample_factor: int | Literal["auto"] | None = None
    checkpoint: Path | None = None
    seed: int | None = None


def _convert(
    source: Path,
    target: Path,
    /,
    *,
    events: Annotated[EventOptions | None, Parameter(name="*")] = None,
    video: Annotated[VideoOptions | None, Parameter(name="*")] = None,
    to_format: Annotated[str | None, Parameter(name="--to")] = None,
    size: str | None = None,
    preview: Path | None = None,
    json: bool = False,
) -> int:
    """Convert event files, videos and the IMU of cameras.

    Events to events: formats dsec, v2e-h5, tonic, eventgpt, evt2, evt3, dat, aedat2, aedat4, text,
    recognised by content, written by suffix (.h5 .npy .raw .dat .aedat .aedat4 .txt). Video to
    events: the events an event camera would have seen. Events or video to .mp4: how events look.
    GoPro mp4 or Aria VRS to .parquet: its IMU.

    Args:
        source: the file to read.
        target: the file to write.
        events: options of event files.
        video: options of videos that become events.
        to_format: format of the target, where its suffix does not say it.
        size: sensor, WIDTHxHEIGHT in pixels: of event files that do not say it; of videos, to make
            them smaller.
        preview: mp4 to show the events in, besides.
        json: print the result as one line of JSON.
    """
    events, video = events or EventOptions(), video or VideoOptions()
    started_s = time.monotonic()
    if not source.is_file():
        raise RecordingError(f"{source}: no such file; check the path")
    try:
        result = _converted(source, target, events, video, to_format, size, preview)
    except OSError as exc:
        if exc.errno == errno.ENOSPC:
            raise
        raise UsageError(f"{target}: cannot be written ({exc}); choose another place") from exc
    seconds = time.monotonic() - started_s
    values = {"source": str(source), "target": str(target), **dataclasses.asdict(result)}
    return finish(
        values | {"seconds": round(seconds, 3)},
        as_json=json,
        show=lambda console: _show(console, result, target, seconds),
    )


def _converted(
    source: Path,
    target: Path,
    events: EventOptions,
    video: VideoOptions,
    to_format: str | None,
    size: str | None,
    preview: Path | None,
) -> EventTally | ImuTally:
    """What kind of conversion it is, and its result."""
    if target.suffix.lower() == ".parquet":
        _refuse("a table of an IMU", events, video, to=to_format, size=size, preview=preview)
        return convert_imu(source, target)
    name = events.from_format or _event_format(source)
    with Meter() as meter:
        if name is not None:
            _refuse("an event file as source", video)
            return convert_events(
                open_events(source, size_wh=_size(size), format=name),
                target,
                format=to_format,
                origin=events.origin,
                start_us=events.start_us,
                end_us=events.end_us,
                preview=preview,
                progress=meter,
            )
        _refuse("a video as source", events)
        return convert_video(
            source,
            target,
            config=_camera(video),
            upsample=_upsample(video),
            size_wh=_size(size),
            seed=video.seed or 0,
            format=to_format,
            preview=preview,
            progress=meter,
        )


def _event_format(source: Path) -> str | None:
    """Name of the format if a file holds events; None for what may be a video."""
    try:
        return event_format(source)
    except RecordingError:
        suffixes = {suffix for kind in FORMATS.values() for suffix in kind.suffixes}
        if source.suffix.lower() in suffixes:
            raise
        return None


def _size(text: str | None) -> Size | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,5})[x,](\d{1,5})", text)
    if match is None:
        raise UsageError(f"--size: got {text!r}, need WIDTHxHEIGHT in pixels, as 346x260")
    return int(match[1]), int(match[2])


def _camera(options: VideoOptions) -> DvsConfig:
    preset = options.preset or "clean"
    if preset not in PRESETS:
        raise UsageError(f"--preset: got {preset!r}, need one of {', '.join(PRESETS)}")
    return DvsConfig.preset(preset, **({"timing": options.timing} if options.timing else {}))


def _upsample(options: VideoOptions) -> UpsampleConfig:
    given = {
        "method": options.upsample,
        "factor": options.upsample_factor,
        "checkpoint": options.checkpoint,
    }
    chosen: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return UpsampleConfig(**chosen)


def _refuse(what: str, *options: EventOptions | VideoOptions, **others: object) -> None:
    """Raises when options are given that mean nothing here."""
    for option in options:
        others |= {field.name: getattr(option, field.name) for field in dataclasses.fields(option)}
    given = [name for name, value in others.items() if value is not None]
    if given:
        flags = ", ".join("--" + name.removesuffix("_format").replace("_", "-") for name in given)
        raise UsageError(f"{flags}: means nothing with {what}; leave it out")


def _show(console: Console, result: EventTally | ImuTally, target: Path, seconds: float) -> None:
    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    if isinstance(result, ImuTally):
        say(
            f"{target}: {result.accel_samples:,} accelerometer and {result.gyro_samples:,} "
            f"gyroscope samples, {result.rate_hz:.3f} Hz"
        )
        return
    width, height = result.size_wh
    say(
        f"{target}: {result.events:,} events of {width}x{height} pixels as {result.format}, "
        f"{result.events / max(seconds, 1e-3) / 1e6:.2f} million/s"
    )
    if result.first_us is not None and result.last_us is not None:
        say(
            f"{result.first_us} to {result.last_us} us "
            f"({(result.last_us - result.first_us) / 1e6:.3f} s), "
            f"{result.on / result.events:.1%} ON"
        )
    if result.t_offset_us:
        say(f"the source's own clock is {result.t_offset_us:+} us from these times")
