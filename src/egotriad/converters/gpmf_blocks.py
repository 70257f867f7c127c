"""A GPMF payload's streams as blocks of samples in physical units, with all hints of their time.

A stream (`STRM`) ends with its data; the items before say what these mean: scale, units, axes,
type, clock. Further items (`GPSU`, `TMPC`, ...) are readings of their own, one a payload. Some
detectors (faces, hues) write one item per point in time, with any number of findings in it.
(gopro/gpmf-parser, README: Property Hierarchy, Multi-sample and Non-periodic data.)
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from egotriad.converters.gpmf_payloads import Payload
from egotriad.converters.klv import Item
from egotriad.manifests.errors import RecordingError

__all__ = [
    "BlockTime",
    "SensorBlock",
    "data_key",
    "payload_blocks",
    "payload_keys",
    "sensor_blocks",
]

FINDINGS = frozenset({"FACE", "HUES", "SCEN"})
"""Keys of which every item is one point in time."""

PROPERTIES = frozenset(
    {
        "STNM",
        "RMRK",
        "SCAL",
        "SIUN",
        "UNIT",
        "TYPE",
        "TSMP",
        "TIMO",
        "EMPT",
        "STMP",
        "TICK",
        "TOCK",
        "MTRX",
        "ORIN",
        "ORIO",
        "VPTS",
    }
)
"""Keys that say something about the data that follow, and are no data themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockTime:
    """All that a payload says about the time of one stream's samples.

    Attributes:
        payload_us: the payload's own time by the container, after frame 0, or None.
        stamp_us: STMP (less TIMO), the camera's microsecond clock at the first sample, or None.
        tick_us: TICK, the camera's millisecond clock when the block was begun, or None.
        count: points in time in the block.
        total: TSMP, points in time since the recording began, these included, or None.
    """

    payload_us: int | None
    stamp_us: int | None
    tick_us: int | None
    count: int
    total: int | None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SensorBlock:
    """The samples of one sensor in one payload.

    Attributes:
        values: float64 (n, channels), divided by SCAL, channels in stored order.
        index: int64 (n,), which of the block's points in time a row belongs to.
        scale: SCAL, (1,) or (channels,).
        units: SIUN or UNIT: one a channel, one for all, or none.
        axes: ORIN, a letter per channel (lower case: sign flipped), empty when absent.
        axes_out: ORIO, the axes that `matrix` leads to, empty when absent.
        matrix: MTRX, float64 (k,), or None.
        name: STNM, the stream's name in words.
        device: name of the camera (DVNM).
        time: what is known of the clock.
    """

    values: NDArray[np.float64]
    index: NDArray[np.int64]
    scale: NDArray[np.float64]
    units: tuple[str, ...]
    axes: str
    axes_out: str
    matrix: NDArray[np.float64] | None
    name: str
    device: str
    time: BlockTime


def sensor_blocks(payloads: Iterable[Payload], key: str) -> Iterator[SensorBlock]:
    """The blocks of one sensor (`ACCL`, `GPS9`, `TMPC`, ...), in time order; none if absent.

    Raises:
        RecordingError: data that are no numbers, or a scale that does not fit them.
    """
    for payload in payloads:
        yield from payload_blocks(payload, key)


def payload_blocks(payload: Payload, key: str) -> list[SensorBlock]:
    """The blocks of one sensor in one payload: usually one; empty payloads have none.

    Where several streams carry a reading (the temperature of accelerometer and gyroscope), the
    first one counts.

    Raises:
        RecordingError: as `sensor_blocks`.
    """
    for device, stream in payload.streams():
        items = list(stream.all(key))
        count = _count(stream)
        if items and count:
            return [_block(device, stream, items, count, payload.t_us)]
    return []


def data_key(stream: Item) -> str | None:
    """Key of a stream's data, its last item; None for a stream that only bears a name."""
    last = stream.children[-1].key if stream.children else ""
    return None if last in PROPERTIES or not last else last


def payload_keys(payload: Payload) -> set[str]:
    """Keys of all data in a payload."""
    return {key for _, stream in payload.streams() if (key := data_key(stream)) is not None}


