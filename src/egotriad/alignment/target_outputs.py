"""The target's own greedy text for every clip and span, kept in one Parquet file.

Drafts learn from it, and acceptance is judged against it: a draft has to guess what the target
says, not what is true. The file names the shards, the target and the tokenizer it belongs to.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from egotriad.alignment.model_options import TargetOptions
from egotriad.manifests import Clip
from egotriad.manifests.errors import CheckpointError, ClipRejected, EvaluationError
from egotriad.manifests.files import atomic
from egotriad.manifests.shards import read_shards, shards_sha256
from egotriad.models.conditioned import ConditionedLM
from egotriad.models.loading import load_target, model_sha256
from egotriad.models.placement import Placement
from egotriad.models.tokenizer import answer_text, tokenizer_sha256

__all__ = [
    "TargetOutput",
    "TargetOutputs",
    "cache_targets",
    "evaluation_span_index",
    "generate_outputs",
    "read_target_outputs",
    "write_target_outputs",
]

SCHEMA_VERSION = "1"
META_KEY = b"egotriad.target_outputs"

SCHEMA = pa.schema(
    [
        pa.field("window_id", pa.string(), nullable=False),
        pa.field("span_index", pa.int32(), nullable=False),
        pa.field("recording", pa.string(), nullable=False),
        pa.field("wearer", pa.string()),
        pa.field("split", pa.string(), nullable=False),
        pa.field("output_ids", pa.list_(pa.field("element", pa.int32(), nullable=False))),
        pa.field("text", pa.string(), nullable=False),
        pa.field("finish_reason", pa.string(), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetOutput:
    """What the target says about one event span.

    Attributes:
        window_id, span_index: which span of which clip.
        recording, wearer, split: the clip's.
        output_ids: greedy ids, EOS included when it came.
        text: what they say.
        finish_reason: eos | length.
    """

    window_id: str
    span_index: int
    recording: str
    wearer: str | None
    split: str
    output_ids: tuple[int, ...]
    text: str
    finish_reason: str


@dataclass(frozen=True, slots=True)
class TargetOutputs:
    """All rows of a file in its order, and what they belong to.

    Attributes:
        rows: one per clip and span.
        meta: shards_sha256, target_sha256, tokenizer_sha256, max_new_tokens, rejected (clips left
            out, by reason), prompt, prompt_ids, precision.
    """

    rows: tuple[TargetOutput, ...]
    meta: dict[str, Any]

    def __iter__(self) -> Iterator[TargetOutput]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def check_belongs_to(self, **expected: str) -> None:
        """Nothing when made from these; keys: prompt, shards_, target_ and tokenizer_sha256.

        Raises:
            EvaluationError: for other shards, or another prompt.
            CheckpointError: for another target or tokenizer.
        """
        for key, need in expected.items():
            if self.meta.get(key) != need:
                what = key.removesuffix("_sha256")
                error = CheckpointError if what in ("target", "tokenizer") else EvaluationError
                kind = "sha256 " if key.endswith("_sha256") else ""
                raise error(
                    f"target outputs were made with other {what} ({kind}{self.meta.get(key)}, "
                    f"need {need}); run cache-targets again"
                )

    def check_as_long_as(self, max_new_tokens: int) -> None:
        """Nothing when the texts were given room for so many ids.

        Raises:
            EvaluationError: when they were cut off before.
        """
        recorded = int(self.meta["max_new_tokens"])
        if recorded < max_new_tokens:
            raise EvaluationError(
                f"target outputs were cut after {recorded} ids, need {max_new_tokens}; run "
                f"cache-targets again with --max-new-tokens {max_new_tokens}, or ask for fewer"
            )


def evaluation_span_index(clip: Clip) -> int:
    """Which of a clip's event spans evaluation looks at: the middle one."""
    return len(clip.event_spans) // 2


def generate_outputs(
    clips: Iterable[Clip],
    target: ConditionedLM,
    tokenizer: PreTrainedTokenizerFast,
    *,
    max_new_tokens: int = 32,
    batch: int = 64,
    rejected: Counter[str] | None = None,
) -> Iterator[TargetOutput]:
    """The target's greedy text on every span of every clip, in order.

    Args:
        clips: read once, a batch at a time.
        target: in eval mode.
        tokenizer: the target's.
        max_new_tokens: EOS included.
        batch: spans decoded together.
        rejected: counts, by reason, the clips that the target cannot see.
    """
    waiting: list[tuple[Clip, int, Tensor]] = []
    for clip in clips:
        try:
            prepared = [target.prepare(clip, span) for span in clip.event_spans]
        except ClipRejected as exc:
            if rejected is not None:
                rejected[exc.reason] += 1
            continue
        for index, inputs in enumerate(prepared):
            if len(waiting) == batch or (waiting and waiting[-1][2].shape != inputs.shape):
                yield from decode(waiting, target, tokenizer, max_new_tokens)
                waiting = []
            waiting.append((clip, index, inputs))
    if waiting:
        yield from decode(waiting, target, tokenizer, max_new_tokens)


