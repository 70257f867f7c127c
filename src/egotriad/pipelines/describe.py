"""What a build says about itself: stats.json, croissant.json and the dataset card."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from egotriad.manifests.files import canonical_json, write_text
from egotriad.pipelines.card import dataset_card
from egotriad.pipelines.croissant import croissant
from egotriad.pipelines.facts import BuildFacts
from egotriad.pipelines.stats import shard_stats

__all__ = ["DESCRIPTIONS", "describe"]

DESCRIPTIONS = ("README.md", "croissant.json", "stats.json")


def describe(
    out: Path,
    lines: Sequence[dict[str, Any]],
    facts: BuildFacts,
    *,
    title: str,
    rejected: Mapping[str, int],
) -> dict[str, Any]:
    """Writes the files named in `DESCRIPTIONS`, the same bytes for the same shards.

    Args:
        out: the build's folder; its shard files and quarantine records must be there.
        lines: of the manifest.
        facts: of the build's configuration.
        title: name for people.
        rejected: reason -> windows that did not become rows.

    Returns:
        The statistics, as they stand in stats.json.
    """
    stats = shard_stats(out, lines)
    quarantined = Counter(
        json.loads(file.read_text(encoding="utf-8"))["error"]
        for file in sorted((out / "quarantine").glob("*.json"))
    )
    card = dataset_card(title, lines, stats, facts, rejected=rejected, quarantined=quarantined)
    write_text(out / "stats.json", canonical_json(stats) + "\n")
    write_text(out / "croissant.json", croissant(title, lines, stats, facts))
    write_text(out / "README.md", card)
    return stats
