"""Measured speed: whole texts, speculative against plain, interleaved, on the same clips.

`decode`: from both models' prefixes on; `end to end`: preparing, encoding and prefix of the target,
and with a draft those of the draft too, one after the other. Time is what the device takes: CPU
time of the process (other processes do not count), or wall time between two synchronisations on
CUDA, which is also the time between two events of its stream when nothing else runs there.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

from egotriad.alignment.bootstrap import Interval, ratio_interval, resample
from egotriad.manifests.errors import EvaluationError

__all__ = ["ClipSpeed", "Speed", "clock", "speed_of", "timed"]

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipSpeed:
    """Seconds of one clip: the shortest of the repeats of each part.

    Attributes:
        window_id, recording: which clip.
        prefix_target_s, prefix_draft_s: preparing, encoding and prefix of each model.
        plain_s, speculative_s: decoding after that.
        tokens: ids of the text.
        rounds: target passes of the speculative text.
    """

    window_id: str
    recording: str
    prefix_target_s: float
    prefix_draft_s: float
    plain_s: float
    speculative_s: float
    tokens: int
    rounds: int

    @property
    def plain_end_to_end_s(self) -> float:
        """Everything plain decoding needs."""
        return self.prefix_target_s + self.plain_s

    def speculative_end_to_end_s(self, *, overlapped: bool = False) -> float:
        """Everything speculation needs; overlapped, the shorter prefix is free."""
        prefixes = (self.prefix_target_s, self.prefix_draft_s)
        return (max(prefixes) if overlapped else sum(prefixes)) + self.speculative_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Speed-ups over all measured clips: ratios of summed times.

    Attributes:
        clips: how many.
        decode, end_to_end, end_to_end_overlapped: plain over speculative; intervals over
            recordings, None with fewer than two of them.
        decode_value, end_to_end_value, overlapped_value: the ratios themselves.
        mean_of_clips: mean of the clips' own decode ratios.
        slower_share: share of clips whose text took longer to decode with the draft.
        plain_tokens_s: tokens per second of plain decoding.
    """

    clips: int
    decode_value: float
    end_to_end_value: float
    overlapped_value: float
    decode: Interval | None
    end_to_end: Interval | None
    mean_of_clips: float
    slower_share: float
    plain_tokens_s: float


def clock(device: torch.device) -> float:
    """Seconds; on CUDA when everything asked for is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.process_time()


def timed(device: torch.device, run: Callable[[], Result]) -> tuple[float, Result]:
    """How long something took, and what it gave."""
    start = clock(device)
    result = run()
    return clock(device) - start, result


def speed_of(clips: Sequence[ClipSpeed], *, draws: int = 2000, seed: int = 0) -> Speed:
    """The speed-ups of measured clips.

    Raises:
        EvaluationError: when there are none.
    """
    if not clips:
        raise EvaluationError("speed of 0 clips: nothing was timed")
    pairs = {
        "decode": [(c.plain_s, c.speculative_s) for c in clips],
        "end_to_end": [(c.plain_end_to_end_s, c.speculative_end_to_end_s()) for c in clips],
        "overlapped": [
            (c.plain_end_to_end_s, c.speculative_end_to_end_s(overlapped=True)) for c in clips
        ],
    }
    values = {name: sum(a for a, _ in ab) / sum(b for _, b in ab) for name, ab in pairs.items()}
    return Speed(
        clips=len(clips),
        decode_value=values["decode"],
        end_to_end_value=values["end_to_end"],
        overlapped_value=values["overlapped"],
        decode=_interval(clips, pairs["decode"], draws, seed),
        end_to_end=_interval(clips, pairs["end_to_end"], draws, seed),
        mean_of_clips=sum(a / b for a, b in pairs["decode"]) / len(clips),
        slower_share=sum(b > a for a, b in pairs["decode"]) / len(clips),
        plain_tokens_s=sum(c.tokens for c in clips) / sum(c.plain_s for c in clips),
    )


def _interval(
    clips: Sequence[ClipSpeed], pairs: Sequence[tuple[float, float]], draws: int, seed: int
) -> Interval | None:
    recordings = sorted({clip.recording for clip in clips})
    if len(recordings) < 2:
        return None
    sums = {name: [0.0, 0.0] for name in recordings}
    for clip, (plain_s, speculative_s) in zip(clips, pairs, strict=True):
        sums[clip.recording][0] += plain_s
        sums[clip.recording][1] += speculative_s
    weights = resample(len(recordings), draws=draws, seed=seed)
    plain, speculative = zip(*(sums[name] for name in recordings), strict=True)
    return ratio_interval(plain, speculative, weights)
