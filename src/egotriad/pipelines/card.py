"""The dataset card: what the shards hold, in numbers, and how to load them."""

import json
from collections.abc import Sequence
from typing import Any

from egotriad.manifests.split import SALT, SPLITS
from egotriad.pipelines.part import Part
from egotriad.pipelines.plan import BuildConfig

__all__ = ["dataset_card"]

FOLDERS = {"windows": "data", "events": "events"}
UNSURE = {
    "drop": "No window is about a narration that its annotator marked as `unsure`.",
    "replace": "Where `unsure`, the annotator doubted what was seen or could not name an object.",
}
OTHERS = {
    "all": "`subject` tells whom they are about.",
    "wearer": "Narrations marked as about another person are left out.",
}


def dataset_card(
    title: str, lines: Sequence[dict[str, Any]], parts: Sequence[Part], config: BuildConfig
) -> str:
    """README.md of a build: YAML front matter that `datasets` reads, then facts for people.

    Only splits that exist are named: a pattern without a file makes `load_dataset` fail.
    """
    return f"""---
pretty_name: {json.dumps(title)}
license: other
language: [en]
tags: [imu, event-camera, dvs, egocentric, speculative-decoding]
configs:
{_configs(lines)}---
# {title}

One row for each window: {config.window_policy.describe()}.
In them: narrations{_contents(config)}.
Built by egotriad (configuration `{config.hash}`); every parameter is in `provenance.json`.

{_table(parts)}

- **Narrations** are points in time. A row lists all inside its window; `narration` is the one it
  is about (at `anchor`). Those of several annotators that tell one action share a `group`.
  `other_actions` counts what else happens in the window: above 0 the text is ambiguous.
  {UNSURE[config.unsure]}
  {OTHERS[config.subject]}
- `window_policy` holds the rule that laid the window; with it, `t_start_us` and `duration_us` the
  same window can be cut from the recording again.
{_facts(config)}- **Splits** are by wearer (salt `{SALT}`) unless the source has
  official ones, never by window.

```python
from egotriad.manifests.shards import read_shards
clips = read_shards("FOLDER", split="train")

from datasets import load_dataset
windows = load_dataset("FOLDER", "windows", streaming=True)
{_load_events(config)}```

Check the files with `sha256sum -c SHA256SUMS`.
"""


def _contents(config: BuildConfig) -> str:
    return (", IMU" if config.imu else "") + (", synthetic events" if config.events else "")


def _facts(config: BuildConfig) -> str:
    text = ""
    if config.events:
        text += f"""\
- **Events are synthetic**: computed from video by a model of an event camera (contrast
  thresholds ON {config.dvs.pos_thres:g}, OFF {config.dvs.neg_thres:g} in natural-log units, timing
  `{config.timing}`), in the spans listed in `event_spans`. Order: (t, y, x, p).
- The viewer shows the `windows` configuration; rows of `events` are too large for it.
"""
    if config.imu:
        text += f"""\
- **IMU**: rows `ax ay az gx gy gz`, m/s^2 with gravity and rad/s, resampled to
  {config.imu_rate_hz:g} Hz from true time stamps; `imu_mask` is false where there were none.
"""
    return text


def _load_events(config: BuildConfig) -> str:
    return 'events = load_dataset("FOLDER", "events", streaming=True)\n' if config.events else ""


def _configs(lines: Sequence[dict[str, Any]]) -> str:
    text = ""
    for config, folder in FOLDERS.items():
        present = {line["split"] for line in lines if line["config"] == config}
        if not present:
            continue
        text += f"- config_name: {config}\n"
        if config == "windows":
            text += "  default: true\n"
        text += "  data_files:\n"
        for split in SPLITS:
            if split in present:
                text += f'  - split: {split}\n    path: "{folder}/{split}-*.parquet"\n'
    return text


def _table(parts: Sequence[Part]) -> str:
    rows = [
        "| split | windows | hours | events | recordings | wearers | rejected |",
        "|---" * 7 + "|",
    ]
    for split in SPLITS:
        chosen = [part for part in parts if part.split == split]
        if not chosen:
            continue
        events = [part.event_count for part in chosen if part.event_count is not None]
        rows.append(
            f"| {split} | {sum(part.rows for part in chosen)} "
            f"| {sum(part.duration_us for part in chosen) / 3.6e9:.3f} "
            f"| {sum(events) if events else '-'} | {len(chosen)} "
            f"| {len({part.split_group for part in chosen})} "
            f"| {sum(len(part.rejected) for part in chosen)} |"
        )
    return "\n".join(rows)
