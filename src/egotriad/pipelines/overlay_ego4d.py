"""Overlays on Ego4D: data sets that say something new about stretches of its videos.

Media, wearers, splits and blanked stretches stay Ego4D's: an overlay's recording falls into the
group and the split of its video, whatever the overlay itself calls train or test, so that shards of
both can be mixed without a wearer on both sides.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from egotriad.converters.narration_text import in_order
from egotriad.manifests import Narration, Recording, Unreadable
from egotriad.manifests.errors import UsageError
from egotriad.pipelines.dataset_ego4d import DATASET as EGO4D
from egotriad.pipelines.ego4d_options import Ego4dOptions
from egotriad.pipelines.ego4d_select import read_uids

__all__ = ["OverlaySpan", "download_below", "told", "videos_below"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OverlaySpan:
    """A stretch of a video and what the overlay says of it.

    Attributes:
        start_us, end_us: on the clock of the canonical video.
        text: label or caption.
        id: of the overlay's own, to be found again by.
    """

    start_us: int
    end_us: int
    text: str
    id: str


def download_below(raw: Path, options: Ego4dOptions, uids: Sequence[str]) -> None:
    """Brings Ego4D's files of the overlay's videos, as far as they are chosen."""
    chosen = _below(options, uids)
    if chosen is not None:
        EGO4D.download(raw, chosen)


def videos_below(
    raw: Path, options: Ego4dOptions, uids: Sequence[str]
) -> Iterator[Recording | Unreadable]:
    """Ego4D's recordings of the overlay's videos.

    What was asked for by uid and is not in the overlay is `Unreadable`; without a choice the
    overlay's videos that lie there are meant.

    Args:
        raw: root of an Ego4D tree.
        options: what is asked of Ego4D.
        uids: that the overlay speaks of.
    """
    known, named = set(uids), set(read_uids(options.uids))
    chosen = _below(options, uids)
    if chosen is not None:
        for recording in EGO4D.recordings(raw, chosen):
            stray = not chosen.uids and recording.recording_id not in known
            # Nobody asked by name for those that a filter leaves out.
            left_out = isinstance(recording, Unreadable) and not named and _filtered(recording)
            if not (stray or left_out):
                yield recording
    for uid in sorted(named - known):
        yield Unreadable(
            recording_id=uid.replace("/", "-"),
            message=f"not-in-overlay: {uid}: the overlay says nothing of this video",
        )


def told(
    recording: Recording,
    spans: Sequence[OverlaySpan],
    *,
    source: str,
    text_source: str,
    notes: Mapping[str, str],
) -> Recording:
    """An Ego4D recording that tells the overlay's texts, each at the middle of its stretch.

    Stretches that do not lie inside the video are left out and counted in the notes.
    """
    inside = [span for span in spans if 0 <= span.start_us < span.end_us <= recording.duration_us]
    outside = len(spans) - len(inside)
    narrations = in_order(
        Narration(
            t_us=(span.start_us + span.end_us) // 2,
            text=span.text,
            annotation_pass=source,
            annotation_id=span.id,
        )
        for span in inside
    )
    counted = {"overlay_spans": str(len(spans)), "overlay_spans_outside_video": str(outside)}
    return replace(
        recording,
        source=source,
        narrations=narrations,
        text_source=text_source,
        notes=recording.notes | counted | dict(notes),
    )


def _below(options: Ego4dOptions, uids: Sequence[str]) -> Ego4dOptions | None:
    """What to ask of Ego4D; None where nothing that is asked for is in the overlay."""
    values = {field.name: getattr(options, field.name) for field in fields(Ego4dOptions)}
    if not (options.uids or options.filters):
        return Ego4dOptions(**values)
    asked = read_uids(options.uids) or uids
    both = tuple(sorted(set(asked) & set(uids)))
    if not both and not options.uids:
        raise UsageError("the overlay speaks of no video; check its file")
    return Ego4dOptions(**values | {"uids": both}) if both else None


def _filtered(recording: Unreadable) -> bool:
    """Whether a filter of Ego4D's leaves a video out."""
    return recording.message.startswith(("no-imu: ", "no-narration: "))
