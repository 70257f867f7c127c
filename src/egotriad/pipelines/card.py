"""The dataset card: what the shards hold, in numbers, how they came to be, and how to load them.

Front matter for the Hub (`card_front`), then the sections of huggingface_hub's
templates/datasetcard_template.md.
"""

from collections.abc import Mapping, Sequence, Set
from typing import Any

from egotriad.manifests.licences import licences_of
from egotriad.manifests.split import SALT
from egotriad.pipelines.card_front import front_matter
from egotriad.pipelines.card_yaml import to_yaml
from egotriad.pipelines.facts import BuildFacts
from egotriad.pipelines.stats import value_counts

__all__ = ["dataset_card"]

UNSURE = {
    "drop": "No window is about a narration that its annotator marked as `unsure`.",
    "replace": "Where `unsure`, the annotator doubted what was seen or could not name an object.",
}
OTHERS = {
    "all": "`subject` tells whom they are about.",
    "wearer": "Narrations marked as about another person are left out.",
}


def dataset_card(
    title: str,
    lines: Sequence[dict[str, Any]],
    stats: dict[str, Any],
    facts: BuildFacts,
    *,
    rejected: Mapping[str, int],
    quarantined: Mapping[str, int],
) -> str:
    """README.md of a build.

    Args:
        title: name for people.
        lines: of the manifest.
        stats: of `stats.shard_stats`.
        facts: of the build's configuration.
        rejected: reason -> windows that did not become rows.
        quarantined: class of error -> recordings that could not be read.
    """
    sections = (
        f"# {title}",
        _summary(facts),
        "## Dataset Details",
        _table(stats["splits"]),
        _details(stats, facts),
        _left_out(rejected, quarantined),
        "## Uses",
        _uses(facts),
        "## Dataset Structure",
        _structure(facts, {line["config"] for line in lines}),
        "## Dataset Creation",
        _collection(stats, facts),
        _annotation(stats, facts),
        _people(stats),
        "## Bias, Risks, and Limitations",
        _limits(stats, facts),
        "## Citation",
        f"Cite what it is made of: {_names(stats, 'source')}. Name the builder and the "
        f"configuration: egotriad, `{facts.hash}`.",
        "## Dataset Card Contact",
        "Whoever published this repository; on the Hub, its Community tab.",
    )
    front = to_yaml(front_matter(title, lines, stats))
    return f"---\n{front}---\n" + "\n\n".join(text for text in sections if text) + "\n"


def _summary(facts: BuildFacts) -> str:
    contents = (", IMU" if facts.imu else "") + _events_word(facts)
    return (
        f"One row for each window: {facts.rules}.\n"
        f"In them: narrations{contents}, on the recording's clock."
    )


def _events_word(facts: BuildFacts) -> str:
    if not facts.events:
        return ""
    return ", synthetic events" if facts.events_computed else ", events"


def _table(splits: Mapping[str, Any]) -> str:
    rows = [
        "| split | windows | hours | without overlap | events | recordings | wearers |",
        "|---" * 7 + "|",
    ]
    rows += [
        f"| {name} | {split['windows']} | {split['hours']:.3f} | {split['unique_hours']:.3f} "
        f"| {'-' if split['events'] is None else split['events']} "
        f"| {split['recordings']} | {split['wearers']} |"
        for name, split in splits.items()
    ]
    return "\n".join(rows)


def _details(stats: dict[str, Any], facts: BuildFacts) -> str:
    licences = licences_of(value_counts(stats, "license_id"))
    terms = "; ".join(
        f"`{item.id}` ({item.title}{f', {item.url}' if item.url else ''})"
        + ("" if item.redistributable else ": **do not hand on**")
        for item in licences
    )
    return f"""\
- **Made from**: {_names(stats, "source")} (versions {_names(stats, "source_version")}).
- **Licence** (column `license_id`): {terms}.
- **Built by** egotriad (configuration `{facts.hash}`); every parameter, version and source hash is
  in `provenance.json`, statistics of every column are in `stats.json`.
- **Splits** are by wearer, never by window (salt `{SALT}`): {_tally(stats, "split_origin")}."""


def _left_out(rejected: Mapping[str, int], quarantined: Mapping[str, int]) -> str:
    windows = ", ".join(f"{count} x {reason}" for reason, count in sorted(rejected.items()))
    recordings = ", ".join(f"{count} x {name}" for name, count in sorted(quarantined.items()))
    return (
        f"Left out: {sum(rejected.values())} windows{f' ({windows})' if windows else ''}, listed "
        f"in `rejected.jsonl`; {sum(quarantined.values())} recordings that could not be read"
        f"{f' ({recordings})' if recordings else ''}."
    )


def _uses(facts: BuildFacts) -> str:
    sensors = " Measuring event sensors: no real one was involved." if facts.events_computed else ""
    return f"""\
**Direct use**: training and measuring models that tell from motion what a wearer does, as drafts
for speculative decoding of multimodal targets.

**Out of scope**: recognising or tracking people; judging a person's health or work.{sensors}"""


