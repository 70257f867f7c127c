"""Which way a decoder is run, behind one name.

| name | what runs it |
|---|---|
| eager | transformers, module by module: any weights, adapters, 4 bit |
| lean | the same operations without the library around them (`egotriad.models.lean`) |
| graphed | shapes that never change, a CUDA graph per number of ids (`egotriad.models.graphed`) |
| compiled | graphed, its blocks compiled by torch |
| auto | lean where the decoder is a plain LLaMA, else eager |

All give the same logits up to rounding. `auto` takes no graphs: they have not been measured on a
device yet (docs/gpu.md).
"""

import weakref
from typing import Literal, get_args

from torch import Tensor
from transformers import LlamaForCausalLM

from egotriad.manifests.errors import UsageError
from egotriad.models.graphed import GraphedLlama
from egotriad.models.lean import LeanLlama, runs_lean
from egotriad.models.settings import require_one_of
from egotriad.models.state import DecoderState

__all__ = ["ENGINES", "EngineName", "Engines"]

EngineName = Literal["auto", "eager", "lean", "graphed", "compiled"]
ENGINES: tuple[EngineName, ...] = get_args(EngineName)
ROOM = 256
"""Positions behind the first prefix for which a buffer of fixed shape is made."""


class Engines:
    """Runs decoders' sequences; buffers and graphs are lent again and again.

    A state that nobody holds any more gives its buffer back.

    Args:
        name: see the module.
    """

    def __init__(self, name: EngineName = "auto") -> None:
        require_one_of("engine", name, EngineName)
        self.name = name
        self._lent: list[tuple[LeanLlama, weakref.ref[DecoderState]]] = []

    def of(self, decoder: LlamaForCausalLM) -> EngineName:
        """The engine that `name` means for a decoder.

        Raises:
            UsageError: when it needs a plain LLaMA and this is none.
        """
        plain = runs_lean(decoder)
        if self.name == "auto":
            return "lean" if plain else "eager"
        if self.name != "eager" and not plain:
            raise UsageError(
                f"engine {self.name}: this decoder has adapters, quantised weights or parts that "
                "a plain LLaMA lacks; need engine eager"
            )
        return self.name

    def state(self, decoder: LlamaForCausalLM, prefix: Tensor) -> DecoderState:
        """The decoder on one prefix (1, P, D), ready to be fed and rolled back.

        Args:
            decoder: in eval mode.
            prefix: embeddings of everything before the first generated id.

        Raises:
            UsageError: see `of`.
        """
        engine = self.of(decoder)
        if engine == "eager":
            return DecoderState(decoder, prefix, lean=False)
        runner = self._free(decoder) or _runner(engine, decoder, prefix.shape[1])
        state = DecoderState(decoder, prefix, runner=runner)
        self._lent.append((runner, weakref.ref(state)))
        return state

    def __reduce__(self) -> tuple[type["Engines"], tuple[EngineName]]:
        """A copy, which begins without buffers."""
        return Engines, (self.name,)

    def _free(self, decoder: LlamaForCausalLM) -> LeanLlama | None:
        for index, (runner, borrower) in enumerate(self._lent):
            if borrower() is None and runner.serves(decoder):
                del self._lent[index]
                return runner
        return None


def _runner(engine: EngineName, decoder: LlamaForCausalLM, prefix: int) -> LeanLlama:
    if engine == "lean":
        return LeanLlama(decoder, prefix)
    return GraphedLlama(decoder, prefix + ROOM, compiled=engine == "compiled")
