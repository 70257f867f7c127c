"""The narration file of a tree: 3.85 million narrations, read as seldom as memory allows."""

import gc
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

from egotriad.converters.narration_datasets import narrated_ego4d_videos, read_ego4d_narrations
from egotriad.converters.narration_text import NarrationSet
from egotriad.manifests.errors import RecordingError
from egotriad.pipelines.ego4d_tree import NARRATION_FILES, Ego4dTree

__all__ = ["Ego4dNarrations"]

HELD_VIDEOS = 4000
"""Narrations of so many videos (about 300 MB) are kept from choosing to describing."""


class Ego4dNarrations:
    """Narrations of a tree's videos.

    Args:
        tree: where the file lies, if there is one.
    """

    def __init__(self, tree: Ego4dTree) -> None:
        self._path = tree.narrations()
        self._folder = tree.folder
        self._held: Mapping[str, NarrationSet] = {}

    def narrated(self, uids: Collection[str]) -> frozenset[str]:
        """Those of the videos that have a narration.

        Raises:
            RecordingError: there is no narration file, or a malformed one.
        """
        if self._path is None:
            raise RecordingError(
                f"--has narration: none of {', '.join(NARRATION_FILES)} is in "
                f"{self._folder}/annotations of the raw folder; fetch it, or drop 'narration'"
            )
        if len(uids) > HELD_VIDEOS:
            return narrated_ego4d_videos(self._path).intersection(uids)
        with _no_collection():
            self._held = read_ego4d_narrations(self._path, uids=frozenset(uids))
        return frozenset(uid for uid, told in self._held.items() if told.narrations)

    def of(self, uids: Collection[str]) -> Mapping[str, NarrationSet]:
        """Narrations of the videos that the file knows; of none without a file.

        Raises:
            RecordingError: the file is malformed.
        """
        if self._path is None:
            return {}
        if not self._held.keys() >= set(uids):
            with _no_collection():
                self._held = read_ego4d_narrations(self._path, uids=frozenset(uids))
        return self._held


@contextmanager
def _no_collection() -> Iterator[None]:
    """Without garbage collection, which would go over a million objects that stay, many times.

    Later rounds pass over them too; they go, as ever, when nobody refers to them any more.
    """
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if before:
            gc.enable()
