"""Which Ego4D videos must share a split, and which of them Ego4D itself holds out."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from egotriad.pipelines.ego4d_metadata import Ego4dMetadata, Ego4dVideo

__all__ = ["Ego4dSplits", "decide_splits"]

NAMES = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}
STRICTEST = ("test", "validation", "train")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ego4dSplits:
    """Groups and splits of every video of a release, whatever is built of it.

    Attributes:
        groups: uid -> name of its group: the videos of one wearer, of wearers who were filmed at
            the same time, and those that belong together; without a known wearer, the video.
        official: uid -> train | validation | test where a benchmark of Ego4D uses the group, else
            None. The strictest use of any video of the group counts, in any benchmark: a group is
            test as soon as one of its videos is test somewhere. What is neither train nor
            validation (`multi`: its clips are spread over splits; unknown words) counts as test.
    """

    groups: Mapping[str, str]
    official: Mapping[str, str | None]


def decide_splits(metadata: Ego4dMetadata) -> Ego4dSplits:
    """Groups all videos of a release and finds the split of each group.

    Everything is decided over the whole release, so that a video's group and split do not depend
    on which others are built, and overlays (MMG-Ego4D, EgoVid-5M) fall in with their videos.
    """
    groups = _groups(metadata.videos)
    used: dict[str, set[str]] = {}
    for uid, video in metadata.videos.items():
        used.setdefault(groups[uid], set()).update(
            NAMES.get(split, "test") for split in video.splits.values()
        )
    return Ego4dSplits(
        groups=groups, official={uid: _strictest(used[group]) for uid, group in groups.items()}
    )


def _strictest(used: Iterable[str]) -> str | None:
    return next((split for split in STRICTEST if split in used), None)


def _groups(videos: Mapping[str, Ego4dVideo]) -> dict[str, str]:
    parents: dict[str, str] = {}

    def root(node: str) -> str:
        while parents.setdefault(node, node) != node:
            parents[node] = parents[parents[node]]
            node = parents[node]
        return node

    for uid, video in videos.items():
        for other in (_wearer(video), *video.companions & videos.keys()):
            # The smaller name leads, so that the order of the videos does not matter.
            low, high = sorted((root(uid), root(other)))
            parents[high] = low
    return {uid: f"ego4d/{root(uid)}" for uid in videos}


def _wearer(video: Ego4dVideo) -> str:
    """The node of a video's wearer; nobody else's where the wearer is not known."""
    return video.uid if video.participant is None else f"+{video.participant}"
