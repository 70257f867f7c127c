import pytest
import torch

from egotriad.alignment.cost import best_gamma
from egotriad.alignment.speed import ClipSpeed, speed_of, timed
from egotriad.manifests.errors import EvaluationError


def clip(recording: str, plain_s: float, speculative_s: float) -> ClipSpeed:
    return ClipSpeed(
        window_id=f"{recording}/0",
        recording=recording,
        prefix_target_s=0.5,
        prefix_draft_s=0.2,
        plain_s=plain_s,
        speculative_s=speculative_s,
        tokens=10,
        rounds=3,
    )


def test_speed_ups_are_ratios_of_summed_times() -> None:
    found = speed_of([clip("a", 2.0, 1.0), clip("b", 1.0, 1.5)], draws=100)
    assert found.decode_value == 3.0 / 2.5
    assert found.end_to_end_value == pytest.approx((3.0 + 1.0) / (2.5 + 1.4))
    assert found.overlapped_value == pytest.approx((3.0 + 1.0) / (2.5 + 1.0))
    assert found.mean_of_clips == (2.0 + 1.0 / 1.5) / 2
    assert found.slower_share == 0.5
    assert found.plain_tokens_s == 20 / 3
    assert found.decode is not None
    assert found.decode.low == pytest.approx(1 / 1.5)
    assert found.decode.high == pytest.approx(2.0)


def test_one_recording_has_no_interval_and_no_clip_no_speed() -> None:
    assert speed_of([clip("a", 2.0, 1.0)]).decode is None
    with pytest.raises(EvaluationError, match="nothing was timed"):
        speed_of([])


def test_cpu_time_is_what_the_process_used() -> None:
    seconds, result = timed(torch.device("cpu"), lambda: sum(range(2_000_000)))
    assert result == sum(range(2_000_000))
    assert 0 < seconds < 5


@pytest.mark.parametrize(
    ("alpha", "c", "gamma", "speedup"),
    [
        (0.3, 0.05, 2, 1.26),
        (0.5, 0.1, 2, 1.46),
        (0.6, 0.2, 2, 1.40),
        (0.7, 0.05, 6, 2.35),
        (0.8, 0.1, 6, 2.47),
        (0.9, 0.05, 13, 4.67),
        (0.9, 0.5, 3, 1.38),
        (0.3, 0.5, 0, 1.00),
    ],
)
def test_the_best_gamma_is_that_of_the_formula(
    alpha: float, c: float, gamma: int, speedup: float
) -> None:
    found = best_gamma(alpha, c)
    assert found[0] == gamma
    assert found[1] == pytest.approx(speedup, abs=0.006)


def test_a_costly_verification_needs_longer_drafts_or_none() -> None:
    assert best_gamma(0.8, 0.1, 1.5)[1] < best_gamma(0.8, 0.1)[1]
    assert best_gamma(0.8, 0.1, 9.0) == (0, 1.0)
