"""`egotriad`: every command line under one name. Above all layers; loads only what is asked for."""

import difflib
import importlib
import sys
from collections.abc import Callable, Sequence
from typing import cast

__all__ = ["main"]

COMMANDS = {
    "build-shards": ("egotriad.pipelines.cli:build_shards", "recordings to shards"),
    "verify-shards": ("egotriad.pipelines.verify_cli:verify_shards", "is a build sound; mend it"),
    "check": ("egotriad.pipelines.preflight:check_dataset", "what a build would find missing"),
    "merge-shards": ("egotriad.pipelines.merge_cli:merge_shards", "several builds into one"),
    "upgrade-shards": ("egotriad.pipelines.upgrade_cli:upgrade_shards", "old shards, new schema"),
    "rebuild": ("egotriad.pipelines.rebuild_cli:rebuild_shards", "the same bytes, from a record"),
    "push-shards": ("egotriad.pipelines.push_cli:push_shards", "shards to the Hugging Face Hub"),
    "inspect-shards": ("egotriad.pipelines.cli:inspect_shards", "a page that shows shards"),
    "export": ("egotriad.pipelines.export_cli:export", "shards to WebDataset, DSEC, Tonic, ..."),
    "import": ("egotriad.pipelines.export_cli:import_", "a WebDataset or DSEC folder to shards"),
    "sync": ("egotriad.pipelines.sync_cli:sync", "does an IMU's clock fit its video's"),
    "convert": ("egotriad.pipelines.convert_cli:convert", "events, videos, IMU: file to file"),
    "models": ("egotriad.models.cli:models", "what can be used; does a checkpoint fit"),
    "train-target": ("egotriad.alignment.train_cli:train_target", "a tiny event-camera target"),
    "cache-targets": ("egotriad.alignment.train_cli:cache_targets", "the target's own texts"),
    "train-draft": (
        "egotriad.alignment.train_cli:train_draft",
        "an IMU draft and its text-only twin",
    ),
    "evaluate-acceptance": (
        "egotriad.alignment.cli:evaluate_acceptance",
        "what the draft saves, beside its controls",
    ),
    "compare-reports": (
        "egotriad.alignment.cli:compare_reports",
        "acceptance reports side by side",
    ),
    "benchmark-stages": (
        "egotriad.alignment.cli:benchmark_stages",
        "time load, preprocess, encode, prefill and decode",
    ),
    "demo": ("egotriad.demo:main", "all of the above in the simulated world"),
}
EXIT_USAGE = 2


def main(tokens: Sequence[str] | None = None) -> int:
    """Runs `egotriad COMMAND ...`; returns the command's exit code."""
    words = list(sys.argv[1:] if tokens is None else tokens)
    if not words or words[0] in ("-h", "--help"):
        sys.stdout.write(_usage())
        return 0 if words else EXIT_USAGE
    if words[0] not in COMMANDS:
        near = difflib.get_close_matches(words[0], COMMANDS, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        sys.stderr.write(f"error: no command {words[0]!r}{hint}\n{_usage()}")
        return EXIT_USAGE
    module, _, name = COMMANDS[words[0]][0].partition(":")
    command = cast(Callable[[Sequence[str]], int], getattr(importlib.import_module(module), name))
    return command(words[1:])


def _usage() -> str:
    lines = [f"  {name:20} {about}" for name, (_, about) in COMMANDS.items()]
    return "Usage: egotriad COMMAND ...\n\n" + "\n".join(lines) + "\n"
