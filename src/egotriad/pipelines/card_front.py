"""The front matter of a dataset card: what the Hub and `datasets` read of it.

Keys: huggingface/hub-docs datasetcard.md and docs/hub/datasets-gated.md. Task names:
huggingface/huggingface.js packages/tasks/src/pipelines.ts.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa

from egotriad.manifests.licences import Licence, licences_of
from egotriad.manifests.schema import FOLDERS, TABLES
from egotriad.manifests.split import SPLITS
from egotriad.pipelines.stats import value_counts

__all__ = ["front_matter"]

ANNOTATORS = {
    "human": "found",
    "label": "found",
    "model": "machine-generated",
    "llm": "machine-generated",
    "none": "no-annotation",
}
SIZES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B")


def front_matter(
    title: str, lines: Sequence[dict[str, Any]], stats: dict[str, Any]
) -> dict[str, Any]:
    """The card's metadata, in the order in which it is written.

    Only configurations and splits that have files are named: `load_dataset` fails on a pattern
    without a file.

    Args:
        title: name for people.
        lines: of the manifest.
        stats: of `stats.shard_stats`.
    """
    splits = list(stats["splits"].values())
    licences = licences_of(value_counts(stats, "license_id"))
    annotators = {ANNOTATORS.get(name, "other") for name in value_counts(stats, "text_source")}
    configs = [name for name in FOLDERS if any(line["config"] == name for line in lines)]
    tasks = (
        (["video-text-to-text"] if "events" in configs else [])
        + (["time-series-forecasting"] if any(_has_imu(split) for split in splits) else [])
        + (["question-answering"] if "qa" in configs else [])
    )
    return {
        "pretty_name": title,
        **_licence_keys(licences),
        "language": ["en"],
        "task_categories": tasks,
        "tags": _tags(configs, tasks),
        "size_categories": [_size(sum(split["windows"] for split in splits))],
        "source_datasets": _sources(value_counts(stats, "source"), licences),
        "annotations_creators": sorted(annotators),
        "configs": [_config(name, lines) for name in configs],
        "dataset_info": [_info(name, lines) for name in configs],
        **_gate(licences),
    }


def _has_imu(split: dict[str, Any]) -> bool:
    return any(name.startswith("imu.") for name in split["columns"])


def _tags(configs: Sequence[str], tasks: Sequence[str]) -> list[str]:
    imu = ["imu"] if "time-series-forecasting" in tasks else []
    events = ["event-camera", "dvs"] if "events" in configs else []
    return [*imu, *events, "egocentric", "speculative-decoding"]


def _size(windows: int) -> str:
    return SIZES[min(max(len(str(windows)) - 3, 0), len(SIZES) - 1)]


def _sources(sources: Iterable[str], licences: Sequence[Licence]) -> list[str]:
    if all(item.id == "own" for item in licences):
        return ["original"]
    return [f"extended|{name}" for name in sources]


def _licence_keys(licences: Sequence[Licence]) -> dict[str, str]:
    """The Hub's own identifier where there is one licence and the Hub knows it, else `other`."""
    if len(licences) == 1 and licences[0].on_hub:
        return {"license": licences[0].id}
    derived = "" if all(item.redistributable for item in licences) else "-derived"
    name = "-".join(item.id for item in licences) + derived
    keys = {"license": "other", "license_name": name}
    url = licences[0].url if len(licences) == 1 else None
    return keys | ({"license_link": url} if url else {})


def _config(name: str, lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    present = {line["split"] for line in lines if line["config"] == name}
    default = {"default": True} if name == "windows" else {}
    return {
        "config_name": name,
        **default,
        "data_files": [
            {"split": split, "path": f"{FOLDERS[name]}/{split}-*.parquet"}
            for split in SPLITS
            if split in present
        ],
    }


def _info(name: str, lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """`datasets`' own description; bytes are those of the files, the only ones known."""
    chosen = [line for line in lines if line["config"] == name]
    splits = [
        {
            "name": split,
            "num_bytes": sum(line["bytes"] for line in chosen if line["split"] == split),
            "num_examples": sum(line["rows"] for line in chosen if line["split"] == split),
        }
        for split in SPLITS
        if any(line["split"] == split for line in chosen)
    ]
    total = sum(line["bytes"] for line in chosen)
    return {
        "config_name": name,
        "features": [
            {"name": field.name} | _feature(field.type, field.name) for field in TABLES[name]
        ],
        "splits": splits,
        "download_size": total,
        "dataset_size": total,
    }


def _feature(kind: pa.DataType, name: str = "") -> dict[str, Any]:
    """A column's type as `datasets.Features._to_yaml_list` writes it."""
    if name == "event_preview":
        return {"dtype": "image"}
    if pa.types.is_struct(kind):
        return {"struct": [{"name": field.name} | _feature(field.type) for field in kind]}
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        inner = _feature(kind.value_type)
        # Of a plain type or a struct, without the word in between.
        item = inner.get("dtype") or inner.get("struct") or inner
        fixed = {"length": kind.list_size} if pa.types.is_fixed_size_list(kind) else {}
        return {"list": item} | fixed
    return {"dtype": {"float": "float32"}.get(str(kind), str(kind))}


def _gate(licences: Sequence[Licence]) -> dict[str, Any]:
    """What somebody who asks for access is shown and has to say."""
    held = [item.title for item in licences if not item.redistributable]
    people = {"I will not try to identify people": "checkbox"}
    if not held:
        return {
            "extra_gated_heading": "Access is granted by the owner of the recordings",
            "extra_gated_fields": {"Name": "text", "Affiliation": "text"} | people,
            "extra_gated_button_content": "Request access",
        }
    sources = " and ".join(held)
    return {
        "extra_gated_heading": f"Access needs a valid {sources} licence",
        "extra_gated_prompt": f"You confirm that you have signed the {sources} licence and will "
        "not share the data with people who have not.",
        "extra_gated_fields": {
            "Name": "text",
            "Affiliation": "text",
            "Date of my licence": "date_picker",
            "I hold a valid licence for the source dataset": "checkbox",
        }
        | people,
        "extra_gated_button_content": "Request access",
    }
