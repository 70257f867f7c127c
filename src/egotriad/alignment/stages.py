"""Five stages of one clip, timed: load, preprocess, encode, prefill, decode.

| stage | from | to | holds |
|---|---|---|---|
| load | the row is known | arrays in memory | file reads, decompression, decoding |
| preprocess | arrays | inputs on the device | resampling, event frames, prompt ids, the copy |
| encode | inputs | (1, K, D) embeddings | encoder and projector, once |
| prefill | embeddings | first id on the host | prompt, the decoder's pass, argmax |
| decode | first id | last id on the host | n - 1 ids |

A model is run in stages and, in turns with that, in one go; their ratio says what watching costs.
On CUDA borders are events of the stream, which do not stop it; the only waits are those for ids.
The pair (`speculative`) loads the clip once, prepares, encodes and prefills both models one after
the other, and decodes with the draft.

Besides the stages a run says what `egotriad.alignment.stage_checks` judges it by: encodings are
counted whoever asks for them, the caches themselves say how long they are, and a clock around the
run knows nothing of borders.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from egotriad.alignment.arms import evaluation_span
from egotriad.alignment.calibrated import CalibratedProposer, ScriptedState, random_text
from egotriad.alignment.proposers import DraftProposer, SequenceState
from egotriad.alignment.speculate import plain_greedy, speculate
from egotriad.alignment.stopwatch import Stopwatch, seconds_of_host
from egotriad.manifests import Clip
from egotriad.models.conditioned import ConditionedLM
from egotriad.models.prompt import prompt_ids
from egotriad.models.state import DecoderState

__all__ = [
    "STAGES",
    "StageRun",
    "StageSettings",
    "run_alone",
    "run_pair",
]

STAGES = ("load", "preprocess", "encode", "prefill", "decode")


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSettings:
    """What every run has in common.

    Attributes:
        gamma: drafted ids per round.
        max_new_tokens: longest text, in ids.
        eos: `natural` ends a text at its end of sequence; `fixed` writes all the ids, so that
            speed does not depend on what is said.
        assumed_alpha: chance that a drafted id stands, for models that have learnt nothing
            (--random-weights): all passes are made, the ids are scripted; None as models choose.
        clock: `wall`, or the `cpu` time of the process, which others on the machine do not disturb
            and which does not count waiting for files; on CUDA `wall` alone.
    """

    gamma: int = 5
    max_new_tokens: int = 32
    eos: Literal["natural", "fixed"] = "natural"
    assumed_alpha: float | None = None
    clock: Literal["wall", "cpu"] = "wall"

    def end(self, model: ConditionedLM) -> int:
        """The id at which a text ends; one that no model has when none does."""
        return model.eos_id if self.eos == "natural" else -1


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRun:
    """One clip, run once.

    Attributes:
        seconds: stage -> seconds; of an unstaged run nothing.
        total_s: by a clock of its own, from before the first stage to after the last.
        ids: the text.
        prompt_tokens, sensor_tokens: what the prefix is made of, both models' together.
        cached: positions that the decoders' caches hold after the prefixes.
        encodings: stage -> how often a sensor was encoded in it; of an unstaged run nothing.
        passes: decoder passes after the prefixes (of the target alone in a pair).
        rounds: of the loop; 0 without a draft.
        kv_bytes: keys and values at the end of the text.
    """

    seconds: Mapping[str, float]
    total_s: float
    ids: tuple[int, ...]
    prompt_tokens: int
    sensor_tokens: int
    cached: int
    encodings: Mapping[str, int]
    passes: int
    rounds: int
    kv_bytes: int

    @property
    def ttft_s(self) -> float:
        """Time to the first id."""
        return sum(self.seconds[stage] for stage in STAGES[:-1])

    @property
    def tpot_s(self) -> float | None:
        """Time per further id; None of a text of one id."""
        return self.seconds["decode"] / (len(self.ids) - 1) if len(self.ids) > 1 else None


class _Counted:
    """A state that counts its passes after the prefix, and says what its cache held before."""

    def __init__(self, state: DecoderState) -> None:
        self._state = state
        self.prefix_logits, self.cached = state.prefix_logits, state.cached
        self.passes = 0

    @property
    def length(self) -> int:
        return self._state.length

    def feed(self, ids: list[int], *, keep: int | None = None) -> Tensor:
        self.passes += 1
        return self._state.feed(ids, keep=keep)

    def rollback(self, n: int) -> None:
        self._state.rollback(n)


def run_alone(
    model: ConditionedLM,
    tokenizer: PreTrainedTokenizerFast,
    load: Callable[[], Clip],
    settings: StageSettings,
    *,
    staged: bool = True,
) -> StageRun:
    """Plain greedy decoding of one clip by one model."""
    return _run((model,), tokenizer, load, settings, staged=staged)


def run_pair(
    target: ConditionedLM,
    draft: ConditionedLM,
    tokenizer: PreTrainedTokenizerFast,
    load: Callable[[], Clip],
    settings: StageSettings,
    *,
    staged: bool = True,
) -> StageRun:
    """Speculative greedy decoding of one clip."""
    return _run((target, draft), tokenizer, load, settings, staged=staged)


def _run(
    models: Sequence[ConditionedLM],
    tokenizer: PreTrainedTokenizerFast,
    load: Callable[[], Clip],
    settings: StageSettings,
    *,
    staged: bool,
) -> StageRun:
    device = models[0].device
    begin = seconds_of_host(device, settings.clock)
    watch = Stopwatch(device, settings.clock)
    counts: list[int] = []
    with _encodings(models) as seen:

        def border() -> None:
            if staged:
                watch.border()
                counts.append(len(seen))

        border()
        clip = load()
        border()
        prepared = [_prepared(model, tokenizer, clip) for model in models]
        border()
        with torch.inference_mode():
            embedded = [model.condition(x) for model, x in zip(models, prepared, strict=True)]
            border()
            states = [_state(model, tokens) for model, tokens in zip(models, embedded, strict=True)]
            int(states[0].prefix_logits.argmax())  # the first id, on the host
        cached = [state.cached for state in states]
        border()
        ids, rounds = _decoded(states, models[0], settings)
        border()
    spans = watch.spans()
    return StageRun(
        seconds=dict(zip(STAGES, spans, strict=True)) if staged else {},
        total_s=seconds_of_host(device, settings.clock) - begin,
        ids=tuple(ids),
        prompt_tokens=sum(len(m.prompt.before) + len(m.prompt.after) for m in models),
        sensor_tokens=sum(tokens.shape[1] for tokens in embedded),
        cached=sum(cached),
        encodings=dict(zip(STAGES, (b - a for a, b in pairwise(counts)), strict=False)),
        passes=states[0].passes,
        rounds=rounds,
        kv_bytes=sum(
            _position_bytes(model) * (held + len(ids))
            for model, held in zip(models, cached, strict=True)
        ),
    )


@contextmanager
def _encodings(models: Sequence[ConditionedLM]) -> Iterator[list[str]]:
    """Names of the models that encode a sensor, in order, whoever asks them to."""
    seen: list[str] = []
    before = {model: {k: v for k, v in vars(model).items() if k == "condition"} for model in models}
    for model in before:
        vars(model)["condition"] = _noting(model, seen)
    try:
        yield seen
    finally:
        for model, own in before.items():
            vars(model).pop("condition")
            vars(model).update(own)


def _noting(model: ConditionedLM, seen: list[str]) -> Callable[[Tensor], Tensor]:
    true = model.condition

    def condition(inputs: Tensor) -> Tensor:
        seen.append(model.name)
        return true(inputs)

    return condition


def _state(model: ConditionedLM, condition: Tensor) -> _Counted:
    return _Counted(model.engines.state(model.decoder, model.wrap(condition)))


def _position_bytes(model: ConditionedLM) -> int:
    """Bytes of one position's keys and values in all layers."""
    config = model.decoder.config
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    values = 2 * config.num_hidden_layers * config.num_key_value_heads * width
    return int(values * next(model.decoder.parameters()).element_size())


