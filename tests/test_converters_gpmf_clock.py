from dataclasses import replace

import numpy as np
import pytest

from egotriad.converters.gpmf_blocks import BlockTime
from egotriad.converters.gpmf_clock import common_source, sample_clock
from egotriad.manifests.errors import RecordingError

RATE_HZ, PAYLOAD_US = 197.45, 1_001_000


def blocks_of(times_us: np.ndarray, *, payloads: int, jitter_us: int = 0) -> list[BlockTime]:
    """Blocks of samples taken at these times, delivered with some jitter, on all three clocks.

    The camera's clocks show 5 s (STMP) and 9 s (TICK) when the first frame is exposed.
    """
    rng = np.random.default_rng(0)
    ends_us = np.arange(1, payloads + 1) * PAYLOAD_US + rng.integers(
        -jitter_us, jitter_us + 1, payloads
    )
    edges = np.searchsorted(times_us, [-(10**9), *ends_us.tolist()])
    edges[0] = 0
    return [
        BlockTime(
            payload_us=k * PAYLOAD_US,
            stamp_us=5_000_000 + round(times_us[edges[k]]),
            tick_us=round(9_000 + times_us[edges[k]] / 1000) * 1000,
            count=int(edges[k + 1] - edges[k]),
            total=int(edges[k + 1]),
        )
        for k in range(payloads)
    ]


def exposures(payloads: int) -> list[BlockTime]:
    return [
        BlockTime(
            payload_us=k * PAYLOAD_US,
            stamp_us=5_000_000 + k * PAYLOAD_US,
            tick_us=9_000_000 + k * PAYLOAD_US,
            count=30,
            total=30 * (k + 1),
        )
        for k in range(payloads)
    ]


def regular(payloads: int) -> np.ndarray:
    return -5000 + np.arange(payloads * 198 + 300) * 1e6 / RATE_HZ


def errors_us(blocks: list[BlockTime], true_us: np.ndarray, source: str, shown=None) -> np.ndarray:
    clock = sample_clock(blocks, exposures(len(blocks)) if shown is None else shown, source)
    first, out = 0, []
    for number, block in enumerate(blocks):
        first = block.total - block.count if block.total is not None else first
        times = clock.times_us(number, np.arange(block.count))
        out.append(times - true_us[first : first + block.count])
        first += block.count
    return np.concatenate(out)


def test_stamps_give_every_sample_its_time():
    true_us = regular(30)
    error = errors_us(blocks_of(true_us, payloads=30, jitter_us=4000), true_us, "STMP")
    assert np.abs(error).max() <= 2


def test_ticks_give_the_rate_and_payloads_the_start():
    true_us = regular(30)
    blocks = blocks_of(true_us, payloads=30, jitter_us=4000)
    clock = sample_clock(blocks, [], "TICK")
    assert clock.fit.rate_hz == pytest.approx(RATE_HZ, rel=2e-5)
    assert np.abs(errors_us(blocks, true_us, "TICK")).max() < 6000


def test_payload_times_alone_are_good_to_a_few_milliseconds():
    true_us = regular(40)
    blocks = blocks_of(true_us, payloads=40, jitter_us=4000)
    assert sample_clock(blocks, [], "container").fit.rate_hz == pytest.approx(RATE_HZ, rel=2e-4)
    assert np.abs(errors_us(blocks, true_us, "container")).max() < 8000


def test_a_drifting_oscillator_is_followed_for_an_hour():
    n = np.arange(3600 * 198)
    seconds = n / RATE_HZ
    drift_us = 300 * 1800 / np.pi * (1 - np.cos(np.pi * seconds / 1800))  # up to 300 ppm
    true_us = seconds * 1e6 + drift_us
    blocks = blocks_of(true_us, payloads=3500)
    assert np.abs(errors_us(blocks, true_us, "STMP")).max() < 60
    one_line = sample_clock(blocks, exposures(3500), "STMP").fit
    assert one_line.residual_us > 50_000, "a single straight line is far off"


@pytest.mark.parametrize("place", [0, 7, 19])
def test_a_payload_whose_stamp_lies_is_outvoted(place: int):
    true_us = regular(20)
    blocks = blocks_of(true_us, payloads=20)
    for lie_us in (3000, -3_000_000, 10**12):
        lying = list(blocks)
        lying[place] = replace(blocks[place], stamp_us=blocks[place].stamp_us + lie_us)
        assert np.abs(errors_us(lying, true_us, "STMP")).max() <= 2


def test_a_short_last_payload_does_not_bend_the_rate():
    true_us = regular(20)
    blocks = blocks_of(true_us, payloads=20)
    last = blocks[-1]
    short = [*blocks[:-1], replace(last, count=14, total=last.total - last.count + 14)]
    for source in ("STMP", "TICK", "container"):
        whole, cut = (sample_clock(b, exposures(20), source).fit.rate_hz for b in (blocks, short))
        assert cut == pytest.approx(whole, rel=1e-9)


def test_a_lost_payload_leaves_a_hole_and_no_shift():
    true_us = regular(20)
    blocks = blocks_of(true_us, payloads=20)
    del blocks[7]
    for source, most in (("STMP", 2), ("TICK", 6000)):
        assert np.abs(errors_us(blocks, true_us, source)).max() <= most


def test_a_clock_that_begins_anew_is_tied_to_the_container_again():
    true_us = regular(40)
    blocks, shown = blocks_of(true_us, payloads=40), exposures(40)
    for k in range(15, 40):
        blocks[k] = replace(blocks[k], stamp_us=blocks[k].stamp_us - 4_900_000, total=None)
        shown[k] = replace(shown[k], stamp_us=shown[k].stamp_us - 4_900_000)
    clock = sample_clock(blocks, shown, "STMP")
    assert clock.runs == 2
    assert str(clock).endswith("2 runs")
    bare = [replace(block, payload_us=None) for block in blocks]
    with pytest.raises(RecordingError, match="clock jumps at payload 16 of 40"):
        sample_clock(bare, shown, "STMP")
    blocks = [replace(block, total=None) for block in blocks]
    assert np.abs(errors_us(blocks, true_us, "STMP", shown)).max() <= 2


def test_the_best_clock_that_all_streams_have_is_taken():
    blocks, shown = blocks_of(regular(3), payloads=3), exposures(3)
    no_stamps = [replace(block, stamp_us=None) for block in blocks]
    no_ticks = [replace(block, tick_us=None) for block in no_stamps]
    bare = [replace(block, payload_us=None) for block in no_stamps]
    nothing = [replace(block, payload_us=None) for block in no_ticks]
    assert common_source([blocks, blocks], shown) == "STMP"
    assert common_source([blocks, no_stamps], shown) == "TICK"
    assert common_source([blocks], []) == "TICK"
    assert common_source([no_ticks, blocks], []) == "container"
    assert common_source([bare], shown) == "TICK"
    assert common_source([bare], []) is None
    assert common_source([nothing], []) is None


def test_times_that_cannot_be_are_refused():
    blocks = blocks_of(regular(5), payloads=5)
    with pytest.raises(RecordingError, match="one payload is not enough"):
        sample_clock(blocks[:1], [], "STMP")
    standing = [replace(block, stamp_us=7) for block in blocks]
    with pytest.raises(RecordingError, match="do not advance"):
        sample_clock(standing, exposures(5), "STMP")
    wild = [0, 900_000_000, 100_000_000, 2_500_000_000, 2_200_000_000]
    jumping = [replace(block, stamp_us=us) for block, us in zip(blocks, wild, strict=True)]
    with pytest.raises(RecordingError, match="do not advance"):
        sample_clock(jumping, exposures(5), "STMP")
