"""Decoder steps and speculation at true size, random weights: sections of `gpu_suite.py`.

Target: the decoder of EventGPT-7B (Vicuna-7B v1.5), behind a prefix as long as EventGPT's (641
positions: 59 of the prompt and 582 event tokens). Drafts: decoders with its vocabulary. Weights are
random, so nothing is said about acceptance: a calibrated draft takes its steps and then proposes
the target's own id with a given probability.
"""

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from gpu_section import Options, Row, now
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from egotriad.alignment.acceptance import Counts, metrics
from egotriad.alignment.offline import tau_iid
from egotriad.alignment.proposers import Proposal
from egotriad.alignment.speculate import Speculation, plain_greedy, speculate
from egotriad.models.graphed import GraphedLlama
from egotriad.models.state import DecoderState

VOCABULARY, NEVER = 32_000, -7
PREFIX_TARGET, PREFIX_DRAFT = 641, 80
GAMMAS = (1, 2, 3, 5, 8)
ALPHA, GAMMA, LENGTH, TEXTS = 0.8, 5, 128, 4


@dataclass(frozen=True, slots=True)
class Shape:
    """A published decoder's shape."""

    name: str
    hidden: int
    inner: int
    layers: int
    heads: int
    kv_heads: int
    tied: bool = False


TARGET = Shape("EventGPT-7B / Vicuna-7B", 4096, 11008, 32, 32, 32)
DRAFTS = (
    Shape("vicuna-68m", 768, 3072, 2, 12, 12),
    Shape("AMD-Llama-135m", 768, 2048, 12, 12, 12),
    Shape("llama-160m", 768, 3072, 12, 12, 12),
    Shape("TinyLlama-1.1B", 2048, 5632, 22, 32, 4),
)
SMALL_TARGET, SMALL_DRAFT = Shape("target", 64, 96, 2, 4, 4), Shape("draft", 32, 48, 1, 2, 2)
SPECULATED = ("vicuna-68m", "llama-160m", "TinyLlama-1.1B")


def decoder(shape: Shape, options: Options) -> LlamaForCausalLM:
    """Random weights of a shape on the device, bfloat16 there."""
    config = LlamaConfig(
        vocab_size=VOCABULARY if not options.small else 96,
        hidden_size=shape.hidden,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        tie_word_embeddings=shape.tied,
        max_position_embeddings=4096,
        pad_token_id=None,
    )
    torch.manual_seed(0)
    kind = torch.bfloat16 if options.device == "cuda" else torch.float32
    before = torch.get_default_dtype()
    torch.set_default_dtype(kind)
    try:
        with torch.device(options.device):
            return LlamaForCausalLM(config).eval()
    finally:
        torch.set_default_dtype(before)


def prefix(model: LlamaForCausalLM, size: int) -> Tensor:
    """(1, size, D) random embeddings."""
    weight = model.get_input_embeddings().weight
    generator = torch.Generator(weight.device).manual_seed(1)
    shape = (1, size, weight.shape[1])
    return torch.randn(shape, dtype=weight.dtype, device=weight.device, generator=generator) * 0.02


def engines(model: LlamaForCausalLM, start: Tensor) -> dict[str, DecoderState]:
    """The ways to run a decoder, each with the prefix in its cache."""
    with torch.inference_mode():
        runner = GraphedLlama(model, start.shape[1] + LENGTH + 32)
        return {
            "transformers": DecoderState(model, start, lean=False),
            "lean": DecoderState(model, start, lean=True),
            "graphs": DecoderState(model, start, runner=runner),
        }


def feed_ms(state: DecoderState, n: int, options: Options) -> float:
    """Median milliseconds of feeding n ids and reading the last argmax."""
    taken = []
    for turn in range(3 + 4 * options.rounds):
        begin = now(options)
        state.feed([5] * n, keep=1)[-1].argmax().item()
        taken.append(now(options) - begin)
        state.rollback(n)
        if turn < 3:
            taken.clear()
    return statistics.median(taken) * 1e3


def steps(options: Options) -> Iterator[Row]:
    """Prefill, one id, and verification of gamma + 1 ids; eager, lean, with graphs."""
    target = SMALL_TARGET if options.small else TARGET
    drafts = (SMALL_DRAFT,) if options.small else DRAFTS
    header = "".join(f"{f'{g + 1} ids':>9}" for g in GAMMAS)
    yield Row(
        text=f"median ms; c: one id of the draft over one id of the target, both with graphs\n"
        f"{'decoder':<26}{'engine':<14}{'M params':>9}{'prefill':>9}{'1 id':>9}{header}{'v5':>7}"
        f"{'c':>7}"
    )
    base: float | None = None
    for shape in (target, *drafts):
        size = PREFIX_TARGET if shape is target else PREFIX_DRAFT
        model = decoder(shape, options)
        start = prefix(model, 16 if options.small else size)
        taken = []
        with torch.inference_mode():
            for _ in range(2 + options.rounds):
                begin = now(options)
                DecoderState(model, start)
                taken.append(now(options) - begin)
        prefill_ms = statistics.median(taken[2:]) * 1e3
        millions = sum(p.numel() for p in model.parameters()) / 1e6
        for engine, state in engines(model, start).items():
            one = feed_ms(state, 1, options)
            more = {g: feed_ms(state, g + 1, options) for g in GAMMAS}
            if engine == "graphs" and base is None:
                base = one
            c = one / base if base and engine == "graphs" else None
            record: dict[str, Any] = {
                "decoder": shape.name,
                "engine": engine,
                "params": millions * 1e6,
                "prefix": start.shape[1],
                "prefill_ms": prefill_ms,
                "one_ms": one,
                "verify_ms": more,
                "c": c,
            }
            text = f"{shape.name:<26}{engine:<14}{millions:>9.1f}{prefill_ms:>9.2f}{one:>9.3f}"
            text += "".join(f"{more[g]:>9.3f}" for g in GAMMAS)
            text += f"{more[5] / one:>7.2f}{f'{c:.3f}' if c else '':>7}"
            yield Row(text=text, record=record)
        del model
        if options.device == "cuda":
            torch.cuda.empty_cache()