def _prepared(model: ConditionedLM, tokenizer: PreTrainedTokenizerFast, clip: Clip) -> Tensor:
    """(1, ...) inputs on the model's device; the prompt is tokenised as a first call would."""
    prompt_ids(model.config.template, model.placeholder, tokenizer)
    return model.prepare(clip, evaluation_span(clip))[None].to(model.device)


def _decoded(
    states: Sequence[_Counted], model: ConditionedLM, settings: StageSettings
) -> tuple[list[int], int]:
    """The text, and its number of rounds (0 without a draft)."""
    target: SequenceState = states[0]
    end, vocabulary = settings.end(model), target.prefix_logits.shape[-1]
    alpha, text = settings.assumed_alpha, list[int]()
    if alpha is not None:
        text = random_text(settings.max_new_tokens + settings.gamma, vocabulary, seed=0)
        target = ScriptedState(target, text)
    if len(states) == 1:
        return plain_greedy(target, max_new_tokens=settings.max_new_tokens, eos_id=end), 0
    done = speculate(
        target,
        DraftProposer(states[1], end, vocabulary=vocabulary)
        if alpha is None
        else CalibratedProposer(states[1], text, alpha, seed=1, vocabulary=vocabulary),
        gamma=settings.gamma,
        max_new_tokens=settings.max_new_tokens,
        eos_id=end,
    )
    return done.ids, len(done.rounds)
