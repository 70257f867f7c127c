import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from egotriad.manifests import Events, Span
from egotriad.manifests.errors import UsageError
from egotriad.manifests.events import concatenate


def random_events(n: int, seed: int, width: int = 7, height: int = 5) -> Events:
    rng = np.random.default_rng(seed)
    return Events(
        t_us=rng.integers(-50, 50, n),
        x=rng.integers(0, width, n).astype(np.uint16),
        y=rng.integers(0, height, n).astype(np.uint16),
        p=rng.random(n) < 0.5,
        size_wh=(width, height),
    )


@given(st.integers(0, 300), st.integers(0, 99))
def test_canonical_order_is_t_then_y_then_x_then_p(n: int, seed: int) -> None:
    events = random_events(n, seed)
    rows = list(zip(events.t_us, events.y, events.x, events.p, strict=True))
    ordered = events.canonical()
    assert list(zip(ordered.t_us, ordered.y, ordered.x, ordered.p, strict=True)) == sorted(rows)
    assert ordered.canonical() is ordered


def test_between_takes_the_start_and_leaves_the_end() -> None:
    events = random_events(200, 1).canonical()
    inside = events.between(-10, 10)
    assert len(inside) == ((events.t_us >= -10) & (events.t_us < 10)).sum()
    assert inside.t_us.min() >= -10
    assert inside.t_us.max() < 10


def test_shifting_there_and_back_changes_nothing() -> None:
    events = random_events(50, 2)
    assert events.shifted(123).shifted(-123).same_as(events)
    assert not events.shifted(1).same_as(events)


def test_times_that_do_not_fit_beside_the_address_are_refused() -> None:
    events = random_events(2, 3)
    far = Events(
        t_us=np.array([0, 1 << 60]), x=events.x, y=events.y, p=events.p, size_wh=events.size_wh
    )
    with pytest.raises(UsageError, match="make them relative to the window"):
        far.canonical()


def test_wrong_types_name_the_column() -> None:
    events = random_events(3, 4)
    with pytest.raises(UsageError, match=r"events.x: got int64 \(3,\), need uint16"):
        Events(t_us=events.t_us, x=events.t_us, y=events.y, p=events.p, size_wh=(7, 5))


def test_nothing_concatenates_to_no_events_and_repr_shows_no_contents() -> None:
    assert len(concatenate([], (3, 2))) == 0
    both = concatenate([random_events(3, 1), random_events(4, 2)], (7, 5))
    assert len(both) == 7
    assert len(repr(both)) < 80


def test_span_arithmetic() -> None:
    span = Span(100, 51)
    assert (span.end_us, span.centre_us) == (151, 125)
