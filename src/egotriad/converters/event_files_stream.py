"""What all event files share once they are open: events in order, in chunks, or an error.

A format's own module yields `Block`s, columns as they lie in the file. From there on everything is
the same for all formats: addresses are checked against the sensor, times against going back, and
chunks are cut so that no time stamp is split over two of them. Sorted by (t, y, x, p) inside, one
chunk after another is then the whole file in canonical order.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from egotriad.converters.event_files_fields import Size
from egotriad.manifests import Events
from egotriad.manifests.errors import RecordingError, UsageError
from egotriad.manifests.events import concatenate

__all__ = ["CHUNK_EVENTS", "Block", "EventReader"]

CHUNK_EVENTS = 1 << 20
"""Events in a chunk of `EventReader.chunks`; 13 MB of them."""


class Block(NamedTuple):
    """Consecutive events of a file, as stored.

    Attributes:
        t_us: int64 (n,), on the file's clock, its wraps undone.
        x: any integers (n,), column.
        y: any integers (n,), row, 0 = top.
        p: bool (n,), True = ON.
        first: number of the first one in the file.
        position: how far the file is read, in the reader's `unit`.
    """

    t_us: NDArray[np.int64]
    x: NDArray[np.integer]
    y: NDArray[np.integer]
    p: NDArray[np.bool_]
    first: int
    position: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EventReader:
    """An event file that can be read, any number of times; it is open only while it is read.

    Attributes:
        path: the file.
        format: name of its format.
        size_wh: width and height of the sensor, pixels, from the file or from the caller.
        t_offset_us: what to add to the file's times to get the camera's own clock; 0 where the
            format knows no such thing.
        blocks: `blocks(start_us, end_us)` yields the columns in file order; it may leave out events
            outside that time, and None is no limit.
        total: how much there is to read, in `unit`.
        unit: `events` where the file says how many it holds, else `bytes`.
    """

    path: Path
    format: str
    size_wh: Size
    t_offset_us: int = 0
    blocks: Callable[[int | None, int | None], Iterator[Block]]
    total: int
    unit: str

    def __iter__(self) -> Iterator[Events]:
        return self.chunks()

    def __repr__(self) -> str:
        return f"EventReader({self.path.name}, {self.format}, {self.total} {self.unit})"

    def chunks(
        self,
        *,
        start_us: int | None = None,
        end_us: int | None = None,
        chunk_events: int = CHUNK_EVENTS,
        progress: Callable[[int], None] | None = None,
    ) -> Iterator[Events]:
        """Events with start_us <= t < end_us, in canonical order across all chunks.

        Args:
            start_us: on the file's clock; None from its beginning.
            end_us: on the file's clock; None to its end.
            chunk_events: most events in a chunk; more only where one time stamp has more.
            progress: called with how much is read, in `unit`.

        Yields:
            Chunks of at least one event; their times are the file's own.

        Raises:
            RecordingError: the file is cut off or damaged, its time goes back, or an event lies
                outside the sensor. Whole events before that place have been yielded.
            UsageError: a chunk size below one.
        """
        if chunk_events < 1:
            raise UsageError(f"chunk_events: got {chunk_events}, need 1 or more")
        pending: list[Events] = []
        count, last_us = 0, None
        for block in self.blocks(start_us, end_us):
            if len(block.t_us):
                events = self._checked(block, last_us)
                last_us = int(block.t_us[-1])
                events = _cut(events, start_us, end_us)
                pending.append(events)
                count += len(events)
            if progress is not None:
                progress(block.position)
            if count > chunk_events:
                whole = concatenate(pending, self.size_wh)
                ends = list(_chunk_ends(whole.t_us, chunk_events))
                for start, end in zip([0, *ends], ends, strict=False):
                    yield _canonical(whole.take(slice(start, end)))
                pending = [whole.take(slice(ends[-1] if ends else 0, None))]
                count = len(pending[0])
            if end_us is not None and last_us is not None and last_us >= end_us:
                break
        if count:
            yield _canonical(concatenate(pending, self.size_wh))

    def read(self, *, start_us: int | None = None, end_us: int | None = None) -> Events:
        """All events with start_us <= t < end_us at once, in canonical order.

        Raises:
            RecordingError: as `chunks`.
        """
        parts = list(self.chunks(start_us=start_us, end_us=end_us))
        return concatenate(parts, self.size_wh)

    def _checked(self, block: Block, last_us: int | None) -> Events:
        """The block as events, if they lie on the sensor and time does not go back."""
        for name, values, side in (("x", block.x, 0), ("y", block.y, 1)):
            limit = self.size_wh[side]
            wrong = (values < 0) | (values >= limit)
            if wrong.any():
                k = int(wrong.argmax())
                raise RecordingError(
                    f"{self.path.name}: event {block.first + k} has {name} = {values[k]}, need 0 "
                    f"to {limit - 1} on a sensor of {self.size_wh[0]}x{self.size_wh[1]}; give the "
                    "true size, or the file is damaged there"
                )
        t_us = block.t_us
        back = t_us[1:] < t_us[:-1]
        if (last_us is not None and t_us[0] < last_us) or back.any():
            k = 0 if last_us is not None and t_us[0] < last_us else int(back.argmax()) + 1
            before = t_us[k - 1] if k else last_us
            raise RecordingError(
                f"{self.path.name}: time goes back from {before} us to {t_us[k]} us at event "
                f"{block.first + k}; events must be in order of time, so sort the file or cut it "
                "there"
            )
        return Events(
            t_us=t_us,
            x=block.x.astype(np.uint16, copy=False),
            y=block.y.astype(np.uint16, copy=False),
            p=block.p,
            size_wh=self.size_wh,
        )


def _cut(events: Events, start_us: int | None, end_us: int | None) -> Events:
    """Those of ordered events that lie in a span."""
    lo = 0 if start_us is None else np.searchsorted(events.t_us, start_us, side="left")
    hi = len(events) if end_us is None else np.searchsorted(events.t_us, end_us, side="left")
    return events.take(slice(int(lo), int(hi)))


def _chunk_ends(t_us: NDArray[np.int64], chunk_events: int) -> Iterator[int]:
    """Where to cut ordered times into chunks between time stamps; what follows may go on."""
    start = 0
    while len(t_us) - start > chunk_events:
        t_next = t_us[start + chunk_events]
        end = int(np.searchsorted(t_us, t_next, side="left"))
        if end <= start:  # one time stamp fills the chunk
            end = int(np.searchsorted(t_us, t_next, side="right"))
        if end == len(t_us):
            return
        yield end
        start = end


def _canonical(events: Events) -> Events:
    """The same events ordered by (t, y, x, p).

    An event fits into one int64 as long as the chunk is not too long (12 days of 2048x2048), and
    sorting those keys in place and taking them apart again costs a third of an index sort.
    """
    x_bits, y_bits = (max(1, (side - 1).bit_length()) for side in events.size_wh)
    shift = x_bits + y_bits + 1
    first_us = events.t_us[0]
    if int(events.t_us[-1]) - int(first_us) >= 1 << (63 - shift):
        return events.take(np.lexsort((events.p, events.x, events.y, events.t_us)))
    key = (events.t_us - first_us) << shift
    key |= events.y.astype(np.int64) << (x_bits + 1)
    key |= events.x.astype(np.int64) << 1
    key |= events.p
    if bool((key[1:] >= key[:-1]).all()):
        return events
    key.sort()
    return Events(
        t_us=(key >> shift) + first_us,
        x=((key >> 1) & ((1 << x_bits) - 1)).astype(np.uint16),
        y=((key >> (x_bits + 1)) & ((1 << y_bits) - 1)).astype(np.uint16),
        p=(key & 1).astype(np.bool_),
        size_wh=events.size_wh,
    )
