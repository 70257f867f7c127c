from bisect import bisect_right

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egotriad.converters.narration_passes import distinct, link_passes
from egotriad.converters.window_policy import WindowPolicy, mean_gap_us
from egotriad.converters.windows import Window, WindowPlan, plan_windows
from egotriad.manifests import Narration
from egotriad.manifests.errors import ShardError, UsageError


def told(t_s: float, text: str = "C walks", author: str = "1") -> Narration:
    return Narration(t_us=round(t_s * 1e6), text=text, annotation_pass=author)


ACTIONS = ("C walks", "C sits", "C reads", "C talks")


def actions(*times_s: float) -> tuple[Narration, ...]:
    """One different action at each time."""
    return link_passes(told(t, text) for t, text in zip(times_s, ACTIONS, strict=False))


TEXTS = actions(0.4, 2.4, 2.6, 9.9)


def starts_s(windows: tuple[Window, ...]) -> list[float]:
    return [window.t_start_us / 1e6 for window in windows]


def test_grid_windows_cover_without_overlap_and_list_every_narration() -> None:
    plan = plan_windows(WindowPolicy(duration_us=5_000_000), 10_500_000, TEXTS)
    first, second = plan.windows
    assert starts_s(plan.windows) == [0, 5]
    assert plan.rejected == ()
    assert first.narrations == TEXTS[:3]
    assert first.anchor == TEXTS[1]  # the nearest to the centre, the earlier of two
    assert (first.anchor_index, first.other_actions) == (1, 2)
    assert (second.anchor, second.anchor_index, second.other_actions) == (TEXTS[3], 0, 0)


def test_a_grid_may_overlap() -> None:
    policy = WindowPolicy(duration_us=2_000_000, stride_us=500_000)
    assert starts_s(plan_windows(policy, 3_200_000, ()).windows) == [0, 0.5, 1.0]


def test_a_grid_window_without_narration_has_no_anchor() -> None:
    plan = plan_windows(WindowPolicy(duration_us=1_000_000), 3_000_000, TEXTS[:1])
    assert [w.anchor for w in plan.windows] == [TEXTS[0], None, None]
    assert [w.anchor_index for w in plan.windows] == [0, None, None]


def test_point_windows_are_centred_and_those_outside_are_told_apart() -> None:
    plan = plan_windows(WindowPolicy(kind="point", duration_us=2_000_000), 10_000_000, TEXTS)
    assert starts_s(plan.windows) == [1.4, 1.6]
    assert [r.window.anchor.t_us for r in plan.rejected] == [400_000, 9_900_000]
    assert {r.reason for r in plan.rejected} == {"outside-recording"}
    assert plan.windows[0].narrations == TEXTS[1:3]
    assert [w.other_actions for w in plan.windows] == [1, 1]


def test_until_next_windows_touch_and_are_capped() -> None:
    texts = actions(1.0, 1.1, 3.5, 20.0)
    policy = WindowPolicy(kind="until-next", duration_us=4_000_000)
    plan = plan_windows(policy, 22_000_000, texts)
    assert [(w.t_start_us, w.duration_us) for w in plan.windows] == [
        (1_100_000, 2_400_000),
        (3_500_000, 4_000_000),  # the cap
        (20_000_000, 2_000_000),  # the end of the recording
    ]
    (short,) = plan.rejected
    assert (short.reason, short.window.duration_us) == ("too-short", 100_000)
    assert "0.100 s, need 0.2 s" in short.message
    assert all(w.narrations == (w.anchor,) for w in plan.windows)


def test_adaptive_windows_follow_egoclips_formula() -> None:
    # Mean gap 9.8 s: beta / alpha = 2, a window of 2 s around each.
    texts = actions(10.0, 14.8, 29.6)
    plan = plan_windows(WindowPolicy(kind="adaptive"), 40_000_000, texts)
    assert plan.policy.mean_gap_us == 9_800_000
    assert plan.policy.alpha_s == 4.9
    assert [(w.t_start_us, w.duration_us) for w in plan.windows] == [
        (9_000_000, 2_000_000),
        (13_800_000, 2_000_000),
        (28_600_000, 2_000_000),
    ]
    wider = plan_windows(WindowPolicy(kind="adaptive", alpha_s=2.45), 40_000_000, texts)
    assert {w.duration_us for w in wider.windows} == {4_000_000}
    capped = plan_windows(WindowPolicy(kind="adaptive", alpha_s=0.1), 40_000_000, texts)
    assert {w.duration_us for w in capped.windows} == {5_000_000}


