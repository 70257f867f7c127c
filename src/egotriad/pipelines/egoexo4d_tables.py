"""The tables of an Ego-Exo4D tree, read once: takes, splits, texts, and which takes are meant."""

import logging
from functools import cached_property
from pathlib import Path

from egotriad.converters.narration import read_egoexo4d_descriptions
from egotriad.converters.narration_text import NarrationSet
from egotriad.manifests import Unreadable
from egotriad.manifests.errors import RecordingError
from egotriad.pipelines.egoexo4d_files import DESCRIPTIONS, lies_there
from egotriad.pipelines.egoexo4d_options import EgoExo4DOptions
from egotriad.pipelines.egoexo4d_select import select_takes
from egotriad.pipelines.egoexo4d_takes import (
    SPLITS_JSON,
    TAKES_JSON,
    Take,
    read_splits,
    read_takes,
)

__all__ = ["Tables"]

_LOG = logging.getLogger(__name__)


class Tables:
    """What takes.json, splits.json and the atomic descriptions say.

    Args:
        raw: root of the tree.

    Raises:
        RecordingError: no takes.json, or files that are not Ego-Exo4D's (texts: when asked for).
    """

    def __init__(self, raw: Path) -> None:
        self._raw = raw
        self.takes = read_takes(raw / TAKES_JSON)
        self.splits = read_splits(raw / SPLITS_JSON) if (raw / SPLITS_JSON).is_file() else {}

    @cached_property
    def texts(self) -> dict[str, NarrationSet]:
        """Descriptions of each take uid; those of takes that do not exist are counted and kept."""
        texts: dict[str, NarrationSet] = {}
        for name in DESCRIPTIONS:
            if (self._raw / name).is_file():
                texts |= read_egoexo4d_descriptions(self._raw / name)
        strays = texts.keys() - {take.uid for take in self.takes if isinstance(take, Take)}
        if strays:
            _LOG.info("%d takes are described that takes.json does not know", len(strays))
        if not texts:
            _LOG.warning("no %s: clips will carry no text", " and no ".join(DESCRIPTIONS))
        return texts

    def chosen(self, options: EgoExo4DOptions) -> list[Take | Unreadable]:
        """The takes that are meant (see `select_takes`).

        Raises:
            UsageError: nothing is chosen, or a filter's word is unknown.
            RecordingError: descriptions matter to the choice and there are none.
        """

        def described() -> set[str]:
            if not self.texts:
                raise RecordingError(
                    f"--has narration: neither {' nor '.join(DESCRIPTIONS)} lies in the raw "
                    "folder; bring them with: egoexo --parts annotations"
                )
            return {uid for uid, text in self.texts.items() if text.narrations}

        return select_takes(
            self.takes,
            options,
            present=lambda take: lies_there(self._raw, take, options),
            splits=self.splits,
            described=described,
        )
