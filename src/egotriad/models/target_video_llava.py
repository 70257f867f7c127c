"""Video-LLaVA as transformers packages it: 8 frames -> CLIP -> projector -> 2056 tokens -> Vicuna.

`pixels (B, 8, 3, 224, 224) -> CLIP, last layer but one (B, 8, 257, 1024) -> projector
(B, 8 x 257 = 2056, 4096) -> [prompt | video tokens | prompt]`

Weights: hub `LanguageBind/Video-LLaVA-7B-hf` (three safetensors shards, 14.7 GB; Apache-2.0 on its
card, base Llama 2 Community). Paper: Lin et al., Video-LLaVA: Learning United Visual Representation
by Alignment Before Projection, EMNLP 2024. Modules, keys and numbers are those of
`VideoLlavaForConditionalGeneration` (transformers 5), put together from its parts so that prompt,
cache and rollback are those of every target here; keys of 4.x and 5.x both load. The image tower is
left out: no image is ever shown.

**Where the frames come from.** Shards hold events, not RGB. The span is cut into 8 stretches of
equal time and each is drawn as EventGPT draws events (OFF blue, ON red, on white), so the target
looks at a video of events, of any length. Its authors trained it on RGB: expect worse texts
than its papers show.

Rows of its output layer from 32,000 on (`<image>`, `<video>`, `<pad>`, then 61 rows of padding) are
random draws around the mean embedding and could win; they are left out when loading, which is -inf
for their logits in plain and speculative decoding alike. Pixels are prepared without torchvision.
"""

from collections import OrderedDict
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from egotriad.converters.event_frames import event_image
from egotriad.manifests import Clip, Span
from egotriad.manifests.errors import CheckpointError, ClipRejected
from egotriad.models.checkpoints import KeyMap
from egotriad.models.clip_tower import ClipTowerConfig, build_tower, clip_pixels, tower_config
from egotriad.models.conditioned import ConditionedConfig, ConditionedLM
from egotriad.models.decoder import DecoderConfig
from egotriad.models.decoders import VICUNA_7B, decoder_config
from egotriad.models.fit import Source
from egotriad.models.prompt import ANSWER_CUE

__all__ = ["TARGET", "VideoLlava", "VideoLlavaConfig", "video_llava_prompt"]

LAYER = -2
"""Of the tower's hidden states, as in LLaVA."""
LLAMA_DEFAULTS = {
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
}
"""What a `text_config` leaves out because it is transformers' own default."""


def video_llava_prompt(question: str) -> str:
    """The model's template around a question."""
    return f"USER: <video>\n{question}{ANSWER_CUE}"


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoLlavaConfig(ConditionedConfig):
    """Settings of Video-LLaVA; the defaults are Video-LLaVA-7B-hf's.

    Attributes:
        tower: shape of CLIP.
        frames: images per span (equal times).
    """

    template: str = video_llava_prompt("What is the wearer doing?")
    decoder: DecoderConfig = VICUNA_7B
    tower: ClipTowerConfig = field(default_factory=lambda: ClipTowerConfig(image_size=224))
    frames: int = 8


class VideoLlava(ConditionedLM):
    """Answers a question about a video of a span's events."""

    kind: ClassVar[str] = "target"
    name: ClassVar[str] = "video_llava"
    placeholder: ClassVar[str] = "<video>"
    Config: ClassVar[type[ConditionedConfig]] = VideoLlavaConfig
    keys: ClassVar[KeyMap] = KeyMap(
        take=(
            ("video_tower.vision_model.", "video_tower."),  # transformers 4
            ("model.video_tower.vision_model.", "video_tower."),
            ("model.video_tower.", "video_tower."),
            ("multi_modal_projector.", "projector."),
            ("model.multi_modal_projector.", "projector."),
            ("language_model.model.", "decoder.model."),
            ("language_model.lm_head.", "decoder.lm_head."),
            ("model.language_model.", "decoder.model."),
            ("lm_head.", "decoder.lm_head."),
        ),
        ignore=("image_tower.", "model.image_tower."),
    )
    options: ClassVar[tuple[str, ...]] = ("question",)
    config: VideoLlavaConfig

    def __init__(self, config: VideoLlavaConfig, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__(config, tokenizer)
        width = config.decoder.hidden_size
        self.video_tower = build_tower(config.tower)
        self.projector = nn.Sequential(
            OrderedDict(
                linear_1=nn.Linear(config.tower.hidden_size, width),
                act=nn.GELU(),
                linear_2=nn.Linear(width, width),
            )
        )

    @classmethod
    def small(cls) -> VideoLlavaConfig:
        """Images of 28 px in 8 x 5 tokens."""
        tower = ClipTowerConfig(
            hidden_size=32, intermediate_size=48, layers=2, heads=2, image_size=28
        )
        return VideoLlavaConfig(decoder=DecoderConfig(layers=2), tower=tower)

    @classmethod
    def published(
        cls, folder: Path, values: dict[str, Any], options: dict[str, Any]
    ) -> tuple[VideoLlavaConfig, list[Source]]:
        """Settings and files of a folder as the hub has it.

        Args:
            folder: with config.json and weights.
            values: its config.json.
            options: `question`.

        Raises:
            CheckpointError: when it is another model than Video-LLaVA-7B-hf.
        """
        where = folder / "config.json"
        if values.get("vision_feature_layer", LAYER) != LAYER:
            raise CheckpointError(
                f"{where}: vision_feature_layer {values['vision_feature_layer']}, need {LAYER}"
            )
        text = {**LLAMA_DEFAULTS, **(values.get("text_config") or {})}
        vision = {"image_size": 224, **(values.get("vision_config") or {})}
        config = VideoLlavaConfig(
            decoder=decoder_config(text, where), tower=tower_config(vision, where)
        )
        if "question" in options:
            config = replace(config, template=video_llava_prompt(options["question"]))
        return config, [Source(folder, cls.keys)]

    @property
    def tokens(self) -> int:
        """Video tokens of a span."""
        return self.config.frames * self.config.tower.tokens

    def prepare(self, clip: Clip, span: Span) -> Tensor:
        """float32 (F, 3, S, S): the span's events as a video of F images (see the module).

        Raises:
            ClipRejected: `no-events` without an event stream.
        """
        if clip.events is None:
            raise ClipRejected("no-events", f"{clip.window_id}: no events, there is no video")
        count = self.config.frames
        length = span.end_us - span.start_us
        bounds = [span.start_us + length * k // count for k in range(count + 1)]
        images = [event_image(clip.events.between(lo, hi)) for lo, hi in pairwise(bounds)]
        return clip_pixels(images, self.config.tower.image_size)

    def condition(self, inputs: Tensor) -> Tensor:
        """(B, F N, D) video tokens of pixels (B, F, 3, S, S), frame after frame, CLS kept."""
        weights = next(self.projector.parameters())
        pixels = inputs.flatten(0, 1).to(weights.device, weights.dtype)
        hidden = self.video_tower(pixels, output_hidden_states=True).hidden_states[LAYER]
        return self.projector(hidden).unflatten(0, inputs.shape[:2]).flatten(1, 2)


TARGET = VideoLlava
