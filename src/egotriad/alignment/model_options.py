"""What folders as their authors publish them can be told on the command line."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from egotriad.manifests.errors import UsageError

__all__ = ["DraftOptions", "TargetOptions", "named_values"]

PATHS = ("substitute_encoder", "visual_tower")
"""Options that name a file or folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetOptions:
    """For published targets; those of train-target take none.

    Attributes:
        question: what a published target is asked; its usual question when not given.
        target_option: further settings of a published target, NAME=VALUE each
            (`visual_tower=FOLDER`).
        target_tokenizer: LLaMA's tokenizer.json or tokenizer.model, where a published target's
            folder has none.
    """

    question: str | None = None
    target_option: tuple[str, ...] = ()
    target_tokenizer: Path | None = None

    def values(self) -> dict[str, Any]:
        """Arguments of `load_target`.

        Raises:
            UsageError: an option that is not NAME=VALUE.
        """
        asked = {} if self.question is None else {"question": self.question}
        return _values("--target-option", self.target_option, self.target_tokenizer) | asked


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftOptions:
    """For published drafts; those of train-draft take none.

    Attributes:
        draft_option: settings of a published draft, NAME=VALUE each (`samples=100`,
            `prompt=llava_v0`, `substitute_encoder=FILE`).
        draft_tokenizer: LLaMA's tokenizer.json or tokenizer.model, where a published draft's
            folder has none.
    """

    draft_option: tuple[str, ...] = ()
    draft_tokenizer: Path | None = None

    def values(self) -> dict[str, Any]:
        """Arguments of `load_draft`.

        Raises:
            UsageError: an option that is not NAME=VALUE.
        """
        return _values("--draft-option", self.draft_option, self.draft_tokenizer)


def named_values(flag: str, options: Sequence[str], names: Sequence[str] = ()) -> dict[str, Any]:
    """NAME=VALUE settings; values are numbers or truth values where they read as such, else text.

    Args:
        flag: for messages.
        options: as given.
        names: that there are; any when empty.

    Raises:
        UsageError: one that has no name or value, or another name.
    """
    values = {}
    for option in options:
        name, _, value = option.partition("=")
        if not name or not value or (names and name not in names):
            known = f" with one of {', '.join(sorted(names))}" if names else ""
            raise UsageError(f"{flag}: got {option!r}, need NAME=VALUE{known}")
        values[name] = _value(value)
    return values


def _values(flag: str, options: Sequence[str], tokenizer: Path | None) -> dict[str, Any]:
    found = named_values(flag, options)
    values = {name: Path(str(value)) if name in PATHS else value for name, value in found.items()}
    return values | ({} if tokenizer is None else {"tokenizer": tokenizer})


def _value(text: str) -> Any:
    try:
        return json.loads(text.lower())
    except ValueError:
        return text