def test_the_mean_gap_is_taken_inside_passes_and_a_lone_narration_has_none() -> None:
    first = [told(t) for t in (0, 4, 8)]
    second = [told(t, author="2") for t in (1, 7)]
    assert mean_gap_us(first + second) == (8e6 + 6e6) / 3
    assert mean_gap_us(first[:1] + second[:1]) is None
    plan = plan_windows(WindowPolicy(kind="adaptive"), 10_000_000, link_passes([told(5)]))
    assert [(w.t_start_us, w.duration_us) for w in plan.windows] == [(4_500_000, 1_000_000)]


def test_near_duplicates_lay_one_window_that_lists_both_and_is_not_ambiguous() -> None:
    pair = [told(5.0, "C picks a knife"), told(5.8, "C takes the knife", "2")]
    policy = WindowPolicy(kind="point", duration_us=4_000_000)
    (window,) = plan_windows(policy, 10_000_000, link_passes(pair)).windows
    assert [n.text for n in window.narrations] == ["C picks a knife", "C takes the knife"]
    assert (window.anchor_index, window.other_actions) == (0, 0)
    third = told(6.5, "C opens the door", "2")
    plan = plan_windows(policy, 10_000_000, link_passes([*pair, third]))
    assert [w.other_actions for w in plan.windows] == [1, 1]
    again = told(4.5, "C picks a knife", "3")  # the same action told again is no other action
    plan = plan_windows(policy, 10_000_000, link_passes([pair[0], again]))
    assert {w.other_actions for w in plan.windows} == {0}


def test_two_actions_at_one_moment_share_one_ambiguous_window() -> None:
    both = link_passes([told(5.0, "C sits"), told(5.0, "C talks")])
    for kind in ("point", "until-next", "adaptive"):
        (window,) = plan_windows(WindowPolicy(kind=kind), 10_000_000, both).windows
        assert window.other_actions == 1
        assert window.anchor.text == "C sits"


def test_an_unsure_narration_is_listed_and_counted_but_anchors_nothing() -> None:
    doubted = Narration(t_us=6_000_000, text="C lifts something", unsure=True)
    texts = link_passes([told(5.0, "C sits"), doubted])
    for kind, length_us in (("point", 4_000_000), ("until-next", 1_000_000)):
        dropping = WindowPolicy(kind=kind, duration_us=4_000_000)
        (window,) = plan_windows(dropping, 12_000_000, texts).windows
        assert (window.anchor.text, window.duration_us) == ("C sits", length_us)
        assert window.other_actions == len(window.narrations) - 1
        using = WindowPolicy(kind=kind, duration_us=4_000_000, unsure="replace")
        assert len(plan_windows(using, 12_000_000, texts).windows) == 2
    (alone,) = plan_windows(WindowPolicy(), 5_000_000, link_passes([told(1.0)])).windows
    assert alone.anchor is not None
    (window,) = plan_windows(
        WindowPolicy(), 9_000_000, link_passes([Narration(t_us=1, text="C sits", unsure=True)])
    ).windows
    assert (window.anchor, len(window.narrations), window.other_actions) == (None, 1, 1)


