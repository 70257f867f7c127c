"""Every sensor of a GoPro as a typed stream: name, units, values, and a time for each sample.

Any numeric key of the camera works, of Hero5 to Hero13, Max and Fusion: ACCL, GYRO, MAGN, GPS5,
GPS9, GRAV, CORI, IORI, SHUT, WBAL, WRGB, ISOG, ISOE, FACE, ... and, once a payload, GPSU (seconds
since 1970 UTC), GPSF, GPSP, TMPC. Values are as stored and scaled; only the IMU (`gpmf.py`) is
turned into the camera's axes. (gopro/gpmf-parser, README, lists the keys of each camera.)
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from egotriad.converters.gpmf_blocks import (
    BlockTime,
    SensorBlock,
    data_key,
    payload_blocks,
    payload_keys,
    sensor_blocks,
)
from egotriad.converters.gpmf_clock import SampleClock, common_source, sample_clock
from egotriad.converters.gpmf_payloads import Payload, iterate_payloads
from egotriad.manifests.errors import RecordingError, located

__all__ = ["GpmfSamples", "GpmfStream", "iterate_gpmf", "list_gpmf", "read_gpmf"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GpmfStream:
    """One stream of a recording, in words and numbers.

    Attributes:
        key: four characters, what `read_gpmf` takes.
        name: the camera's name for it.
        units: one a channel, one for all, or none.
        channels: columns; 0 for data that are no numbers.
        samples: rows in the whole recording.
        device: name of the camera.
    """

    key: str
    name: str
    units: tuple[str, ...]
    channels: int
    samples: int
    device: str


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class GpmfSamples:
    """Samples of one sensor.

    Attributes:
        key: four characters.
        name: the camera's name for the stream (a reading once a payload bears its stream's).
        units: one a channel, one for all, or none.
        t_us: int64 (n,), microseconds after the first video frame (in a bare file: the first
            exposure). Findings of one moment, the faces of a frame, share a time.
        values: float64 (n, channels), scaled.
    """

    key: str
    name: str
    units: tuple[str, ...]
    t_us: NDArray[np.int64]
    values: NDArray[np.float64]

    def __repr__(self) -> str:
        channels = self.values.shape[1]
        return f"GpmfSamples({self.key}, {len(self.t_us)} x {channels}, {self.units})"


def list_gpmf(path: Path) -> tuple[GpmfStream, ...]:
    """The camera's streams that hold samples, in the camera's order.

    Streams of other devices (a Karma drone's, a Bluetooth sensor's) are left out.

    Raises:
        RecordingError: as `iterate_payloads`.
    """
    found: dict[str, GpmfStream] = {}
    for payload in iterate_payloads(path):
        with located(path.name):
            for stream in _described(payload):
                before = found.get(stream.key, stream)
                samples = stream.samples + (before.samples if stream.key in found else 0)
                known = before if before.channels else stream  # the first may have been empty
                found[stream.key] = replace(known, samples=samples)
    return tuple(stream for stream in found.values() if stream.samples)


def iterate_gpmf(path: Path, key: str) -> Iterator[GpmfSamples]:
    """Samples of one sensor, a payload at a time: memory does not grow with the recording.

    The file is read twice: once for the clock, once for the samples.

    Args:
        path: a GoPro's mp4, or a bare GPMF file of a camera that has a clock.
        key: what to read, as `list_gpmf` names it, or a reading once a payload (`GPSU`, `TMPC`).

    Raises:
        RecordingError: as `iterate_payloads`; no such key (those there are named); a single
            payload, no clock, or data that are no numbers.
    """
    clock = _clock(path, key)
    for number, block in enumerate(sensor_blocks(iterate_payloads(path), key)):
        yield GpmfSamples(
            key=key,
            name=block.name,
            units=block.units,
            t_us=clock.times_us(number, block.index),
            values=block.values,
        )


def read_gpmf(path: Path, key: str) -> GpmfSamples:
    """All samples of one sensor (see `iterate_gpmf`).

    Raises:
        RecordingError: as `iterate_gpmf`; payloads that differ in their channels.
    """
    parts = list(iterate_gpmf(path, key))
    if len({part.values.shape[1] for part in parts}) > 1:
        raise RecordingError(
            f"{path.name}: GPMF {key} changes its number of channels; damaged file"
        )
    return GpmfSamples(
        key=key,
        name=parts[0].name,
        units=parts[0].units,
        t_us=np.concatenate([part.t_us for part in parts]),
        values=np.concatenate([part.values for part in parts]),
    )


def _clock(path: Path, key: str) -> SampleClock:
    times: list[BlockTime] = []
    exposures: list[BlockTime] = []
    keys: set[str] = set()
    for payload in iterate_payloads(path):
        with located(path.name):
            times += [block.time for block in payload_blocks(payload, key)]
            exposures += [block.time for block in payload_blocks(payload, "SHUT")]
            keys |= payload_keys(payload)
    with located(path.name):
        if not times:
            raise RecordingError(f"its GPMF has no {key} samples, only {', '.join(sorted(keys))}")
        source = common_source([times], exposures)
        if source is None:
            raise RecordingError(
                f"a bare GPMF file without STMP or TICK has no clock for {key}; give the mp4 it "
                f"was taken from"
            )
        return sample_clock(times, exposures, source)


def _described(payload: Payload) -> Iterator[GpmfStream]:
    for device, stream in payload.streams():
        key, name = data_key(stream), stream.first("STNM")
        if key is not None:
            block = _readable(payload, key)
            yield GpmfStream(
                key=key,
                name="" if name is None else name.text(),
                units=block.units if block else (),
                channels=block.values.shape[1] if block else 0,
                samples=sum(item.repeat for item in stream.all(key)),
                device=device,
            )


def _readable(payload: Payload, key: str) -> SensorBlock | None:
    """A payload's block of a key; None for an empty one, or for data that are no numbers."""
    try:
        return next(iter(payload_blocks(payload, key)), None)
    except RecordingError:
        return None