def _count(stream: Item) -> int:
    """Points in time that a stream's data cover."""
    key = data_key(stream)
    items = list(stream.all(key)) if key is not None else []
    if len(items) > 1 or key in FINDINGS:
        return len(items)
    return sum(item.repeat for item in items)


def _block(
    device: str, stream: Item, items: list[Item], count: int, payload_us: int | None
) -> SensorBlock:
    properties = _properties(stream, items[0])
    values, index = _values(items, properties, count)
    scale, units = np.ones(1), tuple[str, ...]()
    if items[0].key == data_key(stream):  # scale and units are said of the data alone
        scale, units = _scale(properties, items[0], values.shape[1]), _units(properties)
    with np.errstate(over="ignore", invalid="ignore"):  # the caller looks for what is not finite
        values = values / scale
    matrix = properties.get("MTRX")
    return SensorBlock(
        values=values,
        index=index,
        scale=scale,
        units=units if len(units) in (1, values.shape[1]) else (),
        axes=_text(properties, "ORIN"),
        axes_out=_text(properties, "ORIO"),
        matrix=None if matrix is None else matrix.numbers().ravel(),
        name=_text(properties, "STNM"),
        device=device,
        time=_time(properties, count, payload_us),
    )


def _properties(stream: Item, item: Item) -> dict[str, Item]:
    """What is said of an item: everything before it, the last word on each key."""
    properties: dict[str, Item] = {}
    for child in stream.children:
        if child is item:
            break
        properties[child.key] = child
    return properties


def _values(
    items: list[Item], properties: dict[str, Item], count: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Rows of all items, unscaled, and each row's point in time."""
    structure = _text(properties, "TYPE")
    rows = [item.numbers(structure) for item in items]
    if len({row.shape[1] for row in rows}) > 1:
        raise RecordingError(f"GPMF {items[0].key}: structures of several sizes; damaged file")
    lengths = [len(row) for row in rows]
    if lengths == [count] and items[0].key not in FINDINGS:
        index = np.arange(count)
    elif len(items) == count:
        index = np.repeat(np.arange(count), lengths)
    else:  # a reading once a payload, beside the data
        index = np.zeros(sum(lengths), np.int64)
    return np.concatenate(rows), index.astype(np.int64)


def _scale(properties: dict[str, Item], item: Item, channels: int) -> NDArray[np.float64]:
    if "SCAL" not in properties:
        return np.ones(1)
    scale = properties["SCAL"].numbers().ravel()
    if len(scale) not in (1, channels) or not (np.isfinite(scale) & (scale != 0)).all():
        raise RecordingError(
            f"GPMF {item.key}: scale {scale.tolist()} for {channels} channels; damaged file"
        )
    return scale


def _units(properties: dict[str, Item]) -> tuple[str, ...]:
    item = properties.get("SIUN", properties.get("UNIT"))
    return () if item is None else item.texts()


def _text(properties: dict[str, Item], key: str) -> str:
    return properties[key].text() if key in properties else ""


def _time(properties: dict[str, Item], count: int, payload_us: int | None) -> BlockTime:
    stamp, tick = _number(properties, "STMP"), _number(properties, "TICK")
    late = _number(properties, "TIMO") or 0.0
    total = _number(properties, "TSMP")
    for key, value, most in (("STMP", stamp, 2**53), ("TICK", tick, 2**43), ("TSMP", total, 2**53)):
        if value is not None and not 0 <= value < most:
            raise RecordingError(f"GPMF {key}: got {value}, need a count; damaged file")
    if not math.isfinite(late) or abs(late) > 3600:
        raise RecordingError(f"GPMF TIMO: got {late}, need a delay in seconds; damaged file")
    late_us = round(late * 1e6)
    return BlockTime(
        payload_us=None if payload_us is None else payload_us - late_us,
        stamp_us=None if stamp is None else int(stamp) - late_us,
        tick_us=None if tick is None else round(tick * 1000) - late_us,
        count=count,
        total=None if total is None else int(total),
    )


def _number(properties: dict[str, Item], key: str) -> float | None:
    item = properties.get(key)
    if item is None or not item.repeat:
        return None
    return float(item.numbers()[0, 0])
