"""EventGPT: five event frames -> CLIP -> projector, adaptor -> 582 tokens -> Vicuna-7B.

`pixels (B, 5, 3, 336, 336) -> CLIP, last layer (B, 5, 577, 1024) -> projector, adaptor
(B, 5, 577, 4096) -> [5 temporal | 577 spatial] (B, 582, 4096) -> [prompt | event tokens | prompt]`

Homepage: https://github.com/XduSyL/EventGPT (read at commit 4680549; the README says Apache-2.0, no
licence file; the weights state none, their base is Llama 2 Community). Weights: `EventGPT-7b`, a
folder on Google Drive that the README links. Paper: Liu et al., EventGPT: Event Stream
Understanding with Multimodal Large Language Models, CVPR 2025. 7,079,684,096 weights.

It looks at less than 100 ms (trained on 50 ms) and gives 582 tokens whatever their length. Traps of
the release, and what is done about them here:

- its classes cannot load in transformers 5 (they load the tower inside `__init__`): the tower is
  built from its config and filled from the checkpoint, or from CLIP's own folder;
- its inference script may add an untrained `<ev_patch>` (id 32000): ids beyond LLaMA's 32,000 are
  left out when loading, which is -inf for their logits in plain and speculative decoding alike;
- `<ev_start>` and `<ev_end>` are text, not special ids (its measured prompt of 60 ids says so);
- its images end at the last row and column that their own events reach, so geometry moves from
  image to image; here they have the sensor's size (`reference_compat` for theirs).
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from egotriad.converters.event_frames import eventgpt_frames, eventgpt_frames_cropped
from egotriad.manifests import Clip, Span
from egotriad.manifests.errors import CheckpointError, ClipRejected, UsageError
from egotriad.models.checkpoints import KeyMap
from egotriad.models.clip_tower import (
    ClipTowerConfig,
    build_tower,
    clip_pixels,
    read_tower_config,
)
from egotriad.models.conditioned import ConditionedConfig, ConditionedLM
from egotriad.models.decoder import DecoderConfig
from egotriad.models.decoders import VICUNA_7B, decoder_config
from egotriad.models.fit import Source
from egotriad.models.prompt import ANSWER_CUE

__all__ = ["TARGET", "EventGpt", "EventGptConfig", "eventgpt_prompt"]

SYSTEM = (
    "A chat between a curious human and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the human's questions."
)
LONGEST = 2048
"""Positions to which the released code cuts a prompt with its event tokens."""
TOWER = "model.visual_tower.visual_tower."


def eventgpt_prompt(question: str) -> str:
    """The released template (`eventgpt_v1`) around a question."""
    return f"{SYSTEM} USER: <ev_start><event><ev_end>\n{question}{ANSWER_CUE}"


@dataclass(frozen=True, slots=True, kw_only=True)
class EventGptConfig(ConditionedConfig):
    """Settings of EventGPT; the defaults are EventGPT-7b's.

    Attributes:
        tower: shape of CLIP.
        frames: event frames per span (equal event counts).
        reference_compat: images sized by their own events, as the released code draws them.
    """

    template: str = eventgpt_prompt("What is the wearer doing?")
    decoder: DecoderConfig = VICUNA_7B
    tower: ClipTowerConfig = field(default_factory=ClipTowerConfig)
    frames: int = 5
    reference_compat: bool = False


class EventGpt(ConditionedLM):
    """Answers a question about the events of a span of less than 100 ms."""

    kind: ClassVar[str] = "target"
    name: ClassVar[str] = "eventgpt"
    placeholder: ClassVar[str] = "<event>"
    Config: ClassVar[type[ConditionedConfig]] = EventGptConfig
    keys: ClassVar[KeyMap] = KeyMap(
        take=(
            (TOWER + "vision_model.", "visual_tower."),  # transformers 4
            (TOWER, "visual_tower."),
            ("model.visual_projector.", "visual_projector."),
            ("model.feature_adaptor.", "feature_adaptor."),
            ("model.", "decoder.model."),
            ("lm_head.", "decoder.lm_head."),
        )
    )
    tower_keys: ClassVar[KeyMap] = KeyMap(take=(("vision_model.", "visual_tower."),), others=True)
    options: ClassVar[tuple[str, ...]] = ("question", "reference_compat", "visual_tower")
    config: EventGptConfig

    def __init__(self, config: EventGptConfig, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__(config, tokenizer)
        positions = len(self.prompt.before) + len(self.prompt.after) + self.tokens
        if positions > LONGEST:
            raise UsageError(
                f"eventgpt: the prompt takes {positions} positions with its {self.tokens} event "
                f"tokens, the released code cuts at {LONGEST}; ask a shorter question"
            )
        width = config.decoder.hidden_size
        self.visual_tower = build_tower(config.tower)
        self.visual_projector = nn.Sequential(
            nn.Linear(config.tower.hidden_size, width), nn.GELU(), nn.Linear(width, width)
        )
        self.feature_adaptor = nn.Linear(width, width)

    @classmethod
    def small(cls) -> EventGptConfig:
        """Images of 28 px in 5 + 5 tokens."""
        tower = ClipTowerConfig(
            hidden_size=32, intermediate_size=48, layers=2, heads=2, image_size=28
        )
        return EventGptConfig(decoder=DecoderConfig(layers=2), tower=tower)

    @classmethod
    def published(
        cls, folder: Path, values: dict[str, Any], options: dict[str, Any]
    ) -> tuple[EventGptConfig, list[Source]]:
        """Settings and files of a folder in the authors' format.

        Args:
            folder: as they publish it.
            values: its config.json.
            options: `question`; `reference_compat`; `visual_tower`: CLIP's own folder, where the
                checkpoint does not hold the tower or does not say its shape.

        Raises:
            CheckpointError: when it is another model than the released code builds.
        """
        _require_released(values, folder)
        clip = options.get("visual_tower") or _local_tower(values, folder)
        config = EventGptConfig(
            decoder=decoder_config(values, folder / "config.json"),
            tower=ClipTowerConfig() if clip is None else read_tower_config(Path(clip)),
            reference_compat=bool(options.get("reference_compat", False)),
        )
        if "question" in options:
            config = replace(config, template=eventgpt_prompt(options["question"]))
        sources = [Source(folder, cls.keys)]
        if clip is not None and _has_weights(Path(clip)):
            sources.append(Source(Path(clip), cls.tower_keys))
        return config, sources

    @property
    def tokens(self) -> int:
        """Event tokens of a span: one per frame, then one per patch and CLS."""
        return self.config.frames + self.config.tower.tokens

    def prepare(self, clip: Clip, span: Span) -> Tensor:
        """float32 (F, 3, S, S): the span's events as EventGPT draws them, as CLIP looks at them.

        Raises:
            ClipRejected: `no-events` without an event stream, `few-events` when the released
                rule leaves an image without size.
            UsageError: when the span's events reach over 100 ms or more.
        """
        if clip.events is None:
            raise ClipRejected("no-events", f"{clip.window_id}: no events, EventGPT sees nothing")
        count, size = self.config.frames, self.config.tower.image_size
        if not self.config.reference_compat:
            return clip_pixels(list(eventgpt_frames(clip.events, span, count=count)), size)
        inside = len(clip.events.between(span.start_us, span.end_us))
        if inside < count:
            raise ClipRejected(
                "few-events", f"{clip.window_id}: {inside} events for {count} images"
            )
        return clip_pixels(eventgpt_frames_cropped(clip.events, span, count=count), size)

    def condition(self, inputs: Tensor) -> Tensor:
        """(B, F + N, D) event tokens of pixels (B, F, 3, S, S): temporal, then spatial.

        The tower's last layer before its final norm, CLS included; LLaVA takes the last but one
        without CLS.
        """
        weights = self.feature_adaptor.weight
        pixels = inputs.flatten(0, 1).to(weights.device, weights.dtype)
        patches = self.visual_tower(pixels).last_hidden_state  # (B F, N, C)
        tokens = self.feature_adaptor(self.visual_projector(patches))
        tokens = tokens.unflatten(0, inputs.shape[:2])  # (B, F, N, D)
        return torch.cat([tokens.mean(dim=2), tokens.mean(dim=1)], dim=1)


def _require_released(values: dict[str, Any], folder: Path) -> None:
    where = folder / "config.json"
    if "use_event_qformer" in values:
        raise CheckpointError(
            f"{where}: use_event_qformer asks for a module that the released code does not "
            "define; need a checkpoint without it"
        )
    if "event_feature_adaptor" not in values:
        raise CheckpointError(
            f"{where}: lacks event_feature_adaptor, so the released code would run it without "
            "its adaptor; need EventGPT-7b as released (trained through all three stages)"
        )


def _local_tower(values: dict[str, Any], folder: Path) -> Path | None:
    """CLIP's folder when the config names one that is here; the released config names a hub id."""
    named = values.get("mm_visual_tower")
    found = folder / str(named) if named else None  # an absolute path stays as it is
    return found if found is not None and (found / "config.json").is_file() else None


def _has_weights(folder: Path) -> bool:
    return any(folder.glob("*.safetensors")) or any(folder.glob("*.bin"))


TARGET = EventGpt
