"""Words of Prophesee's EVT2 and EVT3 streams, decoded and encoded.

EVT2: 32-bit words, from the low bit y:11, x:11, low time:6, type:4; a time word holds time >> 6 in
its low 28 bits. EVT3: 16-bit words, the type in the top 4 bits; row, time and vector base are
states that later words refer to, and VECT words hold up to 12 columns of one row as bits.
(prophesee-ai/openeb, `hal/cpp/include/metavision/hal/decoders/evt2` and `evt3`.)
"""

import numpy as np
from numpy.typing import NDArray

from egotriad.converters.compiled import compiled

__all__ = [
    "EVT2_LOOP_US",
    "EVT3_LOOP_US",
    "decode_evt2",
    "decode_evt3",
    "encode_evt2",
    "encode_evt3",
    "evt2_state",
    "evt3_state",
]

EVT2_LOOP_US = 1 << 34
EVT3_LOOP_US = 1 << 24

# State of both decoders: [time of the last time word with its loops or -1, events without a time];
# EVT3 goes on with low time, row (-1: none yet), vector base, its polarity, 1 inside CD rows.
_TIME, _UNTIMED, _LOW, _ROW, _BASE, _BASE_ON, _IN_CD = range(7)


def evt2_state() -> NDArray[np.int64]:
    """State of the EVT2 decoder at the start of a file."""
    return np.array([-1, 0], np.int64)


def evt3_state() -> NDArray[np.int64]:
    """State of the EVT3 decoder at the start of a file."""
    return np.array([-1, 0, 0, -1, -1, 0, 1], np.int64)


@compiled
def decode_evt2(
    words: NDArray[np.uint32],
    state: NDArray[np.int64],
    t_us: NDArray[np.int64],
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    p: NDArray[np.bool_],
) -> int:
    """Decodes words into arrays of at least as many places.

    Events before the first time word have no time; they are counted in the state, and left out.

    Args:
        words: uint32 (n,).
        state: as `evt2_state`; goes on from call to call.
        t_us: int64 (n,), filled.
        x: uint16 (n,), filled.
        y: uint16 (n,), filled.
        p: bool (n,), filled.

    Returns:
        How many events were decoded; -1 - k where word k is of a type that does not exist.
    """
    count = 0
    for k in range(len(words)):
        word = np.int64(words[k])
        kind = word >> 28
        if kind <= 1:
            if state[_TIME] < 0:
                state[_UNTIMED] += 1
                continue
            t_us[count] = state[_TIME] + ((word >> 22) & 63)
            x[count] = (word >> 11) & 2047
            y[count] = word & 2047
            p[count] = kind == 1
            count += 1
        elif kind == 8:
            state[_TIME] = _looped(state[_TIME], (word & 0xFFFFFFF) << 6, EVT2_LOOP_US)
        elif kind < 10:
            return -1 - k
    return count


@compiled
def decode_evt3(
    words: NDArray[np.uint16],
    state: NDArray[np.int64],
    t_us: NDArray[np.int64],
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    p: NDArray[np.bool_],
) -> int:
    """As `decode_evt2`, of EVT3's uint16 words, into arrays of 12 places per word.

    Rows of type 1 belong to other than contrast events, which are skipped.
    """
    count = 0
    for k in range(len(words)):
        kind, content = words[k] >> 12, np.int64(words[k] & 0xFFF)
        if kind == 2 or kind == 4 or kind == 5:
            first = content & 2047 if kind == 2 else state[_BASE]
            on = content >> 11 if kind == 2 else state[_BASE_ON]
            valid = 1 if kind == 2 else (content if kind == 4 else content & 0xFF)
            if kind != 2 and state[_BASE] >= 0:
                state[_BASE] += 12 if kind == 4 else 8
            if not state[_IN_CD]:
                continue
            while valid:
                if valid & 1:
                    if state[_TIME] < 0 or state[_ROW] < 0 or first < 0:
                        state[_UNTIMED] += 1
                    else:
                        t_us[count] = state[_TIME] + state[_LOW]
                        x[count], y[count], p[count] = first, state[_ROW], on == 1
                        count += 1
                valid >>= 1
                first += 1 if first >= 0 else 0
        elif kind <= 1:
            state[_IN_CD] = kind == 0
            state[_ROW] = content & 2047
        elif kind == 3:
            state[_BASE], state[_BASE_ON] = content & 2047, content >> 11
        elif kind == 6:
            state[_LOW] = content
        elif kind == 8:
            time = _looped(state[_TIME], content << 12, EVT3_LOOP_US)
            # Until its low word comes, a new high time is the start of its interval.
            state[_LOW] = state[_LOW] if time == state[_TIME] else 0
            state[_TIME] = time
        elif kind == 9 or kind == 11 or kind == 12:
            return -1 - k
    return count


