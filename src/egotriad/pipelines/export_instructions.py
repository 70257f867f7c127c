"""Instructions for models that look at events: a question, the events, and the narration.

`eventgpt`: `{split}.json`, a list of {id, event_data, conversations} as in the published subset
(Hub data set XduSyL/EventGPT-datasets, EventGPT_Instruction_Subset.json), and `event_npy/`, which
`event_data` is relative to: a pickled dict of x, y, t, p for each entry, t int64 from 0, less than
100 ms (XduSyL/EventGPT, commit 4680549, `common/common.py`).

`llava`: `{split}.json`, a list of {id, image, conversations} (haotian-liu/LLaVA,
docs/Finetune_Custom_Data.md), and `images/`: events on white, OFF blue and ON red, as EventGPT
draws them, at sensor size.

Windows with short event spans give one entry for each of them; longer ones one for each span that
is chosen in them.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from egotriad.converters.event_files import write_events
from egotriad.converters.event_frames import MAX_EXTENT_US, event_image
from egotriad.converters.figures import png_bytes
from egotriad.converters.spans import SpanPolicy, choose_spans
from egotriad.converters.windows import Window
from egotriad.manifests import Clip, Events, Narration, Span
from egotriad.manifests.errors import located
from egotriad.pipelines.export_source import ExportSource, relative_path

__all__ = ["export_eventgpt", "export_llava", "shown_spans"]

FEWEST_EVENTS = 5
"""EventGPT draws five images, each of a fifth of the events, and fails on an empty one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """What the instructions of one kind of model look like.

    Attributes:
        key: of the entry, for the file.
        folder, suffix: of the files.
        mark: where the model puts what it is shown.
        write: a file, of the events of one span.
    """

    key: str
    folder: str
    suffix: str
    mark: str
    write: Callable[[Path, Events], object]


def export_eventgpt(source: ExportSource, folder: Path, spans: SpanPolicy, question: str) -> None:
    """Writes the npy files and instructions of every window that has events and a narration."""
    kind = _Kind(
        key="event_data",
        folder="event_npy",
        suffix="npy",
        mark="<event>",
        write=partial(write_events, format="eventgpt"),
    )
    _export(kind, source, folder, spans, question)


def export_llava(source: ExportSource, folder: Path, spans: SpanPolicy, question: str) -> None:
    """Writes the images and instructions of every window that has events and a narration."""
    kind = _Kind(key="image", folder="images", suffix="png", mark="<image>", write=_write_image)
    _export(kind, source, folder, spans, question)


def _write_image(path: Path, events: Events) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png_bytes(event_image(events)))


def shown_spans(clip: Clip, policy: SpanPolicy) -> tuple[Span, ...]:
    """What is shown of a clip with events: its own spans where they are short, else chosen ones."""
    if clip.event_spans and all(s.duration_us <= MAX_EXTENT_US for s in clip.event_spans):
        return clip.event_spans
    anchor = None
    if clip.anchor is not None:
        told = clip.narrations[clip.anchor]
        anchor = Narration(t_us=clip.t_start_us + told.t_us, text=told.text)
    window = Window(
        t_start_us=clip.t_start_us, duration_us=clip.duration_us, anchor=anchor, narrations=()
    )
    assert clip.events is not None
    return choose_spans(policy, window, clip.events)


def _export(
    kind: _Kind, source: ExportSource, folder: Path, policy: SpanPolicy, question: str
) -> None:
    for split in source.splits:
        with _json_list(folder / f"{split}.json") as add:
            for clip in source.clips(split, imu=False):
                if clip.events is None or not clip.narration:
                    reason = "no-narration" if clip.events is not None else "no-events"
                    source.left_out[reason] += 1
                    continue
                with located(clip.window_id):
                    shown = list(_shown(clip, policy, source))
                    for span, events in shown:
                        path = f"{split}/{relative_path(clip)}-{span.start_us:09d}.{kind.suffix}"
                        kind.write(folder / kind.folder / path, events)
                        add(_entry(clip, span, {kind.key: path}, f"{kind.mark}\n{question}"))
                        source.events += len(events)
                source.windows += bool(shown)


def _shown(clip: Clip, policy: SpanPolicy, source: ExportSource) -> Iterator[tuple[Span, Events]]:
    """The spans that have enough events, which then count from the span's start."""
    assert clip.events is not None
    for span in shown_spans(clip, policy):
        events = clip.events.between(span.start_us, span.end_us).shifted(-span.start_us)
        if len(events) < FEWEST_EVENTS:
            source.left_out["span-of-few-events"] += 1
            continue
        yield span, events


def _entry(clip: Clip, span: Span, shown: dict[str, str], question: str) -> dict[str, Any]:
    return {
        "id": f"{clip.window_id}@{span.start_us}",
        **shown,
        "conversations": [
            {"from": "human", "value": question},
            {"from": "gpt", "value": clip.narration},
        ],
    }


@contextmanager
def _json_list(path: Path) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A file with one JSON list, an entry a line, written as the entries come."""
    with path.open("w", encoding="utf-8") as file:
        between = "[\n"

        def add(entry: dict[str, Any]) -> None:
            nonlocal between
            file.write(between + json.dumps(entry, ensure_ascii=False))
            between = ",\n"

        yield add
        file.write("[]\n" if between == "[\n" else "\n]\n")
