"""The event stream of one clip: (t, x, y, polarity) in canonical order, and its algebra."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from egotriad.manifests.errors import UsageError

__all__ = ["Events", "Span", "canonical_order", "concatenate"]


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A stretch of time [start_us, start_us + duration_us), relative to its window."""

    start_us: int
    duration_us: int

    @property
    def end_us(self) -> int:
        """First microsecond after the span."""
        return self.start_us + self.duration_us

    @property
    def centre_us(self) -> int:
        """Middle of the span, rounded down."""
        return self.start_us + self.duration_us // 2


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Events:
    """Events of one window or span, in canonical order (t, y, x, p).

    Attributes:
        t_us: int64 (N,), microseconds; what they are relative to is the holder's business (in a
            `Clip`: the window's start).
        x: uint16 (N,), column, 0 = left.
        y: uint16 (N,), row, 0 = top.
        p: bool (N,), True = ON (brighter), False = OFF (darker).
        size_wh: sensor width and height in pixels (metadata, never derived from the events).
    """

    t_us: NDArray[np.int64]
    x: NDArray[np.uint16]
    y: NDArray[np.uint16]
    p: NDArray[np.bool_]
    size_wh: tuple[int, int]

    def __post_init__(self) -> None:
        need = {"t_us": np.int64, "x": np.uint16, "y": np.uint16, "p": np.bool_}
        for name, dtype in need.items():
            array = getattr(self, name)
            if array.dtype != dtype or array.shape != self.t_us.shape or array.ndim != 1:
                raise UsageError(
                    f"events.{name}: got {array.dtype} {array.shape}, "
                    f"need {np.dtype(dtype)} {self.t_us.shape} (one dimension)"
                )

    def __len__(self) -> int:
        return len(self.t_us)

    def __repr__(self) -> str:
        if not len(self):
            return f"Events(0, size_wh={self.size_wh})"
        return f"Events({len(self)}, {self.t_us[0]}..{self.t_us[-1]} us, size_wh={self.size_wh})"

    @staticmethod
    def empty(size_wh: tuple[int, int]) -> "Events":
        """No events on a sensor of this size."""
        return Events(
            t_us=np.empty(0, np.int64),
            x=np.empty(0, np.uint16),
            y=np.empty(0, np.uint16),
            p=np.empty(0, np.bool_),
            size_wh=size_wh,
        )

    def take(self, index: slice | NDArray[np.intp] | NDArray[np.bool_]) -> "Events":
        """The chosen events, in the given order."""
        return Events(
            t_us=self.t_us[index],
            x=self.x[index],
            y=self.y[index],
            p=self.p[index],
            size_wh=self.size_wh,
        )

    def between(self, start_us: int, end_us: int) -> "Events":
        """Events with start_us <= t < end_us (needs t in order), times unchanged."""
        lo, hi = np.searchsorted(self.t_us, [start_us, end_us], side="left")
        return self.take(slice(int(lo), int(hi)))

    def shifted(self, delta_us: int) -> "Events":
        """The same events with `delta_us` added to every time."""
        return Events(
            t_us=self.t_us + np.int64(delta_us),
            x=self.x,
            y=self.y,
            p=self.p,
            size_wh=self.size_wh,
        )

    def canonical(self) -> "Events":
        """The same events ordered by (t, y, x, p), the only order shards hold."""
        order = canonical_order(self)
        return self if order is None else self.take(order)

    def same_as(self, other: "Events") -> bool:
        """Whether both hold the same events in the same order on the same sensor."""
        return self.size_wh == other.size_wh and all(
            np.array_equal(a, b)
            for a, b in (
                (self.t_us, other.t_us),
                (self.x, other.x),
                (self.y, other.y),
                (self.p, other.p),
            )
        )


def canonical_order(events: Events) -> NDArray[np.intp] | None:
    """Index that sorts by (t, y, x, p), or None when the events are sorted already.

    One int64 key per event, t << B | ((y*W + x) << 1) | p with B bits for the address, is several
    times faster than a four-column lexsort; times below zero sort correctly because the shift is
    arithmetic.

    Raises:
        UsageError: when a time does not fit beside the address (|t| >= 2^(63-B)).
    """
    width, height = events.size_wh
    bits = (2 * width * height - 1).bit_length()
    if len(events) and int(np.abs(events.t_us).max()) >= 1 << (63 - bits):
        raise UsageError(
            f"event times reach {int(np.abs(events.t_us).max())} us, need < 2^{63 - bits} us for a "
            f"{width}x{height} sensor; make them relative to the window"
        )
    address = (events.y.astype(np.int64) * width + events.x) << 1 | events.p
    key = (events.t_us << bits) | address
    if len(key) < 2 or bool((key[1:] >= key[:-1]).all()):
        return None
    return np.argsort(key, kind="stable")


def concatenate(parts: list[Events], size_wh: tuple[int, int]) -> Events:
    """All parts one after another (no sorting); an empty list gives no events."""
    if not parts:
        return Events.empty(size_wh)
    return Events(
        t_us=np.concatenate([part.t_us for part in parts]),
        x=np.concatenate([part.x for part in parts]),
        y=np.concatenate([part.y for part in parts]),
        p=np.concatenate([part.p for part in parts]),
        size_wh=size_wh,
    )
