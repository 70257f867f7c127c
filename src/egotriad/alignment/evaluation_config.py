"""How an evaluation measures acceptance: the settings of `evaluate-acceptance`."""

from dataclasses import dataclass
from typing import Literal

from egotriad.alignment.sampling import Sampling
from egotriad.alignment.tree import TreeShape
from egotriad.manifests.errors import UsageError

__all__ = ["EvaluationConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationConfig:
    """How acceptance is measured.

    Attributes:
        split: which clips are evaluated.
        gamma: drafted ids per round; of the heuristic schedule, in a text's first round.
        schedule: `fixed`, or `heuristic`: two more after a round in which all stood, else one
            fewer (as transformers does it, from text to text afresh).
        confidence: a draft stops after an id of less probability than this; 0 never.
        tree_width: 1 drafts a chain; more drafts a tree: so many nodes are expanded on each of
            gamma levels, and so many children each.
        tree_nodes: how many nodes of a tree are verified, the likeliest.
        temperature: 0 decodes greedily; else target and drafts sample.
        top_k: only the k best ids can be drawn; 0 all.
        top_p: only the best ids that make up this share can be drawn; 1 all.
        max_new_tokens: longest text, in ids.
        batch: clips that run together, for the same texts and rounds; times are always taken of
            one at a time.
        ngram_order: of the n-gram control.
        prompt_lookup: also let a search for the last ids in prompt and text propose.
        retrieval: also let the training texts propose that were said of the most similar IMUs.
        bootstrap_draws: resamples of the recordings behind every interval.
        seed: of the bootstrap, of the shuffled IMU and of the sampling.
        speed_clips: so many clips are decoded again with and without the draft, and timed; 0 none.
        allow_overlap: evaluate clips of wearers or recordings that a draft was trained on, or
            drafts that do not say; the report then does.
        require_lossless: fail when any text differs from plain greedy decoding (in float32 none
            should; in half precision ties flip).
        check_lossless: also sample 4000 short texts on the first clip and compare their counts
            with the target's exact distribution.
    """

    split: str = "test"
    gamma: int = 5
    schedule: Literal["fixed", "heuristic"] = "fixed"
    confidence: float = 0.0
    tree_width: int = 1
    tree_nodes: int = 24
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    max_new_tokens: int = 32
    batch: int = 1
    ngram_order: int = 5
    prompt_lookup: bool = False
    retrieval: bool = False
    bootstrap_draws: int = 2000
    seed: int = 0
    speed_clips: int = 16
    allow_overlap: bool = False
    require_lossless: bool = False
    check_lossless: bool = False

    def __post_init__(self) -> None:
        for name, least in (
            ("gamma", 1),
            ("tree_width", 1),
            ("tree_nodes", 1),
            ("max_new_tokens", 2),
            ("batch", 1),
            ("ngram_order", 1),
            ("bootstrap_draws", 100),
            ("seed", 0),
            ("speed_clips", 0),
        ):
            if getattr(self, name) < least:
                raise UsageError(f"{name}: got {getattr(self, name)}, need >= {least}")
        if not 0 <= self.confidence < 1:
            raise UsageError(f"confidence: got {self.confidence}, need 0 <= confidence < 1")
        if self.schedule not in ("fixed", "heuristic"):
            raise UsageError(f"schedule: got {self.schedule!r}, need 'fixed' or 'heuristic'")
        if self.require_lossless and self.temperature:
            raise UsageError("--require-lossless compares greedy texts: leave --temperature at 0")
        chain = self.schedule == "fixed" and not self.confidence and not self.temperature
        if self.tree_width > 1 and not chain:
            raise UsageError(
                "--tree-width: trees are greedy and of one depth; leave --temperature, --schedule "
                "and --confidence alone"
            )
        alike = self.schedule == "fixed" and not self.confidence and self.tree_width == 1
        if self.batch > 1 and not alike:
            raise UsageError(
                "--batch: clips that run together draft chains of one length; leave --schedule, "
                "--confidence and --tree-width alone"
            )
        _ = self.sampling  # checked when made

    @property
    def tree(self) -> TreeShape | None:
        """Shape of the drafts, None for chains."""
        if self.tree_width == 1:
            return None
        return TreeShape(self.gamma, self.tree_width, self.tree_nodes)

    @property
    def sampling(self) -> Sampling:
        """How ids are chosen."""
        return Sampling(temperature=self.temperature, top_k=self.top_k, top_p=self.top_p)