class Calibrated:
    """Takes a draft's steps, then proposes the known text's ids with probability alpha each."""

    def __init__(self, state: DecoderState, text: list[int], alpha: float, seed: int) -> None:
        self._state, self._text = state, text
        self._agrees = np.random.default_rng(seed).random(len(text)) < alpha

    def propose(self, emitted: list[int], gamma: int) -> Proposal:
        """Gamma steps of the draft, what they find not looked at."""
        held, begin = self._state.length, len(emitted)
        wanted = max(begin - 1, 0)
        if held > wanted:
            self._state.rollback(held - wanted)
        pending = emitted[self._state.length :]
        ids: list[int] = []
        for k in range(gamma):
            if pending:
                self._state.feed(pending, keep=1)[-1].argmax().item()
            at = begin + k
            true = self._text[at] if at < len(self._text) else 0
            agrees = at < len(self._text) and self._agrees[at]
            ids.append(true if agrees else (true + 1) % 7 + 3)
            pending = ids[-1:]
        return Proposal(ids)


def speculation(options: Options) -> Iterator[Row]:
    """A 7B target with calibrated drafts: measured over predicted speed-up."""
    shapes = [s for s in DRAFTS if s.name in SPECULATED]
    target = decoder(SMALL_TARGET if options.small else TARGET, options)
    start = prefix(target, 16 if options.small else PREFIX_TARGET)
    length = 24 if options.small else LENGTH
    state = engines(target, start)["graphs"]
    limits = {"max_new_tokens": length, "eos_id": NEVER}
    text = plain_greedy(state, max_new_tokens=length, eos_id=NEVER)
    one, verify = feed_ms(state, 1, options), feed_ms(state, GAMMA + 1, options)
    plain_ms = seconds_of(partial(plain_greedy, state, **limits), options) * 1e3
    yield Row(
        text=f"alpha {ALPHA}, gamma {GAMMA}, {length} ids, {TEXTS} texts; target {one:.3f} ms a "
        f"step, v {verify / one:.2f}, plain {plain_ms:.1f} ms, formula tau "
        f"{tau_iid(ALPHA, GAMMA):.2f}\n"
        f"{'draft':<20}{'c':>7}{'tau':>7}{'predicted':>11}{'measured':>10}{'meas/pred':>11}"
        f"{'slower':>8}",
        record={"target_step_ms": one, "verify_ms": verify, "plain_ms": plain_ms},
    )
    for shape in [SMALL_DRAFT] if options.small else shapes:
        model = decoder(shape, options)
        draft = engines(model, prefix(model, 16 if options.small else PREFIX_DRAFT))["graphs"]
        step = feed_ms(draft, 1, options)
        rounds, drafted, spent, plain = [], 0, [], []
        for seed in range(TEXTS):
            run = partial(one_text, state, draft, text, seed, length)
            plain.append(seconds_of(partial(plain_greedy, state, **limits), options))
            spent.append(seconds_of(run, options))
            done = run()
            if done.ids != text:
                yield Row(text=f"{shape.name}: another text than plain decoding", passed=False)
            rounds += [r.count for r in done.rounds]
            drafted += sum(len(r.drafted) for r in done.rounds)
        tau = metrics(Counts.of_clip(rounds, GAMMA)).tau_incl_bonus
        steps_saved = tau - TEXTS / len(rounds)  # plain decoding gets the first id for nothing
        predicted = steps_saved / (drafted / len(rounds) * step / one + verify / one)
        measured = sum(plain) / sum(spent)
        slower = sum(a > b for a, b in zip(spent, plain, strict=True)) / TEXTS
        yield Row(
            text=f"{shape.name:<20}{step / one:>7.3f}{tau:>7.2f}{predicted:>11.2f}{measured:>10.2f}"
            f"{measured / predicted:>11.2f}{slower:>8.0%}",
            record={
                "draft": shape.name,
                "c": step / one,
                "v": verify / one,
                "tau": tau,
                "predicted": predicted,
                "measured": measured,
                "slower_share": slower,
            },
        )


def one_text(
    target: DecoderState, draft: DecoderState, text: list[int], seed: int, length: int
) -> Speculation:
    """One text with a calibrated draft."""
    proposer = Calibrated(draft, text, ALPHA, seed)
    return speculate(target, proposer, gamma=GAMMA, max_new_tokens=length, eos_id=NEVER)


def seconds_of(run: "partial[Any]", options: Options) -> float:
    """Shortest of three runs."""
    taken = []
    for _ in range(3):
        begin = now(options)
        run()
        taken.append(now(options) - begin)
    return min(taken)
