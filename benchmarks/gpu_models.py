"""Decoder steps at true size, random weights: a section of `gpu_suite.py`, and models for others.

Target: EventGPT-7B, 7.08 G weights, its decoder behind 641 positions (59 of the prompt, 582 event
tokens). Drafts: every size of decoder with its vocabulary that is smaller. Weights are random, so
nothing is said about acceptance. Dry, all of it is small.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from gpu_section import Options, Row, attempted, now
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from egotriad.models.conditioned import ConditionedLM
from egotriad.models.decoder import DecoderConfig
from egotriad.models.decoders import DECODERS, VICUNA_7B
from egotriad.models.draft_imu import ImuDraft, ImuDraftConfig
from egotriad.models.engines import EngineName, Engines
from egotriad.models.placement import Placement, Precision
from egotriad.models.random_models import random_models, stand_in_tokenizer
from egotriad.models.state import DecoderState
from egotriad.models.target_eventgpt import EventGpt, EventGptConfig

PREFIX_TARGET, PREFIX_DRAFT = 641, 80
GAMMAS = tuple(range(1, 9))
SPECULATED = ("vicuna-68m", "llama-160m", "tinyllama-1.1b")
COMPILED_GAMMAS = (1, 5)
"""Compiling takes seconds for each number of ids."""
SMALL = DecoderConfig(hidden_size=32, intermediate_size=48, layers=1, heads=2)


@dataclass(frozen=True, slots=True)
class Models:
    """EventGPT and drafts for it, made when asked for."""

    options: Options
    tokenizer: PreTrainedTokenizerFast

    @classmethod
    def of(cls, options: Options) -> "Models":
        """With a tokenizer of LLaMA's size that knows the prompts."""
        prompts = [EventGptConfig().template, ImuDraftConfig().template]
        return cls(options, stand_in_tokenizer(prompts))

    @property
    def drafts(self) -> tuple[str, ...]:
        """Names of the decoders to draft with, one of each size."""
        if self.options.small:
            return SPECULATED[:1]
        smaller = {
            known.config: name
            for name, known in DECODERS.items()
            if known.parameters < DECODERS["vicuna-7b"].parameters and name not in SPECULATED
        }
        smaller |= {DECODERS[name].config: name for name in SPECULATED}
        return tuple(sorted(smaller.values(), key=lambda name: DECODERS[name].parameters))

    @property
    def speculated(self) -> tuple[str, ...]:
        """Names of the decoders that draft in earnest."""
        return SPECULATED[:1] if self.options.small else SPECULATED

    def target(self) -> ConditionedLM:
        """EventGPT-7B."""
        config = EventGpt.small() if self.options.small else EventGptConfig(decoder=VICUNA_7B)
        return self._made(EventGpt, config)

    def draft(self, name: str) -> ConditionedLM:
        """An IMU draft with this decoder."""
        config = SMALL if self.options.small else DECODERS[name].config
        return self._made(ImuDraft, ImuDraftConfig(decoder=config))

    def _made(self, model_class: type[ConditionedLM], config: Any) -> ConditionedLM:
        precision: Precision = "bfloat16" if self.options.device == "cuda" else "float32"
        where = Placement(device=self.options.device, precision=precision)
        return random_models([(model_class, config)], self.tokenizer, where)[0]

    def prefix(self, model: ConditionedLM) -> Tensor:
        """(1, P, D) random embeddings, as many as the model has in front of its first id."""
        weight = model.decoder.get_input_embeddings().weight
        size = PREFIX_TARGET if model.kind == "target" else PREFIX_DRAFT
        shape = (1, 16 if self.options.small else size, weight.shape[1])
        generator = torch.Generator(weight.device).manual_seed(1)
        return (
            torch.randn(shape, dtype=weight.dtype, device=weight.device, generator=generator) * 0.02
        )


def median_ms(run: Callable[[], object], options: Options, times: int) -> float:
    """Of so many runs, after three that do not count."""
    taken = []
    for _ in range(3 + times):
        begin = now(options)
        run()
        taken.append(now(options) - begin)
    return statistics.median(taken[3:]) * 1e3


def feed_ms(state: DecoderState, n: int, options: Options) -> float:
    """Median milliseconds of feeding n ids and reading the last argmax."""

    def run() -> None:
        state.feed([5] * n, keep=1)[-1].argmax().item()
        state.rollback(n)

    return median_ms(run, options, 4 * options.rounds)