def _structure(facts: BuildFacts, tables: Set[str]) -> str:
    events = ""
    if facts.events:
        events = """
`events`: the same rows in the same order, one row group each; `ev_t` (us after `t_start_us`),
`ev_x`, `ev_y`, `ev_p` (true = ON), ordered by (t, y, x, p); `ev_ms_to_idx[k]` is the first event
at or after k ms. The Hub's viewer shows `windows`; rows of `events` are too large for it.
"""
    if "qa" in tables:
        events += """
`qa`: one row per `question` and `answer` about the window `window_id` of the same split; `task` is
the source's own kind of question.
"""
    return f"""\
`windows`: one row per window with its texts, IMU, clocks, quality and a preview.
`t_start_us` counts from the recording's first video frame; what is absent is null, never zero.
{events}
```python
from egotriad.manifests.shards import read_shards

clips = read_shards("FOLDER", split="train")
```

```python
from datasets import load_dataset

windows = load_dataset("FOLDER", "windows", streaming=True)
{_load_others(tables)}```

```python
import pyarrow.dataset

table = pyarrow.dataset.dataset("FOLDER/data").to_table(columns=["window_id", "narration"])
```

`with_format("numpy")` of `datasets` turns every integer into int64; egotriad's reader keeps the
types. Without `streaming`, `datasets` copies events into a cache five times their size.
Check the files with `sha256sum -c SHA256SUMS`."""


def _load_others(tables: Set[str]) -> str:
    names = [name for name in ("events", "qa") if name in tables]
    return "".join(f'{name} = load_dataset("FOLDER", "{name}", streaming=True)\n' for name in names)


def _collection(stats: dict[str, Any], facts: BuildFacts) -> str:
    text = f"""\
### Collection and processing

- `window_policy` holds the rule that laid the window; with it, `t_start_us` and `duration_us` the
  same window can be cut from the recording again.
- Clocks of IMU and video (`align_status`): {_tally(stats, "align_status")}."""
    if facts.imu:
        text += f"""
- **IMU**: rows `ax ay az gx gy gz`, m/s^2 with gravity and rad/s, not normalised, not
  turned into a world frame. What it sat on (`imu_kind`): {_tally(stats, "imu_kind")}. Resampled
  to {facts.imu_rate_hz:g} Hz from true time stamps ({_source_rates(stats)}); `imu_mask` is false
  where there were none."""
    if facts.events and not facts.events_computed:
        text += f"""
- **Events come from files**, they were not computed here: `event_source` in `provenance.json` says
  what is known of their making (`sim_id` `{facts.sim_id}`). They cover the spans
  `{"`, `".join(facts.event_spans)}`, listed in `event_spans`; the others were left out."""
    if facts.events_computed:
        sensor = "the video's own" if facts.sensor == "native" else facts.sensor
        text += f"""
- **Events are synthetic**: computed from video by a model of an event camera (contrast
  thresholds ON {facts.pos_thres:g}, OFF {facts.neg_thres:g} in natural-log units, timing
  `{facts.timing}`, imperfections `{facts.preset}`, seed {facts.event_seed}; pixels: {sensor};
  frames put between frames: `{facts.upsampling}`). All parameters stand in
  `provenance.json` under `sim_id` `{facts.sim_id}`. They cover the spans
  `{"`, `".join(facts.event_spans)}`, listed in `event_spans`; outside them nothing was computed."""
    return text


def _source_rates(stats: dict[str, Any]) -> str:
    rates = [
        split["columns"]["imu_src_rate_hz"]
        for split in stats["splits"].values()
        if "imu_src_rate_hz" in split["columns"]
    ]
    if not rates:
        return "rates not measured"
    low, high = min(rate["min"] for rate in rates), max(rate["max"] for rate in rates)
    return f"measured at {low:.2f} to {high:.2f} Hz"


def _annotation(stats: dict[str, Any], facts: BuildFacts) -> str:
    return f"""\
### Annotation

- Texts (`text_source`): {_tally(stats, "text_source")}.
- **Narrations** are points in time. A row lists all inside its window; `narration` is the one it
  is about (at `anchor`). Those of several annotators that tell one action share a `group`.
  `other_actions` counts what else happens in the window: above 0 the text is ambiguous.
  {" ".join(UNSURE[rule] for rule in facts.unsure)}
  {" ".join(OTHERS[rule] for rule in facts.subject)}"""


def _people(stats: dict[str, Any]) -> str:
    wearers = sum(split["wearers"] for split in stats["splits"].values())
    return f"""\
### Personal and sensitive information

Motion of the body can identify a person ({wearers} wearers here), texts tell what they did, and
event images can show bystanders. Wearers' ids are those of the source. No video is included."""


def _limits(stats: dict[str, Any], facts: BuildFacts) -> str:
    points = [
        "Few wearers make a split's share wobble; groups are never moved to balance it.",
        "A narration is one annotator's choice of what mattered at one moment.",
    ]
    if set(value_counts(stats, "align_status")) & {"assumed", "unverified"}:
        points.append("Where the clocks are `assumed` or `unverified`, IMU and video may be apart.")
    if facts.events_computed:
        points.append(
            "Events between two video frames follow from interpolation, not from the scene; video "
            "clips highlights and shadows that an event camera would see."
        )
    return "\n".join(f"- {point}" for point in points)


def _tally(stats: dict[str, Any], column: str) -> str:
    return ", ".join(f"{count} x {value}" for value, count in value_counts(stats, column).items())


def _names(stats: dict[str, Any], column: str) -> str:
    return ", ".join(f"`{value}`" for value in value_counts(stats, column))
