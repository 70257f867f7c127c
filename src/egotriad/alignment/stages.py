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

What must be true of a staged run is checked on every clip (`check`): one encoding, a prefix as
long as prompt and sensor tokens together, as many decoder passes as ids after the first.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from egotriad.alignment.arms import evaluation_span
from egotriad.alignment.proposers import DraftProposer
from egotriad.alignment.speculate import plain_greedy, speculate
from egotriad.manifests import Clip
from egotriad.manifests.errors import EvaluationError
from egotriad.models.conditioned import ConditionedLM
from egotriad.models.prompt import prompt_ids
from egotriad.models.state import DecoderState

__all__ = ["STAGES", "StageRun", "StageSettings", "Stopwatch", "check", "run_alone", "run_pair"]

STAGES = ("load", "preprocess", "encode", "prefill", "decode")


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSettings:
    """What every run has in common.

    Attributes:
        gamma: drafted ids per round.
        max_new_tokens: longest text, in ids.
        eos: `natural` ends a text at its end of sequence; `fixed` writes all the ids, so that
            speed does not depend on what is said.
        clock: `wall`, or the `cpu` time of the process, which others on the machine do not disturb
            and which does not count waiting for files; on CUDA `wall` alone.
    """

    gamma: int = 5
    max_new_tokens: int = 32
    eos: Literal["natural", "fixed"] = "natural"
    clock: Literal["wall", "cpu"] = "wall"

    def end(self, model: ConditionedLM) -> int:
        """The id at which a text ends; one that no model has when none does."""
        return model.eos_id if self.eos == "natural" else -1


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRun:
    """One clip, run once.

    Attributes:
        seconds: stage -> seconds; of an unstaged run nothing.
        total_s: from before the first to after the last.
        ids: the text.
        prompt_tokens, sensor_tokens: what the prefix is made of, both models' together.
        cached: positions in the caches after the prefix.
        encodings: how often an encoder ran; passes: decoder passes after the prefixes (of the
            target alone in a pair).
        rounds: of the loop; 0 without a draft.
        kv_bytes: keys and values at the end of the text.
    """

    seconds: Mapping[str, float]
    total_s: float
    ids: tuple[int, ...]
    prompt_tokens: int
    sensor_tokens: int
    cached: int
    encodings: int
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


class Stopwatch:
    """Borders in time; `spans` gives the seconds between them.

    Args:
        device: whose work is timed.
        clock: see `StageSettings`.
    """

    def __init__(self, device: torch.device, clock: str) -> None:
        self._cuda = device.type == "cuda"
        self._now = time.process_time if clock == "cpu" else time.perf_counter
        self._borders: list[float | torch.cuda.Event] = []
        if self._cuda:
            torch.cuda.synchronize(device)

    def border(self) -> None:
        """One more border, here."""
        if self._cuda:
            event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            event.record()
            self._borders.append(event)
        else:
            self._borders.append(self._now())

    def spans(self) -> list[float]:
        """Seconds between neighbouring borders."""
        if self._cuda:
            torch.cuda.synchronize()
        return [_between(a, b) for a, b in zip(self._borders, self._borders[1:], strict=False)]


class _Counted:
    """A state that counts its passes after the prefix."""

    def __init__(self, state: DecoderState) -> None:
        self._state = state
        self.prefix_logits = state.prefix_logits
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
    watch = Stopwatch(device, settings.clock)

    def border() -> None:
        if staged:
            watch.border()

    watch.border()
    clip = load()
    border()
    prepared = [_prepared(model, tokenizer, clip) for model in models]
    border()
    with torch.inference_mode():
        embedded = [(model, model.condition(x)) for model, x in zip(models, prepared, strict=True)]
        border()
        prefixes = [(model, model.wrap(condition)) for model, condition in embedded]
        states = [_Counted(DecoderState(model.decoder, prefix)) for model, prefix in prefixes]
        int(states[0].prefix_logits.argmax())  # the first id, on the host
    border()
    ids, rounds = _decoded(states, models[0], settings)
    watch.border()
    spans = watch.spans()
    return StageRun(
        seconds=dict(zip(STAGES, spans, strict=True)) if staged else {},
        total_s=sum(spans),
        ids=tuple(ids),
        prompt_tokens=sum(len(m.prompt.before) + len(m.prompt.after) for m in models),
        sensor_tokens=sum(condition.shape[1] for _, condition in embedded),
        cached=sum(prefix.shape[1] for _, prefix in prefixes),
        encodings=len(embedded),
        passes=states[0].passes,
        rounds=rounds,
        kv_bytes=sum(
            _position_bytes(model) * (prefix.shape[1] + len(ids)) for model, prefix in prefixes
        ),
    )


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
    end = settings.end(model)
    if len(states) == 1:
        return plain_greedy(states[0], max_new_tokens=settings.max_new_tokens, eos_id=end), 0
    done = speculate(
        states[0],
        DraftProposer(states[1], end, vocabulary=states[0].prefix_logits.shape[-1]),
        gamma=settings.gamma,
        max_new_tokens=settings.max_new_tokens,
        eos_id=end,
    )
    return done.ids, len(done.rounds)


def check(run: StageRun, *, models: int) -> None:
    """What must hold of a staged run, whatever the models.

    Args:
        run: what was measured.
        models: 1 alone, 2 for a pair.

    Raises:
        EvaluationError: naming what does not hold.
    """
    problems = []
    if abs(sum(run.seconds.values()) - run.total_s) > 0.01 * run.total_s:
        problems.append(f"stages add up to {sum(run.seconds.values()):.6f} of {run.total_s:.6f} s")
    if set(run.seconds) != set(STAGES):
        problems.append(f"stages are {', '.join(run.seconds)}")
    if run.encodings != models:
        problems.append(f"{run.encodings} encodings, need {models}")
    if run.cached != run.prompt_tokens + run.sensor_tokens:
        problems.append(
            f"{run.cached} positions after the prefix, need {run.prompt_tokens} of the prompt and "
            f"{run.sensor_tokens} of the sensor"
        )
    if models == 1 and run.passes != len(run.ids) - 1:
        problems.append(f"{run.passes} decoder passes for {len(run.ids)} ids")
    if models == 2 and not run.rounds - 1 <= run.passes <= run.rounds:
        problems.append(f"{run.passes} target passes in {run.rounds} rounds")
    if problems:
        raise EvaluationError(f"a staged run is not what it says: {'; '.join(problems)}")


def _between(a: "float | torch.cuda.Event", b: "float | torch.cuda.Event") -> float:
    if isinstance(a, float) or isinstance(b, float):
        return float(b) - float(a)  # type: ignore[arg-type]
    return float(a.elapsed_time(b)) / 1e3
