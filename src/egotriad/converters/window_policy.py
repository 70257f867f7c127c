"""The rule by which windows are laid over a recording, and how long each becomes."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from egotriad.manifests import Narration
from egotriad.manifests.errors import ShardError, UsageError
from egotriad.manifests.files import canonical_json

__all__ = ["WindowPolicy", "mean_gap_us"]

KINDS = ("grid", "point", "until-next", "adaptive")
EGOCLIP_ALPHA_S = 4.9
"""Mean over Ego4D's videos of the mean gap between narrations (Lin et al. 2022, EgoClip)."""
SHORTEST_US = 200_000
LONGEST_US = 2**31 - 1
"""Times inside a window are stored as 32-bit microseconds (36 minutes)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowPolicy:
    """How windows are laid.

    - `grid`: from 0, every `stride_us`.
    - `point`: centred on a narration.
    - `until-next`: from a narration to the next distinct one, or to the recording's end.
    - `adaptive`: [t - beta / (2 alpha), t + beta / (2 alpha)] around a narration at t, beta the
      recording's mean gap between narrations (Lin et al. 2022, "Egocentric Video-Language
      Pretraining", arXiv 2206.01670, clips of EgoClip). The quotient has no unit; it is taken as
      seconds, which gives EgoClip's mean length of 1 s.

    All but `grid` lay one window per group of near-duplicate narrations (`narration_passes`). With
    a rate every length becomes a whole number of samples: `duration_us` and adaptive lengths to the
    nearest, until-next ones downwards.

    Attributes:
        kind: as above.
        duration_us: length of grid and point windows, longest of the others (EgoClip has no such
            limit; at its alpha a length over 5 s needs a mean gap over 24 s).
        stride_us: distance of grid windows; the length itself when None (no overlap).
        alpha_s: of adaptive windows; EgoClip's 4.9 s when None.
        mean_gap_us: beta of adaptive windows; measured from the recording's narrations when None.
        unsure: `drop`: a narration whose annotator was unsure anchors no window and is never its
            text, though it is listed, counts as an action and ends an until-next window; `replace`:
            it is used like any other.
        shortest_us: until-next and adaptive windows shorter than this are rejected.
        rate_hz: of the IMU grid; None leaves lengths as they are.
    """

    kind: str = "grid"
    duration_us: int = 5_000_000
    stride_us: int | None = None
    alpha_s: float | None = None
    mean_gap_us: int | None = None
    unsure: str = "drop"
    shortest_us: int = SHORTEST_US
    rate_hz: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f"windows: got {self.kind!r}, need one of {', '.join(KINDS)}")
        if self.unsure not in ("drop", "replace"):
            raise UsageError(f"unsure: got {self.unsure!r}, need 'drop' or 'replace'")
        if self.duration_us <= 0 or (self.stride_us is not None and self.stride_us <= 0):
            raise UsageError("windows: length and stride must be above 0 s")
        if self.duration_us > LONGEST_US:
            raise UsageError(
                f"windows: got {self.duration_us / 1e6:g} s, need at most {LONGEST_US / 1e6:.0f} s"
            )
        if self.stride_us is not None and self.kind != "grid":
            raise UsageError("windows: a stride belongs to grid windows only")
        if self.alpha_s is not None and self.kind != "adaptive":
            raise UsageError("windows: alpha belongs to adaptive windows only")
        if self.alpha_s is not None and not self.alpha_s > 0:
            raise UsageError(f"windows: got alpha {self.alpha_s} s, need above 0 s")
        if self.rate_hz is not None and not self.rate_hz > 0:
            raise UsageError(f"windows: got a rate of {self.rate_hz} Hz, need above 0 Hz")
        if self.rate_hz is not None and not self.length_us:
            raise UsageError(
                f"windows: {self.duration_us / 1e6:g} s hold no sample at {self.rate_hz:g} Hz; "
                "take longer windows or a higher rate"
            )

    @classmethod
    def parse(cls, text: str) -> "WindowPolicy":
        """Reads the policy that a shard's row stores.

        Raises:
            ShardError: when it is not one.
        """
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError, UsageError) as exc:
            raise ShardError(
                f"window_policy: got {text[:80]!r}, need the JSON that build-shards writes ({exc})"
            ) from exc

    def __str__(self) -> str:
        """Canonical JSON of every setting that is not None: `parse` reads it back."""
        return canonical_json({k: v for k, v in asdict(self).items() if v is not None})

    def may_anchor(self, narration: Narration) -> bool:
        """Whether a window may be about this narration."""
        return self.unsure == "replace" or not narration.unsure

    @property
    def length_us(self) -> int:
        """Length of grid and point windows, longest of the others: a whole number of samples."""
        return self.whole_us(self.duration_us)

    @property
    def adaptive_us(self) -> int:
        """Length of adaptive windows, of a policy that knows the mean gap."""
        wanted_us = (self.mean_gap_us or 0) / (self.alpha_s or EGOCLIP_ALPHA_S)
        return min(self.length_us, self.whole_us(wanted_us))

    @property
    def varies(self) -> bool:
        """Whether the length differs between windows or recordings."""
        return self.kind in ("until-next", "adaptive")

    def whole_us(self, length_us: float, *, at_most: bool = False) -> int:
        """A length as a whole number of samples, to the nearest microsecond.

        Args:
            length_us: the wanted length.
            at_most: whether it must not be exceeded (else the nearest number is taken).
        """
        if self.rate_hz is None:
            return int(length_us) if at_most else round(length_us)
        samples = length_us * self.rate_hz / 1e6
        count = math.floor(samples + 1e-6) if at_most else round(samples)
        whole = round(count * 1e6 / self.rate_hz)
        return round((count - 1) * 1e6 / self.rate_hz) if at_most and whole > length_us else whole

    def measured(self, narrations: Sequence[Narration]) -> "WindowPolicy":
        """The policy with a recording's own mean gap, where it needs one."""
        if self.kind != "adaptive" or self.mean_gap_us is not None:
            return self
        alpha_s = self.alpha_s or EGOCLIP_ALPHA_S
        gap_us = mean_gap_us(narrations)
        # Without two narrations there is no gap; alpha is the mean one of all videos.
        return replace(
            self,
            alpha_s=alpha_s,
            mean_gap_us=round(alpha_s * 1e6) if gap_us is None else round(gap_us),
        )

    def describe(self) -> str:
        """The policy in words."""
        length = f"{self.length_us / 1e6:g} s"
        if self.kind == "grid":
            stride = f"{(self.stride_us or self.length_us) / 1e6:g} s"
            return f"{length} long, one every {stride}"
        if self.kind == "point":
            return f"{length} long, centred on a narration"
        if self.kind == "until-next":
            return f"from a narration to the next, at most {length} long"
        return (
            "around a narration, in seconds as long as the recording's mean gap between narrations "
            f"/ {self.alpha_s or EGOCLIP_ALPHA_S:g} s (EgoClip), at most {length}"
        )


def mean_gap_us(narrations: Sequence[Narration]) -> float | None:
    """Mean time between neighbouring narrations of one annotator, None without two of one.

    Gaps are taken inside each pass and averaged together: two passes over one video are not twice
    as dense as one.
    """
    span_us = gaps = 0
    for name in {narration.annotation_pass for narration in narrations}:
        times = [n.t_us for n in narrations if n.annotation_pass == name]
        span_us += max(times) - min(times)
        gaps += len(times) - 1
    return span_us / gaps if span_us else None
