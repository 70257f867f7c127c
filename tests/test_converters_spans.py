import numpy as np
import pytest

from egotriad.converters.spans import SpanPolicy, choose_spans
from egotriad.converters.windows import Window
from egotriad.manifests import Events, Narration, Span
from egotriad.manifests.errors import UsageError


def events_at(t_us: list[int]) -> Events:
    t = np.array(sorted(t_us), np.int64)
    zeros = np.zeros(len(t), np.uint16)
    return Events(t_us=t, x=zeros, y=zeros, p=zeros.astype(bool), size_wh=(4, 4))


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("full", SpanPolicy()),
        ("0.05s@center", SpanPolicy(duration_us=50_000, stride_us=50_000)),
        ("0.05s x 4", SpanPolicy(duration_us=50_000, count=4, stride_us=50_000)),
        ("0.1s@peak", SpanPolicy(duration_us=100_000, stride_us=100_000, place="peak")),
        (
            "0.1s x3 /0.05s @peak",
            SpanPolicy(duration_us=100_000, count=3, stride_us=50_000, place="peak"),
        ),
    ],
)
def test_span_policies_parse(text: str, want: SpanPolicy) -> None:
    assert SpanPolicy.parse(text) == want


@pytest.mark.parametrize("text", ["", "fully", "0s", "0.1", "0.1s x0", "0.1s@end", "1.2.3s"])
def test_a_bad_span_policy_shows_an_example(text: str) -> None:
    with pytest.raises(UsageError, match="for example"):
        SpanPolicy.parse(text)


def window(anchor_us: int | None = None) -> Window:
    anchor = None if anchor_us is None else Narration(t_us=anchor_us, text="a")
    return Window(t_start_us=10_000_000, duration_us=4_000_000, anchor=anchor, narrations=())


def test_peak_spans_sit_on_the_densest_stretch_near_the_narration() -> None:
    policy = SpanPolicy.parse("0.1s x3 /0.05s @peak")
    # A bigger burst lies outside the search, a smaller one inside it.
    events = events_at([*range(3_500_000, 3_600_000, 100), *range(1_700_000, 1_790_000, 1000), 5])
    spans = choose_spans(policy, window(11_500_000), events)
    middle = spans[1]
    assert middle.start_us <= 1_700_000 < 1_790_000 <= middle.end_us
    assert [s.start_us - middle.start_us for s in spans] == [-50_000, 0, 50_000]
    assert all(s.duration_us == 100_000 for s in spans)


def test_without_events_the_spans_stay_on_the_narration() -> None:
    policy = SpanPolicy.parse("0.1s@peak")
    (span,) = choose_spans(policy, window(11_500_000), events_at([]))
    assert abs(span.centre_us - 1_500_000) <= 1000


@pytest.mark.parametrize("anchor_us", [10_000_000, 13_999_999, None])
@pytest.mark.parametrize("text", ["0.1s x3 /0.05s @peak", "0.05s x4", "0.1s@center"])
def test_spans_never_leave_the_window(text: str, anchor_us: int | None) -> None:
    policy = SpanPolicy.parse(text)
    for events in (events_at([0, 1]), events_at([3_999_999]), events_at([])):
        spans = choose_spans(policy, window(anchor_us), events)
        search = policy.search(window(anchor_us))
        assert spans[0].start_us >= search.start_us >= 0
        assert spans[-1].end_us <= search.end_us <= 4_000_000


def test_full_spans_are_the_window() -> None:
    assert choose_spans(SpanPolicy(), window(), events_at([])) == (Span(0, 4_000_000),)


def test_spans_longer_than_the_window_are_refused() -> None:
    with pytest.raises(UsageError, match="take fewer or shorter spans"):
        SpanPolicy.parse("2s x3").search(window())
