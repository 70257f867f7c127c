"""`egotriad check DATASET`: what a build would find missing, before it starts.

A dataset takes part by a method `check(raw, options) -> Preflight`.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter
from rich.console import Console

from egotriad.manifests.cli import EXIT_INCOMPLETE, finish, run_app
from egotriad.manifests.errors import UsageError
from egotriad.manifests.plugins import DATASETS

__all__ = ["Preflight", "check_dataset"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Preflight:
    """What was found.

    Attributes:
        keys: `ok`, `not needed`, or what is wrong with the credentials.
        counts: how many recordings are asked for, known, present, ..., by name.
        fetch_bytes: data set -> bytes still to be brought.
        fetch_files: data set -> files still to be brought.
        free_bytes: room on the disk of the raw folder.
        problems: recording -> why it cannot be built as things stand.
    """

    keys: str
    counts: dict[str, int]
    fetch_bytes: dict[str, int] = field(default_factory=dict)
    fetch_files: dict[str, int] = field(default_factory=dict)
    free_bytes: int
    problems: dict[str, str] = field(default_factory=dict)

    @property
    def fits(self) -> bool:
        """Whether the disk has room for what is to be brought."""
        return sum(self.fetch_bytes.values()) < self.free_bytes

    @property
    def ready(self) -> bool:
        """Whether everything that is asked for can be built."""
        return self.keys in ("ok", "not needed") and self.fits and not self.problems


def check_dataset(tokens: Sequence[str] | None = None) -> int:
    """`check DATASET`: credentials, recordings, bytes and disk, nothing built."""
    return run_app(_app, tokens)


def _app(words: list[str]) -> App:
    known = ", ".join(DATASETS.names())
    app = App(
        name="check",
        help=f"Look before a build: credentials, recordings, bytes, disk.\n\nDatasets: {known}.",
        version_flags=[],
    )
    for name in words[:1]:
        if not name.startswith("-"):
            dataset: Any = DATASETS.load(name)
            if not hasattr(dataset, "check"):
                raise UsageError(f"{name}: there is nothing to check; it downloads nothing")
            app.command(_command(dataset), name=name)
    return app


def _command(dataset: Any) -> Any:
    options_type: Any = dataset.Options

    def command(
        *,
        raw: Path,
        options: Annotated[options_type, Parameter(name="*")] = None,
        json: bool = False,
    ) -> int:
        """Check what a build of this dataset would find.

        Args:
            raw: folder of the raw files.
            options: the dataset's own options.
            json: print the result as one line of JSON.
        """
        found = dataset.check(raw, options if options is not None else options_type())
        return finish(
            dataclasses.asdict(found) | {"fits": found.fits, "ready": found.ready},
            as_json=json,
            show=lambda console: _show(console, found),
            code=0 if found.ready else EXIT_INCOMPLETE,
        )

    return command


def _show(console: Console, found: Preflight) -> None:
    def say(line: str) -> None:
        console.print(line, highlight=False, markup=False)

    say(f"keys: {found.keys}")
    say("recordings: " + ", ".join(f"{count} {name}" for name, count in found.counts.items()))
    for name, size in found.fetch_bytes.items():
        say(f"to fetch of {name}: {found.fetch_files.get(name, 0)} files, {size / 1e9:.2f} GB")
    say(f"disk: {found.free_bytes / 1e9:.2f} GB free" + ("" if found.fits else ", NOT ENOUGH"))
    for name, why in found.problems.items():
        say(f"{name}: {why}")
    say("ready" if found.ready else "not ready")
