"""Command lines that make models: train a target, cache its texts, distil drafts."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from egotriad.alignment import target_outputs
from egotriad.alignment.cli_parts import (
    TEXT_ONLY_FOLDER,
    PlaceFlags,
    TargetOptionFlags,
    model_app,
    placement,
)
from egotriad.alignment.draft_shape import DraftShape
from egotriad.alignment.train_draft import DraftTraining, train_draft_on_shards
from egotriad.alignment.train_target import TargetTraining, train_target_on_shards
from egotriad.alignment.training import Progress
from egotriad.manifests.cli import finish, run_app
from egotriad.manifests.progress import Meter
from egotriad.models.card import CardFacts

__all__ = ["cache_targets", "train_draft", "train_target"]

TargetFlags = Annotated[TargetTraining, Parameter(name="*")]
DraftFlags = Annotated[DraftTraining, Parameter(name="*")]
ShapeFlags = Annotated[DraftShape, Parameter(name="*", negative_iterable=())]


def train_target(tokens: Sequence[str] | None = None) -> int:
    """`train-target`: a tiny event-camera target that narrates what it sees."""
    return run_app(lambda _: model_app("train-target", _train_target), tokens)


def cache_targets(tokens: Sequence[str] | None = None) -> int:
    """`cache-targets`: the target's own greedy text for every clip."""
    return run_app(lambda _: model_app("cache-targets", _cache_targets), tokens)


def train_draft(tokens: Sequence[str] | None = None) -> int:
    """`train-draft`: an IMU draft and its text-only twin, distilled on the target's texts."""
    return run_app(lambda _: model_app("train-draft", _train_draft), tokens)


def _train_target(
    *, shards: str, out: Path, config: TargetFlags | None = None, json: bool = False
) -> int:
    """Train a tiny EventGPT-shaped target on the train split of shards.

    Args:
        shards: folder of a build with events and narrations.
        out: folder of the target.
        config: how to train.
        json: print the result as one line of JSON.
    """
    with Meter() as meter:
        trained = train_target_on_shards(shards, out, config, progress=_steps(meter, ""))
    return _trained(trained.meta, out, as_json=json)


def _cache_targets(
    *,
    shards: str,
    target: Path,
    out: Path,
    max_new_tokens: int = 32,
    options: TargetOptionFlags | None = None,
    place: PlaceFlags | None = None,
    json: bool = False,
) -> int:
    """Write the target's own greedy text for every clip and span.

    Args:
        shards: folder of a build.
        target: folder of the target.
        out: the Parquet file.
        max_new_tokens: longest text in ids, its end included.
        options: what a published target is told.
        place: where the target runs.
        json: print the result as one line of JSON.
    """
    outputs = target_outputs.cache_targets(
        shards,
        target,
        out,
        max_new_tokens=max_new_tokens,
        options=options,
        placement=placement(place, target),
    )
    distinct = len({row.text for row in outputs})
    return finish(
        {"out": str(out), "texts": len(outputs), "distinct": distinct, **outputs.meta},
        as_json=json,
        show=lambda console: console.print(
            f"{len(outputs)} texts, {distinct} different ones, in {out}", highlight=False
        ),
    )


def _train_draft(
    *,
    shards: str,
    target: Path,
    outputs: Path,
    out: Path,
    draft: str = "imu",
    twin: bool = True,
    merge: bool = False,
    licence: str | None = None,
    target_tokenizer: Path | None = None,
    config: DraftFlags | None = None,
    shape: ShapeFlags | None = None,
    json: bool = False,
) -> int:
    """Distil a draft on the target's texts of the train split.

    Args:
        shards: folder of a build.
        target: folder of the target.
        outputs: the target's texts on these shards (cache-targets).
        out: folder of the draft.
        draft: which kind of draft.
        twin: train the text-only draft in OUT/text-only too, in the same way; without it nothing
            shows what the sensor adds.
        merge: save also the weights of a published decoder that training left as they were, an
            adapter folded in; without it the folder names the decoder, and needs it.
        licence: of the draft as the Hub calls it (apache-2.0, other), for its model card.
        target_tokenizer: LLaMA's tokenizer.json or tokenizer.model, where the target's folder has
            none.
        config: how to train.
        shape: what the draft is made of.
        json: print the result as one line of JSON.
    """
    shape = shape or DraftShape()
    train = partial(
        train_draft_on_shards,
        shards,
        target,
        outputs,
        config=config,
        decoder=shape.decoder_choice(),
        whole=merge,
        card=CardFacts(licence=licence),
        tokenizer_file=target_tokenizer,
    )
    with Meter() as meter:
        trained = train(
            out=out,
            draft=draft,
            model_config=shape.of(draft),
            encoder=shape.loaded_encoder() if draft == "imu" else None,
            meta=shape.meta() if draft == "imu" else None,
            progress=_steps(meter, f"{draft} "),
        )
        meta, tokens = trained.meta, getattr(trained.model, "tokens", 10)
        del trained  # a published decoder is read again for the twin
        if twin and draft != "text":
            train(
                out=out / TEXT_ONLY_FOLDER,
                draft="text",
                model_config=shape.text(tokens),
                progress=_steps(meter, "text-only "),
            )
    return _trained(meta, out, as_json=json)


def _steps(meter: Meter, prefix: str) -> Progress:
    def show(stage: str, done: int, total: int, loss: float) -> None:
        meter(f"{prefix}{stage} steps", done, total)

    return show


def _trained(meta: dict[str, Any], out: Path, *, as_json: bool) -> int:
    losses = ", ".join(f"{stage} loss {loss:.3f}" for stage, loss in meta["losses"].items())
    clips = meta["trained_on"]["clips"]
    return finish(
        {"out": str(out), **meta},
        as_json=as_json,
        show=lambda console: console.print(
            f"trained on {clips} clips, {losses}; in {out}", highlight=False
        ),
    )
