"""One clip as the members of a WebDataset sample, and back without loss.

```
txt            the narration, empty without one
json           columns of `windows` that every window has, and its split
more.jsonl     the other columns: those that may be null, and lists
imu.npy        float32 (6, T), NaN where there are no samples; (6, 0) without IMU
imu_mask.npy   bool (T,), false where there are none
events_t.npy   int32 (N,) us from the window's start; likewise events_x, events_y uint16, events_p
               bool; all of length 0 without events
```
Every sample has every member. `datasets` takes the types of a JSON member from the first five
samples and fails where a later one has text instead of null; so what may be null is in a member
that it leaves as bytes. `json.loads` reads both.
"""

import io
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from egotriad.manifests import Clip, Events, Imu
from egotriad.manifests.errors import ShardError, UsageError
from egotriad.manifests.files import canonical_json
from egotriad.manifests.rows import clips_of, window_table
from egotriad.manifests.schema import WINDOWS

__all__ = ["MEMBERS", "clip_of_sample", "sample_of"]

MEMBERS = (
    "txt",
    "json",
    "more.jsonl",
    "imu.npy",
    "imu_mask.npy",
    "events_t.npy",
    "events_x.npy",
    "events_y.npy",
    "events_p.npy",
)
ELSEWHERE = {"imu", "imu_mask", "event_row", "event_preview"}
"""Columns that are other members, or follow from where the window stands."""


def _always(field: pa.Field) -> bool:
    return not field.nullable and not pa.types.is_nested(field.type)


COLUMNS = [field for field in WINDOWS if field.name not in ELSEWHERE]
ALWAYS = [field.name for field in COLUMNS if _always(field)]
SOMETIMES = [field.name for field in COLUMNS if not _always(field)]


def sample_of(clip: Clip) -> dict[str, bytes]:
    """The members of a clip's sample, in the order of `MEMBERS`.

    Raises:
        ShardError: when a column holds NaN, which JSON cannot.
    """
    table = window_table([clip], [None], [None])
    (row,) = table.drop_columns(list(ELSEWHERE)).to_pylist()
    events, size_wh = Events.empty((0, 0)), None
    if clip.events is not None:
        events, size_wh = clip.events, clip.events.size_wh
    imu, valid = np.empty((6, 0), np.float32), np.empty(0, np.bool_)
    if clip.imu is not None:
        imu, valid = clip.imu.data, clip.imu.valid
    always = {name: row[name] for name in ALWAYS} | {"split": clip.split}
    sometimes = {name: row[name] for name in SOMETIMES} | {"sensor_wh": size_wh}
    try:
        texts = (clip.narration or "", canonical_json(always), canonical_json(sometimes))
    except ValueError as exc:
        raise ShardError(f"a column is not a number ({exc}); build the shards again") from exc
    arrays = (imu, valid, events.t_us.astype(np.int32), events.x, events.y, events.p)
    members = [text.encode() for text in texts] + [_npy(array) for array in arrays]
    return dict(zip(MEMBERS, members, strict=True))


def clip_of_sample(members: Mapping[str, bytes]) -> Clip:
    """The clip of a sample.

    Raises:
        ShardError: when a member is missing or does not hold what it should.
    """
    missing = [name for name in MEMBERS if name not in members]
    if missing:
        raise ShardError(f"has no {', '.join(missing)}; need every member of {', '.join(MEMBERS)}")
    always, sometimes = _columns(members)
    imu, mask, t_us, x, y, p = (_array(name, members[name]) for name in MEMBERS[3:])
    size_wh, rate_hz = sometimes["sensor_wh"], sometimes["imu_rate_hz"]
    row = {name: always[name] for name in ALWAYS} | {name: sometimes[name] for name in SOMETIMES}
    try:
        light = WINDOWS.remove(WINDOWS.get_field_index("imu"))
        table = pa.Table.from_pylist([row | dict.fromkeys(ELSEWHERE - {"imu"})], schema=light)
        clip, _ = next(clips_of(table, always["split"]))
        return replace(
            clip,
            imu=None if rate_hz is None else Imu(data=imu, rate_hz=rate_hz, valid=mask),
            events=None
            if size_wh is None
            else Events(t_us=t_us.astype(np.int64), x=x, y=y, p=p, size_wh=tuple(size_wh)),
        )
    except (pa.ArrowException, UsageError, TypeError, ValueError) as exc:
        raise ShardError(f"its members do not make a window ({exc}); fetch the tar again") from exc


def _columns(members: Mapping[str, bytes]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The two JSON members, with just the columns that they should have."""
    found = []
    for name, need in (("json", [*ALWAYS, "split"]), ("more.jsonl", [*SOMETIMES, "sensor_wh"])):
        try:
            values = json.loads(members[name])
        except ValueError as exc:
            raise ShardError(f"{name}: is no JSON ({exc}); fetch the tar again") from exc
        got = values.keys() if isinstance(values, dict) else ()
        wrong = sorted({*got} ^ {*need})
        if wrong:
            raise ShardError(f"{name}: lacks, or has too much: {', '.join(wrong)}")
        found.append(values)
    return found[0], found[1]


def _npy(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(array), (1, 0), allow_pickle=False)
    return buffer.getvalue()


def _array(name: str, data: bytes) -> NDArray[Any]:
    try:
        return np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, SyntaxError) as exc:
        raise ShardError(f"{name}: is no whole npy array ({exc}); fetch the tar again") from exc