@pytest.mark.parametrize(
    ("rate_hz", "duration_us", "length_us"),
    [
        (200.0, 5_000_000, 5_000_000),
        (200.0, 333_000, 335_000),  # 66.6 samples -> 67
        (60.0, 500_000, 500_000),
        (60.0, 20_000, 16_667),  # one sample of 16,666.67 us
        (197.45, 5_000_000, 4_998_734),  # 987 samples
        (None, 333_333, 333_333),
    ],
)
def test_lengths_become_whole_samples(
    rate_hz: float | None, duration_us: int, length_us: int
) -> None:
    policy = WindowPolicy(duration_us=duration_us, rate_hz=rate_hz)
    assert policy.length_us == length_us
    if rate_hz:
        assert abs(length_us - round(length_us * rate_hz / 1e6) * 1e6 / rate_hz) <= 0.5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"unsure": "keep"}, "need 'drop' or 'replace'"),
        ({"kind": "random"}, "need one of grid, point, until-next, adaptive"),
        ({"kind": "point", "stride_us": 1}, "grid windows only"),
        ({"kind": "grid", "alpha_s": 4.9}, "adaptive windows only"),
        ({"kind": "adaptive", "alpha_s": 0.0}, "need above 0 s"),
        ({"kind": "adaptive", "alpha_s": float("nan")}, "need above 0 s"),
        ({"duration_us": 0}, "must be above 0 s"),
        ({"duration_us": 2**31}, "need at most 2147 s"),
        ({"rate_hz": -200.0}, "need above 0 Hz"),
        ({"duration_us": 2_000, "rate_hz": 200.0}, "hold no sample at 200 Hz"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        WindowPolicy(**settings)


@pytest.mark.parametrize("text", ["", "grid", "[1]", '{"kind":"random"}', '{"what":1}'])
def test_a_stored_policy_that_is_none_says_so(text: str) -> None:
    with pytest.raises(ShardError, match="window_policy: got"):
        WindowPolicy.parse(text)


POLICIES = st.one_of(
    st.builds(
        WindowPolicy,
        kind=st.just("grid"),
        duration_us=st.integers(50_000, 6_000_000),
        stride_us=st.none() | st.integers(100_000, 6_000_000),
        rate_hz=st.sampled_from([None, 20.0, 60.0, 197.45, 200.0]),
    ),
    st.builds(
        WindowPolicy,
        kind=st.sampled_from(["point", "until-next", "adaptive"]),
        duration_us=st.integers(50_000, 6_000_000),
        shortest_us=st.integers(1, 400_000),
        unsure=st.sampled_from(["drop", "replace"]),
        rate_hz=st.sampled_from([None, 20.0, 60.0, 197.45, 200.0]),
    ),
)
NARRATIONS = st.lists(
    st.builds(
        Narration,
        t_us=st.integers(0, 19_999_999),
        text=st.sampled_from(["C cuts the onion", "C slices an onion", "C sits", "X walks"]),
        annotation_pass=st.sampled_from("12"),
        unsure=st.booleans(),
    ),
    max_size=15,
).map(link_passes)
DURATION_US = 20_000_000


@given(POLICIES, NARRATIONS)
def test_windows_keep_what_they_promise(policy: WindowPolicy, texts: tuple[Narration, ...]) -> None:
    plan = plan_windows(policy, DURATION_US, texts)
    rejected = [r.window for r in plan.rejected]
    every = [*plan.windows, *rejected]
    keys = [(w.t_start_us, w.duration_us) for w in every]
    assert len(set(keys)) == len(keys)
    assert [w.t_start_us for w in plan.windows] == sorted(w.t_start_us for w in plan.windows)
    for window in plan.windows:
        assert 0 <= window.t_start_us < window.t_end_us <= DURATION_US
        assert window.narrations == tuple(
            n for n in texts if window.t_start_us <= n.t_us < window.t_end_us
        )
        usable = any(policy.may_anchor(n) for n in window.narrations)
        assert (window.anchor is not None) == usable
        assert window.anchor is None or window.narrations[window.anchor_index] == window.anchor
        if policy.rate_hz:
            samples = window.duration_us * policy.rate_hz / 1e6
            assert abs(samples - round(samples)) <= 0.5e-6 * policy.rate_hz * 1.001
    if policy.kind == "grid":
        starts = range(0, DURATION_US - policy.length_us + 1, policy.stride_us or policy.length_us)
        assert [w.t_start_us for w in plan.windows] == list(starts)
    else:  # every action lies in a window of its own time, kept or reported
        assert {n.t_us for n in distinct(texts) if policy.may_anchor(n)} == {
            anchor_time(w, plan) for w in every
        }


def anchor_time(window: Window, plan: WindowPlan) -> int:
    if plan.policy.kind == "until-next":
        return window.t_start_us
    return window.t_start_us + window.duration_us // 2


@given(NARRATIONS)
def test_until_next_windows_never_reach_the_next_action(texts: tuple[Narration, ...]) -> None:
    policy = WindowPolicy(kind="until-next", shortest_us=1, duration_us=DURATION_US, rate_hz=200.0)
    times = [n.t_us for n in distinct(texts)]
    for window in plan_windows(policy, DURATION_US, texts).windows:
        after = bisect_right(times, window.t_start_us)
        end = times[after] if after < len(times) else DURATION_US
        assert 0 <= end - window.t_end_us < 5_000  # less than one sample is lost


@given(POLICIES, NARRATIONS, st.randoms(use_true_random=False))
def test_a_plan_does_not_depend_on_the_order_of_its_input(policy, texts, random) -> None:
    shuffled = list(texts)
    random.shuffle(shuffled)
    assert plan_windows(policy, DURATION_US, link_passes(shuffled)) == (
        plan_windows(policy, DURATION_US, texts)
    )


@given(POLICIES, NARRATIONS)
def test_the_stored_policy_lays_the_same_windows_again(
    policy: WindowPolicy, texts: tuple[Narration, ...]
) -> None:
    plan = plan_windows(policy, DURATION_US, texts)
    stored = WindowPolicy.parse(str(plan.policy))
    assert stored == plan.policy
    assert plan_windows(stored, DURATION_US, texts) == plan
    for window in plan.windows:
        if policy.kind in ("point", "adaptive"):  # the anchor alone suffices
            again = plan_windows(stored, DURATION_US, window.narrations).windows
            assert (window.t_start_us, window.duration_us) in [
                (w.t_start_us, w.duration_us) for w in again
            ]