def decode(
    waiting: list[tuple[Clip, int, Tensor]],
    target: ConditionedLM,
    tokenizer: PreTrainedTokenizerFast,
    max_new_tokens: int,
) -> Iterator[TargetOutput]:
    """One batch of prepared spans, decoded."""
    texts = target.greedy(torch.stack([inputs for _, _, inputs in waiting]), max_new_tokens)
    for (clip, index, _), ids in zip(waiting, texts, strict=True):
        yield TargetOutput(
            window_id=clip.window_id,
            span_index=index,
            recording=clip.recording,
            wearer=clip.wearer,
            split=clip.split,
            output_ids=tuple(ids),
            text=answer_text(tokenizer, ids),
            finish_reason="eos" if ids[-1] == target.eos_id else "length",
        )


def write_target_outputs(path: Path, rows: Iterable[TargetOutput], meta: Mapping[str, Any]) -> None:
    """Writes the file atomically; equal rows and meta give equal bytes."""
    record = json.dumps({"schema_version": SCHEMA_VERSION, **meta}, sort_keys=True)
    table = pa.Table.from_pylist(
        [asdict(row) for row in rows], schema=SCHEMA.with_metadata({META_KEY: record.encode()})
    )
    with atomic(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_target_outputs(path: Path) -> TargetOutputs:
    """The rows of a target output file and what they belong to.

    Raises:
        EvaluationError: when it is missing, no such file, or of another version.
    """
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as exc:
        raise EvaluationError(f"{path}: cannot be read ({exc}); run cache-targets") from exc
    record = json.loads((table.schema.metadata or {}).get(META_KEY, b"{}"))
    version = record.pop("schema_version", None)
    if version != SCHEMA_VERSION or table.schema.names != SCHEMA.names:
        raise EvaluationError(
            f"{path}: is no target output file of schema {SCHEMA_VERSION} (schema {version}, "
            f"columns {table.schema.names}); run cache-targets again"
        )
    rows = (
        TargetOutput(**{**row, "output_ids": tuple(row["output_ids"])}) for row in table.to_pylist()
    )
    return TargetOutputs(tuple(rows), record)


def cache_targets(
    shards: Path | str,
    target_folder: Path,
    out: Path,
    *,
    max_new_tokens: int = 32,
    batch: int = 64,
    options: TargetOptions | None = None,
    placement: Placement | None = None,
) -> TargetOutputs:
    """Runs a target over all splits of a build and writes its texts.

    Args:
        shards: folder, URL or Hub id of the build.
        target_folder: of `train-target`, or as its authors publish it.
        out: the Parquet file.
        max_new_tokens: EOS included.
        batch: spans decoded together.
        options: what a published target is told.
        placement: device and precision of the target (see `load_target`).

    Raises:
        EvaluationError: when no clip could be shown to the target.
        CheckpointError: when the target cannot be loaded.
        UsageError: when a target takes no such option.
    """
    said = (options or TargetOptions()).values()
    target, tokenizer, _ = load_target(target_folder, placement=placement, **said)
    rejected: Counter[str] = Counter()
    rows = tuple(
        generate_outputs(
            read_shards(shards),
            target,
            tokenizer,
            max_new_tokens=max_new_tokens,
            batch=batch,
            rejected=rejected,
        )
    )
    if not rows:
        raise EvaluationError(f"no clip could be shown to the target ({dict(rejected)})")
    meta = {
        "shards_sha256": shards_sha256(shards),
        "target_sha256": model_sha256(target_folder),
        "tokenizer_sha256": tokenizer_sha256(tokenizer),
        "max_new_tokens": max_new_tokens,
        "rejected": dict(sorted(rejected.items())),
        "prompt": target.config.template,
        "prompt_ids": [*target.prompt.before, *target.prompt.after],
        "precision": str(next(target.decoder.parameters()).dtype).removeprefix("torch."),
    }
    write_target_outputs(out, rows, meta)
    return TargetOutputs(rows, meta)