@compiled
def encode_evt2(
    t_us: NDArray[np.int64],
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    p: NDArray[np.bool_],
    state: NDArray[np.int64],
    words: NDArray[np.uint32],
) -> int:
    """Encodes events, a time word where the time above its 6 low bits changes.

    Args:
        t_us: int64 (n,), in order, 0 <= t < EVT2_LOOP_US.
        x: uint16 (n,), below 2048.
        y: uint16 (n,), below 2048.
        p: bool (n,).
        state: as `evt2_state`; goes on from call to call.
        words: uint32, filled; 2 n places.

    Returns:
        How many words there are.
    """
    count = 0
    for k in range(len(t_us)):
        high = t_us[k] & ~63
        if high != state[_TIME]:
            state[_TIME] = high
            words[count] = (8 << 28) | (high >> 6)
            count += 1
        words[count] = (
            (np.int64(p[k]) << 28)
            | ((t_us[k] & 63) << 22)
            | (np.int64(x[k]) << 11)
            | np.int64(y[k])
        )
        count += 1
    return count


@compiled
def encode_evt3(
    t_us: NDArray[np.int64],
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    p: NDArray[np.bool_],
    state: NDArray[np.int64],
    words: NDArray[np.uint16],
) -> int:
    """Encodes events in canonical order, runs along a row as vectors where that is shorter.

    Vectors are written as VECT_12, VECT_12, VECT_8, 32 columns, the only sequence that openeb reads
    back. Times beyond 24 bits become loops of the time word: where one or several are skipped, the
    highest and the lowest time word are written for each.

    Args:
        t_us: int64 (n,), in order, not below 0.
        x: uint16 (n,), below 2048.
        y: uint16 (n,), below 2048.
        p: bool (n,).
        state: as `evt3_state`; goes on from call to call.
        words: uint16, filled; 4 n places and 2 for every loop of the time.

    Returns:
        How many words there are.
    """
    count, start = 0, 0
    while start < len(t_us):
        t, row = t_us[start], y[start]
        end = start + 1
        while end < len(t_us) and t_us[end] == t and y[end] == row:
            end += 1
        count = _put_time(t, state, words, count)
        if state[_ROW] != row:
            state[_ROW] = row
            words[count] = row
            count += 1
        if end - start == 1:
            words[count] = 0x2000 | (np.int64(p[start]) << 11) | np.int64(x[start])
            count += 1
        else:
            for on in (False, True):
                count = _put_columns(x[start:end], p[start:end], on, words, count)
        start = end
    return count


@compiled
def _looped(before: np.int64, counted: np.int64, loop_us: int) -> np.int64:
    """Time of a time word: one loop later where it falls by half a loop or more."""
    if before < 0:
        return counted
    time = before - before % loop_us + counted
    return time + loop_us if before - time >= loop_us // 2 else time


@compiled
def _put_time(t: np.int64, state: NDArray[np.int64], words: NDArray[np.uint16], count: int) -> int:
    """Writes what changed of the time: loops, high, low."""
    high, low = t & ~0xFFF, t & 0xFFF
    if high != state[_TIME]:
        before = max(state[_TIME], 0)
        for _ in range(high // EVT3_LOOP_US - before // EVT3_LOOP_US):
            words[count], words[count + 1] = 0x8FFF, 0x8000
            count += 2
        words[count] = 0x8000 | ((high >> 12) & 0xFFF)
        count += 1
    if high != state[_TIME] or low != state[_LOW]:
        words[count] = 0x6000 | low
        count += 1
    state[_TIME], state[_LOW] = high, low
    return count


@compiled
def _put_columns(
    x: NDArray[np.uint16], p: NDArray[np.bool_], on: bool, words: NDArray[np.uint16], count: int
) -> int:
    """Writes the events of one polarity in one row: vectors, and single columns between them."""
    polarity = 0x800 if on else 0
    base = np.int64(-1)  # where a vector without a base word of its own would begin
    k = 0
    while k < len(x):
        if p[k] != on:
            k += 1
            continue
        column = np.int64(x[k])
        goes_on = base >= 0 and column < base + 32
        first = base if goes_on else column
        mask, distinct, j = np.int64(0), 0, k
        while j < len(x) and np.int64(x[j]) < first + 32:
            bit = 1 << (np.int64(x[j]) - first)
            if p[j] == on and not mask & bit:
                mask |= bit
                distinct += 1
            j += 1
        if distinct < (4 if goes_on else 5):
            words[count] = 0x2000 | polarity | column
            count += 1
            k += 1
            continue
        if not goes_on:
            words[count] = 0x3000 | polarity | first
            count += 1
        words[count] = 0x4000 | (mask & 0xFFF)
        words[count + 1] = 0x4000 | ((mask >> 12) & 0xFFF)
        words[count + 2] = 0x5000 | (mask >> 24)
        count += 3
        # An event that is there twice has one bit; its doubles follow as single columns.
        last = np.int64(-1)
        for i in range(k, j):
            if p[i] == on:
                if x[i] == last:
                    words[count] = 0x2000 | polarity | last
                    count += 1
                last = np.int64(x[i])
        base, k = first + 32, j
    return count
