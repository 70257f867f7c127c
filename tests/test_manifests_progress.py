"""Progress off a terminal: pace, and a time to go by the work's size and not its count."""

import logging

import pytest

from egotriad.manifests import progress
from egotriad.manifests.progress import Meter


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_lines_come_every_thirty_seconds_with_pace_and_time_to_go(
    clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with Meter() as meter:
        for second in range(1, 61):
            clock[0] = 100.0 + second
            amounts = {"events": second * 2.5e6, "recorded s": second * 0.5}
            meter("built", second, 240, share=second / 120, amounts=amounts)
    assert [record.getMessage() for record in caplog.records] == [
        "built: 30 of 240, 2.5M events/s, 0.5 recorded s/s, 1:30 to go",
        "built: 60 of 240, 2.5M events/s, 0.5 recorded s/s, 1:00 to go",
    ]


def test_the_last_line_always_comes(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with Meter() as meter:
        clock[0] += 1.0
        meter("checked", 1, 2)
        clock[0] += 1.0
        meter("checked", 2, 2)
        meter("nothing", 0, 0)
    assert [record.getMessage() for record in caplog.records] == [
        "checked: 2 of 2, 0:00 to go",
        "nothing: 0 of 0",
    ]


def test_long_times_are_told_in_hours() -> None:
    assert progress._clock(3 * 3600 + 62) == "3:01:02"
    assert [progress._short(v) for v in (0.123456, 1234.0, 5.678e9)] == ["0.123", "1.23k", "5.68G"]
