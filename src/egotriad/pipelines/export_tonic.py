"""Tonic: one structured npy of events for each window, its IMU beside it, and a list of both.

```
{split}/{source}/{recording}/{start}-{duration}.npy       fields x, y int16, t int64 (us), p bool
{split}/{source}/{recording}/{start}-{duration}.imu.npy   float32 (6, T), NaN where missing
{split}.jsonl                                             a line for each window
```
"""

import json
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from egotriad.converters.event_files import write_events
from egotriad.manifests import Clip
from egotriad.manifests.errors import located
from egotriad.pipelines.export_source import ExportSource, relative_path

__all__ = ["export_tonic"]


def export_tonic(source: ExportSource, folder: Path) -> None:
    """Writes every window that has events.

    Raises:
        UsageError: a sensor beyond 32,768 pixels a side, which Tonic's int16 cannot hold.
    """
    for split in source.splits:
        with ExitStack() as files:
            lines = files.enter_context((folder / f"{split}.jsonl").open("w", encoding="utf-8"))
            for clip in source.clips(split):
                if clip.events is None:
                    source.left_out["no-events"] += 1
                    continue
                with located(clip.window_id):
                    path = split / relative_path(clip)
                    write_events(folder / f"{path}.npy", clip.events, format="tonic")
                    if clip.imu is not None:
                        np.save(folder / f"{path}.imu.npy", clip.imu.data)
                lines.write(json.dumps(_line(clip, path)) + "\n")
                source.wrote(clip.events)


def _line(clip: Clip, path: PurePosixPath) -> dict[str, Any]:
    assert clip.events is not None
    return {
        "events": f"{path}.npy",
        "imu": None if clip.imu is None else f"{path}.imu.npy",
        "imu_rate_hz": None if clip.imu is None else clip.imu.rate_hz,
        "sensor_size": [*clip.events.size_wh, 2],
        "narration": clip.narration,
        "window_id": clip.window_id,
        "recording": clip.recording,
        "wearer": clip.wearer,
        "t_start_us": clip.t_start_us,
        "duration_us": clip.duration_us,
        "event_spans": [[span.start_us, span.duration_us] for span in clip.event_spans],
    }
