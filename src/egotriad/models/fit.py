"""Whether published files hold exactly the weights of a model, judged by their headers alone.

`files -> key, shape, type of every tensor -> Fit: what fills what, and what does not`
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from egotriad.manifests.errors import CheckpointError
from egotriad.models.checkpoints import KeyMap, TensorHeader, read_headers
from egotriad.models.conditioned import ConditionedLM

__all__ = ["Fit", "Source", "Stored", "fit"]

PER_ID = ("decoder.model.embed_tokens.weight", "decoder.lm_head.weight")
"""Weights with a row per id; a file may have more rows than the vocabulary has ids."""
OLD_BUFFERS = (".rotary_emb.inv_freq", ".position_ids")
"""Ends of keys that old versions of transformers stored and newer ones compute."""
SHOWN = 20


@dataclass(frozen=True, slots=True)
class Source:
    """Files with weights: a file or folder, and which of its keys are whose."""

    path: Path
    keys: KeyMap


@dataclass(frozen=True, slots=True)
class Stored:
    """Where one weight of a model lies.

    Attributes:
        path, key: file or folder, and the key there.
        header: shape and type in the file.
        extra_rows: rows behind those that the model takes.
    """

    path: Path
    key: str
    header: TensorHeader
    extra_rows: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """How files and a model fit together.

    Attributes:
        stored: the weights that are there, by the model's name.
        missing: keys that should be there.
        unexpected: keys that nothing explains.
        misshapen: keys with their shape and the one needed.
        tensors: number of tensors in the files.
    """

    stored: dict[str, Stored]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshapen: tuple[str, ...]
    tensors: int

    @property
    def exact(self) -> bool:
        """Whether every weight is there and nothing else."""
        return not (self.missing or self.unexpected or self.misshapen)

    @property
    def extra_rows(self) -> int:
        """Ids that the files have beyond the model's vocabulary."""
        return max((weight.extra_rows for weight in self.stored.values()), default=0)

    def require(self, what: str, where: Path) -> None:
        """Nothing when exact.

        Raises:
            CheckpointError: one error that lists every key that does not fit.
        """
        if self.exact:
            return
        problems = [
            f"{name}: {_listed(keys)}"
            for name, keys in (
                ("missing", self.missing),
                ("unexpected", self.unexpected),
                ("of another shape or type", self.misshapen),
            )
            if keys
        ]
        raise CheckpointError(
            f"{where} does not fit {what} ({self.tensors} tensors there): {'; '.join(problems)}"
        )


def fit(model: ConditionedLM, sources: Sequence[Source], *, more_rows: bool = True) -> Fit:
    """Compares the headers of files with a model, which may be on the meta device.

    Args:
        model: what is to be filled.
        sources: the files; the first that has a weight counts.
        more_rows: whether files may have rows for more ids than the model has.

    Raises:
        CheckpointError: when a file cannot be read.
    """
    needed = model.stored_weights()
    tied = model.state_dict().keys() - needed.keys()
    stored: dict[str, Stored] = {}
    unexpected: list[str] = []
    tensors = 0
    for source in sources:
        headers = read_headers(source.path)
        tensors += len(headers)
        ours, unexplained = source.keys.names(headers)
        unexpected += unexplained
        for name, key in ours.items():
            if name in needed:
                like = needed[name]
                header = headers[key]
                extra = _extra_rows(header, like) if more_rows and name in PER_ID else 0
                stored.setdefault(name, Stored(source.path, key, header, extra))
            elif name not in tied:
                unexpected.append(key)
    return Fit(
        stored=stored,
        missing=tuple(sorted(sources[0].keys.theirs(n) for n in needed.keys() - stored.keys())),
        unexpected=tuple(sorted(key for key in unexpected if not key.endswith(OLD_BUFFERS))),
        misshapen=tuple(
            f"{weight.key} ({list(weight.header.shape)} {weight.header.dtype}, need "
            f"{list(needed[name].shape)} {_kind(needed[name])})"
            for name, weight in sorted(stored.items())
            if not _fills(weight, needed[name])
        ),
        tensors=tensors,
    )


def _extra_rows(header: TensorHeader, like: Tensor) -> int:
    return max(header.shape[0] - like.shape[0], 0) if header.shape else 0


def _fills(weight: Stored, like: Tensor) -> bool:
    """Whether it can take a weight's place, in whatever precision (but not packed in integers)."""
    shape = list(weight.header.shape)
    if weight.extra_rows:
        shape[0] -= weight.extra_rows
    floating = weight.header.dtype.is_floating_point
    return shape == list(like.shape) and floating == like.dtype.is_floating_point


def _kind(like: Tensor) -> str:
    return "floating" if like.dtype.is_floating_point else str(like.dtype)


def _listed(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
    return ", ".join(keys[:SHOWN]) + more
