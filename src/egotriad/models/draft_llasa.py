"""LLaSA: LIMU-BERT as the eye of a LLaVA-1.5, Vicuna 7B or 13B behind it.

`imu (B, 120, 6), accel / 9.8 -> LIMU-BERT (B, 120, 72) -> projector (B, 120, D)
-> [prompt | 120 IMU tokens | prompt]`

Homepage: https://github.com/BASHLab/LLaSA (read at commit c56b199; repository Hippocratic Licence
HL3, its LLaVA fork Apache-2.0). Weights: hub `BASH-Lab/LLaSA-7B`, `BASH-Lab/LLaSA-13B` (their own
licence not confirmed; base Vicuna v1.5, Llama 2 Community). Paper: Imran et al., LLaSA, 2024,
arXiv 2406.14498. 6,755,547,488 and 13,042,509,152 weights.

As a draft for a 7B target it cannot save time, whatever is accepted: it is a reference and a
teacher. Traps of the release, and what is done about them here:

- its loader looks for "llava" in the folder's name, so a folder called LLaSA-7B is loaded without
  its tower: here config.json decides;
- its tower is read from `../model_4.pt`, which is published nowhere. Where the checkpoint holds no
  tower it is refused, unless another LIMU-BERT's file is given and allowed; the record says so;
- trained with one prompt (`vicuna_v1`), it falls back to another (`llava_v0`) when asked in a
  folder of its own name: the first is the default here, all three can be chosen;
- accelerations are divided by 9.8 in one place or another: here once, by the encoder's contract.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from egotriad.manifests.errors import CheckpointError, UsageError
from egotriad.models.checkpoints import KeyMap, read_headers
from egotriad.models.conditioned import ConditionedConfig
from egotriad.models.decoder import DecoderConfig
from egotriad.models.decoders import VICUNA_7B, decoder_config
from egotriad.models.draft_imu import ImuDraft, ImuDraftConfig
from egotriad.models.fit import Source
from egotriad.models.limu_bert import KEYS as LIMU_BERT_KEYS
from egotriad.models.limu_bert import WIDTH
from egotriad.models.prompt import ANSWER_CUE, OLD_CUE
from egotriad.models.settings import require_one_of
from egotriad.models.target_eventgpt import SYSTEM as HUMAN_SYSTEM
from egotriad.models.target_llama import SYSTEM as USER_SYSTEM

__all__ = ["DRAFT", "LlasaConfig", "LlasaDraft", "LlasaPrompt", "llasa_prompt"]

LlasaPrompt = Literal["vicuna_v1", "llava_v0", "llava_v1"]
TOWER = "model.vision_tower.vision_tower.0."
RELEASED = {
    "mm_hidden_size": WIDTH,
    "mm_projector_type": "mlp2x_gelu",
    "mm_use_im_start_end": False,
    "mm_use_im_patch_token": False,
}
"""What the released config.json says; other values are of another LLaVA."""
SENSOR_SENTENCES = (
    "The user provides accelerometer and gyroscope sensor data besides the questions. The "
    "assistant understands and analyzes the sensor data in the context of the questions."
)


def llasa_prompt(question: str, prompt: LlasaPrompt = "vicuna_v1") -> str:
    """A template of the release (`LLaSA/llava/conversation.py`) around a question.

    Args:
        question: what is asked.
        prompt: `vicuna_v1`, which it was trained with; `llava_v1`, which names the sensors (no
            space before "The user", as there); `llava_v0`, whose answers end with `###`.

    Raises:
        UsageError: another prompt.
    """
    require_one_of("prompt", prompt, LlasaPrompt)
    if prompt == "llava_v0":
        return f"{HUMAN_SYSTEM}###Human: <imu>\n{question}{OLD_CUE}"
    system = USER_SYSTEM if prompt == "vicuna_v1" else HUMAN_SYSTEM + SENSOR_SENTENCES
    return f"{system} USER: <imu>\n{question}{ANSWER_CUE}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LlasaConfig(ImuDraftConfig):
    """Settings of LLaSA; the defaults are LLaSA-7B's."""

    template: str = llasa_prompt("What is the wearer doing?")
    decoder: DecoderConfig = VICUNA_7B
    encoder: str = "limu_bert"


class LlasaDraft(ImuDraft):
    """Answers a question about 6 s of IMU, one token per sample at 20 Hz."""

    name: ClassVar[str] = "llasa"
    Config: ClassVar[type[ConditionedConfig]] = LlasaConfig
    keys: ClassVar[KeyMap] = KeyMap(
        take=(
            (TOWER, "encoder.transformer."),
            ("model.mm_projector.", "projector."),
            ("model.", "decoder.model."),
            ("lm_head.", "decoder.lm_head."),
        )
    )
    substitute_keys: ClassVar[KeyMap] = KeyMap(
        take=tuple((theirs, f"encoder.{ours}") for theirs, ours in LIMU_BERT_KEYS.take),
        ignore=LIMU_BERT_KEYS.ignore,
    )
    options: ClassVar[tuple[str, ...]] = (
        "question",
        "prompt",
        "samples",
        "substitute_encoder",
        "allow_substitute_encoder",
    )

    @classmethod
    def small(cls) -> LlasaConfig:
        """Three seconds of IMU in front of two layers."""
        settings = {"samples": 60, "trainable": True}
        return LlasaConfig(encoder_settings=settings, decoder=DecoderConfig(layers=2))

    @classmethod
    def published(
        cls, folder: Path, values: dict[str, Any], options: dict[str, Any]
    ) -> tuple[LlasaConfig, list[Source]]:
        """Settings and files of a folder in the authors' format.

        Args:
            folder: as they publish it.
            values: its config.json.
            options: `question`; `prompt` (see `llasa_prompt`); `samples` at 20 Hz, fewer than 120
                for clips shorter than 6 s; `substitute_encoder`, a file of LIMU-BERT, with
                `allow_substitute_encoder`, where the checkpoint lacks its tower.

        Raises:
            CheckpointError: when it is another LLaVA.
            UsageError: a substitute that is not allowed, or not needed.
        """
        where = folder / "config.json"
        odd = {key: values[key] for key, said in RELEASED.items() if values.get(key, said) != said}
        if odd:
            need = {key: RELEASED[key] for key in odd}
            raise CheckpointError(f"{where}: {odd}, LLaSA has {need}; this is another LLaVA")
        question = options.get("question", "What is the wearer doing?")
        config = LlasaConfig(
            template=llasa_prompt(question, options.get("prompt", "vicuna_v1")),
            decoder=decoder_config(values, where),
        )
        if "samples" in options:
            config = replace(config, encoder_settings={"samples": options["samples"]})
        sources = [Source(folder, cls.keys)]
        substitute = options.get("substitute_encoder")
        if substitute is not None:
            _require_allowed(folder, options)
            sources.append(Source(Path(substitute), cls.substitute_keys))
        return config, sources


def _require_allowed(folder: Path, options: dict[str, Any]) -> None:
    """Nothing when another LIMU-BERT may stand for a tower that is not there."""
    if any(key.startswith(TOWER) for key in read_headers(folder)):
        raise UsageError(f"{folder}: holds its own tower; leave substitute_encoder out")
    if not options.get("allow_substitute_encoder"):
        raise UsageError(
            f"{folder}: its projector was trained behind another LIMU-BERT than "
            f"{Path(options['substitute_encoder']).name}, so texts will be worse than LLaSA's; set "
            "allow_substitute_encoder to go on, which the record will say"
        )


DRAFT = LlasaDraft
