"""Systems by name: which encoder, pooler, projector and decoder make a published or usual draft.

```
system               IMU tokens
llasa-7b, llasa-13b  120   LIMU-BERT, 6 s                        loaded (LLaSA)
onellm-7b             32   OneLLM's path, 2 s                    loaded (OneLLM)
limu-bert-llama       15   LIMU-BERT, 6 s, means of 8            trained here, as all below
limu-bert-x-llama     20   LIMU-BERT-X, 1 s
primus-llama           1   PRIMUS, 5 s, pooled
imu2clip-llama         1   IMU2CLIP, 5 s, pooled
imagebind-llama        1   ImageBind, 5 s, linear: PandaGPT's layout
chronos-llama         14   Chronos-Bolt tiny, 2 s
sensorllm           1206   Chronos-T5 large, 2 s, a token per sample and channel
```
`system_config(name)` is what `train_draft` takes; the encoder's weights are given beside it.
Listing them imports neither torch nor transformers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from egotriad.manifests.errors import UnknownPlugin, UsageError
from egotriad.models.decoder_config import DecoderConfig
from egotriad.models.decoders import DECODERS

if TYPE_CHECKING:
    from egotriad.models.draft_imu import ImuDraftConfig

__all__ = ["PANDAGPT", "SYSTEMS", "System", "refuse_pandagpt", "system", "system_config"]

CHRONOS_T5_LARGE: Mapping[str, Any] = {
    "architectures": ["T5ForConditionalGeneration"],
    "chronos_config": {
        "context_length": 512,
        "eos_token_id": 1,
        "model_type": "seq2seq",
        "n_special_tokens": 2,
        "n_tokens": 4096,
        "num_samples": 20,
        "pad_token_id": 0,
        "prediction_length": 64,
        "temperature": 1.0,
        "tokenizer_class": "MeanScaleUniformBins",
        "tokenizer_kwargs": {"high_limit": 15.0, "low_limit": -15.0},
        "top_k": 50,
        "top_p": 1.0,
        "use_eos_token": True,
    },
    "d_ff": 4096,
    "d_kv": 64,
    "d_model": 1024,
    "feed_forward_proj": "relu",
    "is_encoder_decoder": True,
    "num_heads": 16,
    "num_layers": 24,
    "pad_token_id": 0,
    "vocab_size": 4096,
}
"""`config.json` of `amazon/chronos-t5-large`, as far as it shapes the encoder."""
PANDAGPT = (
    "PandaGPT's released code has no entry point for IMU (its encode functions take image, video, "
    "audio and thermal), and it was trained on images alone; imagebind-llama has its layout"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """A draft's parts.

    Attributes:
        about: one line.
        draft: plug-in that builds it.
        encoder, encoder_settings: plug-in, and what differs from its defaults.
        pooler: settings of its `PoolerConfig`.
        projector: kind.
        decoder: name in `DECODERS`, whose shape it takes unless another is given.
        parameters: weights in all with that decoder and LLaMA's 32,000 ids.
        licence, source: of the weights that exist; of a trained system, its encoder's.
        needs: what to know.
    """

    about: str
    draft: str = "imu"
    encoder: str
    encoder_settings: Mapping[str, Any] = field(default_factory=dict)
    pooler: Mapping[str, Any] = field(default_factory=dict)
    projector: str = "mlp2x_gelu"
    decoder: str = "vicuna-68m"
    parameters: int
    licence: str
    source: str
    needs: str

    @property
    def published(self) -> bool:
        """Whether a folder of its authors is loaded whole, rather than trained here."""
        return self.draft != "imu"


SYSTEMS: Mapping[str, System] = {
    "llasa-7b": System(
        about="LLaSA-7B: LIMU-BERT in front of Vicuna-7B, a LLaVA of IMU",
        draft="llasa",
        encoder="limu_bert",
        decoder="vicuna-7b",
        parameters=6_755_547_488,
        licence="not confirmed (repository Hippocratic Licence HL3); base Llama 2 Community",
        source="hub BASH-Lab/LLaSA-7B",
        needs="6 s at 20 Hz, accelerometer / 9.8; as slow as a 7B target: a reference and a "
        "teacher; where the tower is not inside, a LIMU-BERT of others must be allowed",
    ),
    "llasa-13b": System(
        about="LLaSA-13B: LIMU-BERT in front of Vicuna-13B",
        draft="llasa",
        encoder="limu_bert",
        decoder="vicuna-13b",
        parameters=13_042_509_152,
        licence="not confirmed (repository Hippocratic Licence HL3); base Llama 2 Community",
        source="hub BASH-Lab/LLaSA-13B",
        needs="as llasa-7b; slower than a 7B target",
    ),
    "limu-bert-llama": System(
        about="LIMU-BERT in front of a small LLaMA",
        encoder="limu_bert",
        pooler={"kind": "mean", "factor": 8},
        parameters=68_728_416,
        licence="encoder MIT; decoder's own",
        source="encoder: github dapowan/LIMU-BERT-Public, saved/pretrain_base_*_20_120/*.pt",
        needs="6 s at 20 Hz, accelerometer / 9.8",
    ),
    "limu-bert-x-llama": System(
        about="LIMU-BERT-X in front of a small LLaMA",
        encoder="limu_bert_x",
        parameters=68_721_216,
        licence="encoder MIT; decoder's own",
        source="encoder: github WANDS-HKUST/LIMU-BERT_Experience, weights/limu_bert_x.pt",
        needs="1 s at 20 Hz, accelerometer / 9.8",
    ),
    "primus-llama": System(
        about="PRIMUS, its pooled vector as one token, in front of a small LLaMA",
        encoder="primus",
        parameters=70_390_988,
        licence="encoder not stated (code Clear BSD); decoder's own",
        source="encoder: Zenodo 15147513, a Lightning .ckpt",
        needs="5 s at 50 Hz",
    ),
    "imu2clip-llama": System(
        about="IMU2CLIP's pooled vector as one token in front of a small LLaMA",
        encoder="imu2clip",
        parameters=69_865_676,
        licence="encoder: code CC BY-NC 4.0; decoder's own",
        source="encoder: no weights published; what github facebookresearch/imu2clip trains",
        needs="5 s at 200 Hz; its authors caption by retrieval (egotriad.alignment.retrieval)",
    ),
    "imagebind-llama": System(
        about="ImageBind's CLS vector as one token behind a linear layer: PandaGPT's layout",
        encoder="imagebind",
        projector="linear",
        parameters=88_417_792,
        licence="encoder CC BY-NC-SA 4.0; decoder's own",
        source="encoder: imagebind_huge.pth of github facebookresearch/ImageBind",
        needs="5 s in 2000 samples; PandaGPT itself has no entry point for IMU",
    ),
    "chronos-llama": System(
        about="Chronos-Bolt tiny, the channels of a patch joined, in front of a small LLaMA",
        encoder="chronos",
        parameters=73_254_528,
        licence="encoder Apache-2.0; decoder's own",
        source="encoder: hub amazon/chronos-bolt-tiny",
        needs="2 s at 100 Hz; pip install 'egotriad[chronos]'",
    ),
    "sensorllm": System(
        about="SensorLLM's layout on LLaMA-2: Chronos-T5 large, a token per sample and channel",
        encoder="chronos",
        encoder_settings={"architecture": CHRONOS_T5_LARGE, "channels": "separate"},
        projector="sensorllm",
        decoder="llama-2-7b",
        parameters=7_065_631_232,
        licence="encoder Apache-2.0; decoder's own; original code MIT, README CC BY-NC-SA",
        source="encoder: hub amazon/chronos-t5-large; SensorLLM's own weights are not published",
        needs="2 s at 100 Hz; pip install 'egotriad[chronos]'; the original is of Llama 3, whose "
        "ids are not the targets', and has tokens around each channel, which are left out",
    ),
    "onellm-7b": System(
        about="OneLLM-7B: CLIP and three expert resamplers in front of LLaMA-2-7B",
        draft="onellm",
        encoder="onellm",
        projector="none",
        decoder="llama-2-7b",
        parameters=7_359_031_299,
        licence="Llama 2 Community",
        source="hub csuhan/OneLLM-7B, consolidated.00-of-01.pth; tokenizer: github csuhan/OneLLM, "
        "config/llama2/tokenizer.model",
        needs="2 s at 200 Hz; as slow as a 7B target: a reference and a teacher",
    ),
}


def system(name: str) -> System:
    """The parts of a system.

    Raises:
        UsageError: asked for PandaGPT.
        UnknownPlugin: naming all that there are.
    """
    refuse_pandagpt(name)
    if name not in SYSTEMS:
        raise UnknownPlugin(f"no system is called {name!r}; known: {', '.join(SYSTEMS)}")
    return SYSTEMS[name]


def refuse_pandagpt(name: str) -> None:
    """Nothing, unless PandaGPT is asked for by some form of its name.

    Raises:
        UsageError: it has no way in for IMU.
    """
    if name.lower().startswith("pandagpt"):
        raise UsageError(f"{name!r}: {PANDAGPT}")


def system_config(
    name: str, *, decoder: DecoderConfig | None = None, train_encoder: bool = False
) -> "ImuDraftConfig":
    """Settings of a system's draft, for `DRAFTS.load(system(name).draft)` and `train_draft`.

    Args:
        name: of the system.
        decoder: another decoder's shape in place of the system's.
        train_encoder: whether training may change the encoder; frozen, it needs its weights.

    Raises:
        UsageError: asked for PandaGPT.
        UnknownPlugin: naming all that there are.
    """
    from egotriad.manifests.plugins import DRAFTS  # torch comes with it: listing does without
    from egotriad.models.pooler import PoolerConfig

    parts = system(name)
    plugin: Any = DRAFTS.load(parts.draft)
    settings = dict(parts.encoder_settings)
    if train_encoder:
        settings["trainable"] = True
    config: ImuDraftConfig = plugin.Config(
        encoder=parts.encoder,
        encoder_settings=settings,
        pooler=PoolerConfig(**parts.pooler),
        projector=parts.projector,
        decoder=decoder or DECODERS[parts.decoder].config,
    )
    return config
