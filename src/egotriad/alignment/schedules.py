"""How many ids to draft in the next round.

| schedule | next round |
|---|---|
| Fixed | always the same |
| Heuristic | two more after a round in which all stood, else one fewer |

The second is transformers' (`AssistedCandidateGenerator.update_candidate_strategy`); its
`heuristic` keeps one schedule from text to text, `heuristic_transient` makes a new one for each.
Stopping in the middle of a round when the draft is unsure is the draft's own affair
(`DraftProposer.confidence`).
"""

from dataclasses import dataclass
from typing import Protocol

from egotriad.manifests.errors import UsageError

__all__ = ["Fixed", "Heuristic", "Schedule"]


class Schedule(Protocol):
    """Says how many ids to draft, and hears what became of them."""

    @property
    def most(self) -> int:
        """The largest number it can say."""

    def next(self) -> int:
        """Ids to draft in the next round, >= 1."""

    def update(self, drafted: int, matched: int) -> None:
        """What the last round drafted, and how much of it stood."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """The same number in every round."""

    gamma: int

    def __post_init__(self) -> None:
        if self.gamma < 1:
            raise UsageError(f"gamma: got {self.gamma}, need >= 1")

    @property
    def most(self) -> int:
        """Gamma."""
        return self.gamma

    def next(self) -> int:
        """Gamma."""
        return self.gamma

    def update(self, drafted: int, matched: int) -> None:
        """Changes nothing."""


class Heuristic:
    """Two more after full acceptance, one fewer otherwise, from `start`, within 1 and `most`."""

    def __init__(self, start: int = 5, most: int = 20) -> None:
        if not 1 <= start <= most:
            raise UsageError(f"schedule: got start {start}, most {most}; need 1 <= start <= most")
        self._now, self._most = start, most

    @property
    def most(self) -> int:
        """The largest number it can say."""
        return self._most

    def next(self) -> int:
        """Ids to draft in the next round."""
        return self._now

    def update(self, drafted: int, matched: int) -> None:
        """Short rounds count as whole ones; one without drafts says nothing."""
        if drafted:
            changed = self._now + 2 if matched == drafted else self._now - 1
            self._now = min(max(changed, 1), self._most)
