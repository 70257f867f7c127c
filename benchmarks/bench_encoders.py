"""IMU encoders in the demo's draft: what each is worth, and what it costs.

    python benchmarks/bench_encoders.py DEMO [DEMO ...] --limu-bert FILE [--steps 400]

DEMO is a folder that `egotriad demo` has written; FILE is one of LIMU-BERT's published `.pt`. Every
encoder drives a draft that is distilled on the same clips, target texts, steps and seed; tau is
counted teacher-forced on the test split's middle spans (exact for a greedy loop), its interval is
over recordings, and the difference to `conv` is paired.
"""

import argparse
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from egotriad.alignment.acceptance import walk
from egotriad.alignment.bootstrap import difference_interval, ratio_interval, resample
from egotriad.alignment.loader_memory import pad_ids
from egotriad.alignment.target_outputs import evaluation_span_index, read_target_outputs
from egotriad.alignment.train_draft import DraftTraining, train_draft
from egotriad.manifests import Clip
from egotriad.manifests.shards import read_shards
from egotriad.models.conditioned import ConditionedLM
from egotriad.models.draft_imu import ImuDraftConfig
from egotriad.models.encoder_limu_bert import LimuBert, LimuBertConfig
from egotriad.models.folder import load_model
from egotriad.models.pooler import PoolerConfig

GAMMA = 5
LIMIT = 32
Sums = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One encoder in the draft; `trainable` says what happens to published weights, if any."""

    name: str
    encoder: str = "conv"
    settings: Mapping[str, Any] = field(default_factory=dict)
    pooler: PoolerConfig = field(default_factory=PoolerConfig)
    published: bool = False


THREE_SECONDS = {"samples": 60}
TO_TEN = PoolerConfig(kind="mean", factor=6)
VARIANTS = (
    Variant(name="conv (default)"),
    Variant(
        name="LIMU-BERT, random start",
        encoder="limu_bert",
        settings={**THREE_SECONDS, "trainable": True},
        pooler=TO_TEN,
    ),
    Variant(
        name="LIMU-BERT, published, frozen",
        encoder="limu_bert",
        settings=THREE_SECONDS,
        pooler=TO_TEN,
        published=True,
    ),
    Variant(
        name="LIMU-BERT, published, frozen, all 60 tokens",
        encoder="limu_bert",
        settings=THREE_SECONDS,
        published=True,
    ),
    Variant(
        name="LIMU-BERT, published, trained on",
        encoder="limu_bert",
        settings={**THREE_SECONDS, "trainable": True},
        pooler=TO_TEN,
        published=True,
    ),
)


def main() -> None:
    """Prints one Markdown table per demo."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("demos", type=Path, nargs="+")
    parser.add_argument("--limu-bert", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=400)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for demo in arguments.demos:
        print(f"\n{demo.name}\n")
        print("| encoder | weights | tokens | ms per window | training s | tau | tau - conv |")
        print("|---|---|---|---|---|---|---|")
        base: Sums | None = None
        for variant in VARIANTS:
            cells, sums = measure(demo, variant, arguments.limu_bert, arguments.steps, base)
            base = base or sums
            print("| " + " | ".join(cells) + " |", flush=True)


def measure(
    demo: Path, variant: Variant, weights: Path, steps: int, base: Sums | None
) -> tuple[list[str], Sums]:
    """The row of one encoder, and its accepted ids and rounds per recording."""
    _, tokenizer, _ = load_model(demo / "target")
    outputs = read_target_outputs(demo / "outputs.parquet")
    encoder = None
    if variant.published:
        encoder = LimuBert.load(weights, LimuBertConfig(**variant.settings))
    started = time.process_time()
    trained = train_draft(
        read_shards(demo / "shards", split="train", events=False),
        outputs,
        tokenizer,
        DraftTraining(steps=steps),
        model_config=ImuDraftConfig(
            encoder=variant.encoder, encoder_settings=variant.settings, pooler=variant.pooler
        ),
        encoder=encoder,
    )
    seconds = time.process_time() - started
    texts = {(row.window_id, row.span_index): row.output_ids for row in outputs}
    clips = list(read_shards(demo / "shards", split="test", events=False))
    sums = accepted_and_rounds(trained.model, clips, texts)
    chosen = resample(len(sums[0]))
    gap = "" if base is None else str(difference_interval(sums, base, chosen))
    draft: Any = trained.model
    cells = [
        variant.name,
        f"{sum(p.numel() for p in draft.encoder.parameters()):,}",
        str(draft.tokens),
        f"{milliseconds(draft.encoder):.2f}",
        f"{seconds:.0f}",
        str(ratio_interval(*sums, chosen)),
        gap,
    ]
    return cells, sums


@torch.inference_mode()
def accepted_and_rounds(
    model: ConditionedLM, clips: list[Clip], texts: Mapping[tuple[str, int], tuple[int, ...]]
) -> Sums:
    """Per recording, in order of their names: accepted ids plus rounds (tau's top), and rounds."""
    totals: dict[str, list[int]] = {}
    for clip in clips:
        index = evaluation_span_index(clip)
        ids = texts[clip.window_id, index]
        inputs = model.prepare(clip, clip.event_spans[index])[None]
        padded, _ = pad_ids([ids])
        guesses = model.teacher_forced(model.prefix(inputs), padded)[0].argmax(-1).tolist()
        matches = [guess == true for guess, true in zip(guesses, ids, strict=True)]
        rounds = walk(matches, GAMMA, max_new_tokens=LIMIT)
        total = totals.setdefault(clip.recording, [0, 0])
        total[0] += sum(each.emitted for each in rounds)
        total[1] += len(rounds)
    both = np.array([totals[name] for name in sorted(totals)], np.float64)
    return both[:, 0], both[:, 1]


@torch.inference_mode()
def milliseconds(encoder: Any, repeats: int = 50) -> float:
    """CPU time of one window, median."""
    inputs = torch.randn(1, *encoder.contract.shape)
    times = []
    for _ in range(repeats):
        started = time.process_time()
        encoder(inputs)
        times.append(time.process_time() - started)
    return float(np.median(times)) * 1e3


if __name__ == "__main__":
    main()
