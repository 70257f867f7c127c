"""What there is to build: every recording of a dataset outlined, and those that cannot be."""

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from egotriad.manifests import Recording, Unreadable
from egotriad.manifests.errors import RecordingError
from egotriad.pipelines.dataset import Dataset
from egotriad.pipelines.outline import Outline, outline_build
from egotriad.pipelines.plan import BuildConfig
from egotriad.pipelines.quarantine import Failure

__all__ = ["Stock", "take_stock"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stock:
    """The recordings that were asked for.

    Attributes:
        outlines: of those that can be described, in the dataset's order.
        unreadable: recording -> why it cannot even be described.
    """

    outlines: list[Outline]
    unreadable: dict[str, Failure]

    @property
    def names(self) -> set[str]:
        """Ids of all recordings."""
        return {outline.recording.recording_id for outline in self.outlines} | set(self.unreadable)

    @property
    def planned_windows(self) -> int:
        """Windows that were laid, those that cannot be cut included."""
        return sum(o.windows + sum(o.rejected.values()) for o in self.outlines)


def take_stock(
    dataset: Dataset, options: Any, config: BuildConfig, *, raw: Path, limit: int | None = None
) -> Stock:
    """Outlines a dataset; nothing is decoded, and no recording's windows are kept.

    Args:
        dataset: the plug-in.
        options: its options.
        config: the build's configuration.
        raw: where the dataset's raw files lie.
        limit: only the first so many recordings.

    Raises:
        RecordingError: there are none.
        UsageError: two recordings share an id.
    """
    unreadable: dict[str, Failure] = {}

    def readable() -> Any:
        for described in itertools.islice(dataset.recordings(raw, options), limit):
            if isinstance(described, Recording):
                yield described
            else:
                unreadable[described.recording_id] = _failure(described)

    outlines = outline_build(readable(), config)
    if not outlines and not unreadable:
        raise RecordingError(f"{dataset.name}: there are no recordings to build")
    return Stock(outlines=outlines, unreadable=unreadable)


def _failure(described: Unreadable) -> Failure:
    return Failure(
        recording=described.recording_id,
        kind="input",
        error="RecordingError",
        message=described.message,
    )