def gigabytes(options: Options) -> float | None:
    """Peak of the device since it was last asked."""
    if options.device != "cuda":
        return None
    peak = torch.cuda.max_memory_allocated() / 1e9
    torch.cuda.reset_peak_memory_stats()
    return peak


def steps(options: Options) -> Iterator[Row]:
    """Encoding, prefill, one id, and verification of gamma + 1 ids, in every way to run them."""
    models = Models.of(options)
    header = "".join(f"{f'{g + 1} ids':>9}" for g in GAMMAS)
    yield Row(
        text=f"median ms; c: one id over one of the target run the same way; v5: 6 ids over one\n"
        f"{'decoder':<20}{'engine':<10}{'M params':>9}{'GB':>6}{'prefill':>9}{'1 id':>9}{header}"
        f"{'v5':>7}{'c':>7}"
    )
    ones: dict[str, float] = {}
    for name in ("target", *models.drafts):
        if time.perf_counter() > options.until:
            yield Row(text=f"{name} left out: the time is up", record={"left_out": name})
            continue
        model = models.target() if name == "target" else models.draft(name)
        if name == "target":
            yield attempted("encoding", partial(encoding, model, options), options)
        compiled: tuple[EngineName, ...] = ("compiled",) if name in ("target", *SPECULATED) else ()
        for engine in ("eager", "lean", "graphed", *compiled):
            case = partial(step_row, name, models, model, engine, ones)
            yield attempted(f"{name} {engine}", case, options)
        del model, case
        if options.device == "cuda":
            torch.cuda.empty_cache()


def step_row(
    name: str, models: Models, model: ConditionedLM, engine: EngineName, ones: dict[str, float]
) -> Row:
    """A line of the table; `ones` holds the target's step by engine, which comes first."""
    record = step_times(model.decoder, models.prefix(model), engine, models.options)
    ones.setdefault(engine, record["one_ms"])
    record |= {"decoder": name, "c": record["one_ms"] / ones[engine]}
    return Row(text=step_text(record), record=record)


def encoding(model: ConditionedLM, options: Options) -> Row:
    """EventGPT's tower on five images."""
    config: Any = model.config
    size = config.tower.image_size
    pixels = torch.zeros(1, 5, 3, size, size, device=options.device)
    with torch.inference_mode():
        taken = median_ms(lambda: model.condition(pixels), options, options.rounds)
    parameters = sum(p.numel() for p in model.parameters())
    return Row(
        text=f"EventGPT, {parameters / 1e6:,.1f} M params: encoding five images {taken:.2f} ms",
        record={"parameters": parameters, "encode_ms": taken},
    )


def step_times(
    decoder: LlamaForCausalLM, prefix: Tensor, engine: EngineName, options: Options
) -> dict[str, Any]:
    """One decoder, run one way."""
    gigabytes(options)
    engines = Engines(engine)
    prefill_ms = median_ms(lambda: engines.state(decoder, prefix), options, options.rounds)
    state = engines.state(decoder, prefix)
    gammas = COMPILED_GAMMAS if engine == "compiled" else GAMMAS
    one_ms = feed_ms(state, 1, options)
    return {
        "engine": engine,
        "params": sum(p.numel() for p in decoder.parameters()),
        "prefix": prefix.shape[1],
        "prefill_ms": prefill_ms,
        "one_ms": one_ms,
        "verify_ms": {g: feed_ms(state, g + 1, options) for g in gammas},
        "peak_gb": gigabytes(options),
    }


def step_text(record: dict[str, Any]) -> str:
    """A line of the table."""
    verify, one, peak = record["verify_ms"], record["one_ms"], record["peak_gb"]
    more = "".join(f"{verify[g]:>9.3f}" if g in verify else f"{'':>9}" for g in GAMMAS)
    return (
        f"{record['decoder']:<20}{record['engine']:<10}{record['params'] / 1e6:>9.1f}"
        f"{f'{peak:.1f}' if peak else '':>6}{record['prefill_ms']:>9.2f}{one:>9.3f}{more}"
        f"{verify[5] / one:>7.2f}{record['c']:>7.3f}"
    )
