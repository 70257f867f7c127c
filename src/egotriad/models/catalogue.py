"""What can be used: every encoder, decoder, draft and target, with its size, licence and source.

Nothing is loaded to list it. Facts about models of others are those of their repositories and
cards; what they do not state is said to be so.
"""

from dataclasses import dataclass

from egotriad.manifests.errors import UnknownPlugin
from egotriad.manifests.plugins import DRAFTS, ENCODERS, TARGETS
from egotriad.models.decoders import DECODERS, KnownDecoder
from egotriad.models.systems import SYSTEMS, System, refuse_pandagpt

__all__ = ["KINDS", "Entry", "catalogue", "entry"]

KINDS = ("encoder", "decoder", "draft", "target")
_LLAMA = "Llama 2 Community"
_HERE = "trained here"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing that can be used.

    Attributes:
        kind: encoder | decoder | draft | target.
        name: on the command line.
        about: one line.
        parameters: exact number of weights; None where it depends on settings or files.
        licence: of the weights.
        source: where to get them.
        needs: what it takes and what to know.
    """

    kind: str
    name: str
    about: str
    parameters: int | None = None
    licence: str = "own"
    source: str = _HERE
    needs: str = ""

    @property
    def half_bytes(self) -> int | None:
        """Size of the weights in bfloat16 or float16."""
        return None if self.parameters is None else 2 * self.parameters


_ENCODERS = (
    Entry(
        kind="encoder",
        name="conv",
        about="three convolutions, trained with the draft",
        parameters=42_880,
        needs="3 s at 50 Hz",
    ),
    Entry(
        kind="encoder",
        name="limu_bert",
        about="LIMU-BERT, also LLaSA's encoder",
        parameters=51_552,
        licence="MIT",
        source="github dapowan/LIMU-BERT-Public, saved/pretrain_base_*_20_120/*.pt",
        needs="6 s at 20 Hz, accelerometer / 9.8",
    ),
    Entry(
        kind="encoder",
        name="limu_bert_x",
        about="LIMU-BERT-X, windows of one second",
        parameters=44_352,
        licence="MIT",
        source="github WANDS-HKUST/LIMU-BERT_Experience, weights/limu_bert_x.pt",
        needs="1 s at 20 Hz, accelerometer / 9.8",
    ),
    Entry(
        kind="encoder",
        name="primus",
        about="PRIMUS, trained on Aria glasses",
        parameters=1_376_204,
        licence="not stated (code Clear BSD)",
        source="Zenodo 15147513, a Lightning .ckpt",
        needs="5 s at 50 Hz",
    ),
    Entry(
        kind="encoder",
        name="imu2clip",
        about="IMU2CLIP's encoder",
        parameters=850_892,
        licence="code CC BY-NC 4.0",
        source="no weights published; what github facebookresearch/imu2clip trains",
        needs="5 s at 200 Hz",
    ),
    Entry(
        kind="encoder",
        name="imagebind",
        about="ImageBind's IMU branch",
        parameters=19_600_384,
        licence="CC BY-NC-SA 4.0",
        source="imagebind_huge.pth of github facebookresearch/ImageBind",
        needs="5 s in 2000 samples",
    ),
    Entry(
        kind="encoder",
        name="onellm",
        about="OneLLM-7B's path for IMU",
        parameters=620_615_683,
        licence=_LLAMA,
        source="hub csuhan/OneLLM-7B, consolidated.00-of-01.pth",
        needs="2 s at 200 Hz",
    ),
    Entry(
        kind="encoder",
        name="chronos",
        about="Chronos T5, Bolt and Chronos-2, one series per channel",
        licence="Apache-2.0",
        source="hub amazon/chronos-*",
        needs="2 s at 100 Hz; pip install 'egotriad[chronos]'",
    ),
)
_DRAFTS = (
    Entry(
        kind="draft",
        name="imu",
        about="any encoder, pooler and projector in front of any LLaMA",
        needs="a clip with IMU; train-draft",
    ),
    Entry(
        kind="draft",
        name="text",
        about="its twin without a sensor: what the IMU has to beat",
        needs="train-draft",
    ),
)
_TARGETS = (
    Entry(
        kind="target",
        name="tiny",
        about="EventGPT's shape at a size that trains in a minute",
        needs="a clip with events, spans under 100 ms; train-target",
    ),
    Entry(
        kind="target",
        name="eventgpt",
        about="EventGPT-7b: 582 tokens from 5 event frames",
        parameters=7_079_684_096,
        licence=f"not stated; base {_LLAMA}",
        source="Google Drive folder linked from github XduSyL/EventGPT; where the tower is not "
        "inside, hub openai/clip-vit-large-patch14-336 too",
        needs="a clip with events, spans under 100 ms (trained on 50); 14.2 GB in bfloat16, 4.9 GB "
        "in 4bit",
    ),
    Entry(
        kind="target",
        name="video_llava",
        about="Video-LLaVA-7B-hf: 2056 tokens from 8 images of the events",
        parameters=7_062_575_104,
        licence=f"Apache-2.0 on its card; base {_LLAMA}",
        source="hub LanguageBind/Video-LLaVA-7B-hf",
        needs="a clip with events; it was trained on RGB, which shards do not hold",
    ),
    Entry(
        kind="target",
        name="llama",
        about="any LLaMA without a sensor, for checks and costs",
        licence="of the decoder",
        source="any decoder of this list",
        needs="nothing of a clip",
    ),
    Entry(
        kind="target",
        name="cached",
        about="recorded target outputs, where the target itself cannot run",
        licence="of the target",
        source="cache-targets",
        needs="the same shards, target and tokenizer; greedy acceptance only, no times",
    ),
)


def catalogue() -> tuple[Entry, ...]:
    """All entries by kind and, within it, the smallest decoder first; installed plug-ins too."""
    decoders = tuple(_decoder(name, known) for name, known in DECODERS.items())
    systems = tuple(_system(name, known) for name, known in SYSTEMS.items())
    entries = (*_ENCODERS, *decoders, *_DRAFTS, *systems, *_TARGETS)
    listed = {(found.kind, found.name) for found in entries}
    listed |= {("draft", known.draft) for known in SYSTEMS.values()}
    plugins = ((kind.noun, name) for kind in (ENCODERS, DRAFTS, TARGETS) for name in kind.names())
    others = tuple(
        Entry(kind=noun, name=name, about="installed plug-in", licence="its own", source="its own")
        for noun, name in plugins
        if (noun, name) not in listed
    )
    return tuple(sorted((*entries, *others), key=lambda found: KINDS.index(found.kind)))


def entry(name: str) -> Entry:
    """The entry of that name.

    Raises:
        UsageError: asked for PandaGPT, which sees no IMU.
        UnknownPlugin: naming all that there are.
    """
    entries = catalogue()
    found = next((known for known in entries if known.name == name), None)
    if found is None:
        refuse_pandagpt(name)
        names = ", ".join(known.name for known in entries)
        raise UnknownPlugin(f"no model is called {name!r}; known: {names}")
    return found


def _decoder(name: str, known: KnownDecoder) -> Entry:
    shape = known.config
    return Entry(
        kind="decoder",
        name=name,
        about=f"{shape.layers} layers of {shape.hidden_size}, {shape.max_positions} positions",
        parameters=known.parameters,
        licence=known.licence,
        source=f"hub {known.repository}" + (f", {known.file}" if known.file else ""),
        needs=known.note,
    )


def _system(name: str, known: System) -> Entry:
    return Entry(
        kind="draft",
        name=name,
        about=known.about,
        parameters=known.parameters,
        licence=known.licence,
        source=known.source,
        needs=known.needs
        + ("" if known.published else f"; train-draft; counted with the decoder {known.decoder}"),
    )
