"""The stage benchmark: each flaw that such scripts have had is a test (flaw 1 to 9)."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from egotriad.alignment import stages
from egotriad.alignment.benchmark_stages import StageBenchmark, benchmark_models
from egotriad.alignment.compare import compare, read_report
from egotriad.alignment.speculate import plain_greedy
from egotriad.alignment.stage_checks import check, check_sum
from egotriad.alignment.stage_models import BenchmarkModels
from egotriad.alignment.stage_summary import P99_NEEDS, settled, stage_report, times_of
from egotriad.alignment.stage_table import stage_table
from egotriad.alignment.stages import STAGES, StageRun, StageSettings, run_alone, run_pair
from egotriad.manifests import Clip, Span
from egotriad.manifests.errors import EvaluationError, UsageError
from egotriad.manifests.plugins import TARGETS
from egotriad.models.conditioned import ConditionedLM
from egotriad.models.decoder import DecoderConfig
from egotriad.models.draft_imu import ImuDraft, ImuDraftConfig
from egotriad.models.target_tiny import TinyTarget, TinyTargetConfig
from egotriad.models.tokenizer import train_tokenizer

Models = tuple[TinyTarget, ImuDraft, PreTrainedTokenizerFast]
SETTINGS = StageSettings(max_new_tokens=8, gamma=3, eos="fixed")


@pytest.fixture(scope="module")
def models() -> Models:
    texts = ["C walks forward.", "USER: What is the wearer doing? ASSISTANT:"]
    tokenizer = train_tokenizer(texts, vocab_size=400)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        small = DecoderConfig(hidden_size=32, intermediate_size=48, layers=1, heads=2)
        target = TinyTarget(TinyTargetConfig(decoder=small), tokenizer)
        draft = ImuDraft(ImuDraftConfig(decoder=small), tokenizer)
    return target.eval(), draft.eval(), tokenizer


@pytest.fixture
def clip(toy_clips: Callable[[int], list[Clip]]) -> Clip:
    return toy_clips(1)[0]


def slow(value: Clip, seconds: float) -> Clip:
    time.sleep(seconds)
    return value


def counted(model: ConditionedLM, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the model is asked, in order."""
    asked: list[str] = []
    for name in ("prepare", "condition", "wrap"):
        true = getattr(model, name)

        def wrapper(*args: object, true: Callable[..., object] = true, name: str = name) -> object:
            asked.append(name)
            return true(*args)

        monkeypatch.setattr(model, name, wrapper)
    return asked


def test_flaw_1_the_load_stage_holds_the_loading(models: Models, clip: Clip) -> None:
    target, _, tokenizer = models
    run = run_alone(target, tokenizer, partial(slow, clip, 0.05), SETTINGS)
    assert run.seconds["load"] >= 0.05
    assert run.total_s >= sum(run.seconds.values())
    # A processor does nothing while it waits for a file.
    cpu = run_alone(target, tokenizer, partial(slow, clip, 0.05), replace(SETTINGS, clock="cpu"))
    assert cpu.seconds["load"] < 0.04


def test_flaw_2_encoding_happens_once_and_a_second_time_is_caught(
    models: Models, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, draft, tokenizer = models
    asked = counted(target, monkeypatch), counted(draft, monkeypatch)
    run = run_pair(target, draft, tokenizer, lambda: clip, SETTINGS)
    assert asked == (["prepare", "condition", "wrap"],) * 2
    assert run.encodings == dict.fromkeys(STAGES, 0) | {"encode": 2}
    check(run, models=2)
    inputs = target.prepare(clip, clip.event_spans[1])[None]
    monkeypatch.setattr(target, "wrap", lambda _: TinyTarget.wrap(target, target.condition(inputs)))
    twice = run_alone(target, tokenizer, lambda: clip, SETTINGS)
    with pytest.raises(EvaluationError, match="1 in encode, 1 in prefill, 0 in decode; need 1 in"):
        check(twice, models=1)


def test_flaw_3_encoding_in_another_stage_is_caught(
    models: Models, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, _, tokenizer = models
    true = target.prepare

    def eager(clip: Clip, span: Span) -> Tensor:
        target.condition(true(clip, span)[None])
        return true(clip, span)

    monkeypatch.setattr(target, "prepare", eager)
    early = run_alone(target, tokenizer, lambda: clip, SETTINGS)
    with pytest.raises(EvaluationError, match="1 in preprocess, 1 in encode"):
        check(early, models=1)
    never = replace(early, encodings=dict.fromkeys(STAGES, 0) | {"prefill": 1})
    with pytest.raises(EvaluationError, match="0 in encode, 1 in prefill"):
        check(never, models=1)


def test_flaw_4_the_first_id_belongs_to_the_prefix_and_the_others_to_decoding(
    models: Models, clip: Clip
) -> None:
    target, _, tokenizer = models
    run = run_alone(target, tokenizer, lambda: clip, SETTINGS)
    check(run, models=1)
    assert len(run.ids) == 8
    assert run.passes == 7
    assert run.tpot_s == run.seconds["decode"] / 7
    report = stage_report([run], [run])
    assert report["decode_tok_s"] == pytest.approx(7 / run.seconds["decode"])
    assert report["prefill_tok_s"] == pytest.approx(run.cached / run.seconds["prefill"])
    layers, heads, width = 1, 2, 16
    assert run.kv_bytes == 2 * 4 * layers * heads * width * (run.cached + 8)
    one = run_alone(target, tokenizer, lambda: clip, replace(SETTINGS, max_new_tokens=1))
    assert one.tpot_s is None
    assert stage_report([one], [one])["tpot"] is None


def test_flaw_5_tokenising_the_prompt_is_in_preprocess(
    models: Models, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, _, tokenizer = models
    true = stages.prompt_ids

    def costly(*args: object) -> object:
        time.sleep(0.05)
        return true(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(stages, "prompt_ids", costly)
    assert run_alone(target, tokenizer, lambda: clip, SETTINGS).seconds["preprocess"] >= 0.05


def test_flaw_5_work_that_lies_in_no_stage_is_caught(
    models: Models, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, _, tokenizer = models
    check_sum([run_alone(target, tokenizer, lambda: clip, SETTINGS) for _ in range(10)])
    true = stages._encodings

    @contextmanager
    def late(models: Sequence[ConditionedLM]) -> Iterator[list[str]]:
        time.sleep(0.01)  # before the first border
        with true(models) as seen:
            yield seen

    monkeypatch.setattr(stages, "_encodings", late)
    runs = [run_alone(target, tokenizer, lambda: clip, SETTINGS) for _ in range(10)]
    with pytest.raises(
        EvaluationError, match=r"stages of 10 runs add up to .* work lies in no stage"
    ):
        check_sum(runs)


def test_flaw_6_the_clock_is_not_the_calendar(
    models: Models, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, _, tokenizer = models
    monkeypatch.setattr(time, "time", lambda: pytest.fail("time.time() may jump"))
    run = run_alone(target, tokenizer, lambda: clip, SETTINGS)
    assert all(seconds >= 0 for seconds in run.seconds.values())


def test_flaw_6_percentiles_are_only_given_where_runs_suffice() -> None:
    few = times_of(np.linspace(1, 2, 100).tolist())
    assert few.p99 is None
    assert few.p50.value == pytest.approx(1.5)
    assert few.p90.low < few.p90.value < few.p90.high
    assert times_of(np.linspace(1, 2, P99_NEEDS).tolist()).p99 == pytest.approx(1.99, abs=0.001)
    assert times_of([1.0]).std is None
    with pytest.raises(EvaluationError, match="0 runs"):
        times_of([])


def test_flaw_6_warming_up_ends_when_times_settle_or_patience_does() -> None:
    assert not settled([1.0, 1.0])
    assert settled([9.0, 1.0, 1.04, 1.02])
    assert not settled([1.0, 1.0, 1.2])
    assert settled([float(2 ** (k % 5)) for k in range(20)])


def test_flaw_7_the_cache_holds_the_sensor_tokens_that_are_counted(
    models: Models, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, _, tokenizer = models
    run = run_alone(target, tokenizer, lambda: clip, SETTINGS)
    check(run, models=1)
    assert run.sensor_tokens > target.config.frames
    assert run.cached == run.prompt_tokens + run.sensor_tokens
    monkeypatch.setattr(target, "wrap", lambda tokens: TinyTarget.wrap(target, tokens[:, :3]))
    short = run_alone(target, tokenizer, lambda: clip, SETTINGS)
    assert short.sensor_tokens == run.sensor_tokens
    with pytest.raises(EvaluationError, match=f"hold {short.prompt_tokens + 3} positions"):
        check(short, models=1)


@pytest.mark.parametrize("name", ["tiny", "eventgpt", "video_llava"])
def test_flaw_9_a_target_looks_at_its_images_in_the_encode_stage(
    name: str, models: Models, clip: Clip
) -> None:
    _, _, tokenizer = models
    target_class = TARGETS.load(name)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        target = target_class(target_class.small(), tokenizer).eval()  # type: ignore[attr-defined]
    tower = getattr(target, "video_tower" if name == "video_llava" else "visual_tower")
    tower.register_forward_hook(lambda *_: time.sleep(0.05))
    brief = replace(clip, event_spans=(Span(1_500_000, 50_000),))
    run = run_alone(target, tokenizer, lambda: brief, SETTINGS)
    check(run, models=1)
    assert run.seconds["encode"] >= 0.05
    assert run.seconds["prefill"] < 0.05


def test_the_pair_says_what_the_target_says_alone(models: Models, clip: Clip) -> None:
    target, draft, tokenizer = models
    alone = run_alone(target, tokenizer, lambda: clip, SETTINGS)
    pair = run_pair(target, draft, tokenizer, lambda: clip, SETTINGS)
    check(pair, models=2)
    state = target.state(target.prepare(clip, clip.event_spans[1])[None])
    expected = plain_greedy(state, max_new_tokens=8, eos_id=-1)
    assert list(alone.ids) == list(pair.ids) == expected
    assert pair.rounds <= 8
    assert pair.cached > alone.cached


def test_a_run_in_one_go_has_a_total_and_no_stages(models: Models, clip: Clip) -> None:
    target, _, tokenizer = models
    run = run_alone(target, tokenizer, lambda: clip, SETTINGS, staged=False)
    assert run.seconds == {}
    assert run.total_s > 0


def good() -> StageRun:
    return StageRun(
        seconds=dict.fromkeys(STAGES, 0.1),
        total_s=0.5,
        ids=(5, 6, 7),
        prompt_tokens=10,
        sensor_tokens=20,
        cached=30,
        encodings=dict.fromkeys(STAGES, 0) | {"encode": 1},
        passes=2,
        rounds=0,
        kv_bytes=1,
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encodings": {}}, "encodings: none; need 1 in encode"),
        ({"cached": 29}, "the caches hold 29 positions after the prefix"),
        ({"passes": 3}, "3 decoder passes for 3 ids"),
        ({"seconds": {"load": 0.5}}, "stages are load"),
    ],
)
def test_what_is_not_as_it_says_is_an_error(change: dict[str, object], message: str) -> None:
    check(good(), models=1)
    with pytest.raises(EvaluationError, match=message):
        check(replace(good(), **change), models=1)


def test_a_pair_has_a_target_pass_per_round() -> None:
    pair = replace(good(), encodings=dict.fromkeys(STAGES, 0) | {"encode": 2}, rounds=3, passes=2)
    check(pair, models=2)
    with pytest.raises(EvaluationError, match="1 target passes in 3 rounds"):
        check(replace(pair, passes=1), models=2)


def test_what_stages_miss_is_judged_over_all_runs_by_one_percent_or_two_milliseconds() -> None:
    brief = replace(good(), seconds=dict.fromkeys(STAGES, 0.001), total_s=0.005)
    check_sum([replace(good(), total_s=0.5049)])
    check_sum([replace(brief, total_s=0.0069)])
    check_sum([*[brief] * 9, replace(brief, total_s=0.02)])  # interrupted once
    for wrong in (replace(good(), total_s=0.5051), replace(brief, total_s=0.0071)):
        with pytest.raises(EvaluationError, match="of 1 runs add up to"):
            check_sum([wrong])
    with pytest.raises(EvaluationError, match="or in two"):
        check_sum([replace(good(), total_s=0.49)])


def test_flaw_8_the_report_holds_every_arm_and_says_what_failed(
    models: Models, toy_clips: Callable[[int], list[Clip]]
) -> None:
    target, draft, tokenizer = models
    clips = toy_clips(4)
    clips[2] = replace(clips[2], imu=None)
    loads = [partial(lambda c: c, c) for c in clips]
    config = StageBenchmark(max_new_tokens=4, gamma=2, clips=4, clock="cpu", allow_failures=1)
    both = BenchmarkModels(target=target, draft=draft, tokenizer=tokenizer)
    report, lines = benchmark_models(both, loads, config)
    json.dumps(report, allow_nan=False)
    assert list(report["arms"]) == ["target", "draft", "speculative"]
    assert [f["clip"] for f in report["data"]["failures"]] == [clips[2].window_id]
    assert report["data"]["ok"] == 3
    assert len(lines) == 9
    for arm in report["arms"].values():
        assert sum(s["share"] for s in arm["stages"].values()) == pytest.approx(1)
        assert all(s["n"] == 3 and s["p50"] >= 0 for s in arm["stages"].values())
        assert 0.2 < arm["staged_over_e2e"] < 5
        assert arm["memory"]["weights_bytes"] > 0
    assert report["arms"]["speculative"]["rounds"] > 0
    assert report["arms"]["speculative"]["inter_burst"]
    assert min(w["runs"] for w in report["warm_up"].values()) >= 3
    assert report["lossless"] == {"checked": 3, "equal": 3}
    assert report["models"]["target"]["engine"] == "lean"
    assert report["models"]["draft"]["precision"] == "float32"
    assert all(w["first_call_s"] > 0 for w in report["warm_up"].values())
    assert "RANDOM" not in str(stage_table(report).title)
    assert "RANDOM" in str(stage_table(report | {"weights": "random"}).title)
    alone, _ = benchmark_models(replace(both, draft=None), loads[:1], config)
    assert list(alone["arms"]) == ["target"]
    assert alone["lossless"] is None


def test_arms_and_their_two_runs_take_turns(
    models: Models, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, draft, tokenizer = models
    true, order = stages._run, []

    def noted(members: Sequence[ConditionedLM], *rest: object, staged: bool) -> StageRun:
        order.append((len(members), members[0].name, staged))
        return true(members, *rest, staged=staged)  # type: ignore[arg-type]

    both = BenchmarkModels(target=target, draft=draft, tokenizer=tokenizer)
    monkeypatch.setattr(stages, "_run", noted)
    benchmark_models(both, [lambda: clip] * 4, StageBenchmark(max_new_tokens=2, clock="cpu"))
    measured = [order[-24:][k : k + 2] for k in range(0, 24, 2)]
    arms = [(1, "tiny"), (1, "imu"), (2, "tiny")]
    assert [pair[0][:2] for pair in measured] == [*arms, *arms[::-1]] * 2
    staged_first = [pair[0][2] for pair in measured]
    assert staged_first == [True] * 3 + [False] * 6 + [True] * 3
    assert all(pair[0][2] != pair[1][2] for pair in measured)


def test_flaw_8_failures_beyond_what_is_allowed_and_nothing_left_are_errors(
    models: Models, clip: Clip
) -> None:
    target, draft, tokenizer = models
    both = BenchmarkModels(target=target, draft=draft, tokenizer=tokenizer)
    broken = replace(clip, imu=None)
    loads = [lambda: clip, lambda: broken]
    with pytest.raises(EvaluationError, match=r"1 of 2 clips cannot be measured .*no IMU"):
        benchmark_models(both, loads, StageBenchmark())
    with pytest.raises(EvaluationError, match="one must remain"):
        benchmark_models(both, [lambda: broken], StageBenchmark(allow_failures=1))
    with pytest.raises(UsageError, match="max_new_tokens"):
        StageBenchmark(max_new_tokens=1)


def report(folder: Path, tau: float, **sources: str) -> Path:
    draft = {"tau_incl_bonus": tau, "alpha_conditional": 0.5, "alpha_teacher_forced": 0.6}
    cost = dict.fromkeys(
        ("c", "v", "speedup_predicted", "speedup_measured_decode", "speedup_measured_e2e"), 1.0
    )
    value = {
        "schema_version": 2,
        "verdict": "The IMU adds 0.1.",
        "cautions": [],
        "sources": {"shards_sha256": "a", **sources},
        "data": {"split": "test", "evaluated": 9},
        "config": {"gamma": 5},
        "models": {"draft": {"name": "imu"}},
        "arms": {"draft": {**draft, "ci95": {"tau_incl_bonus": [1.0, 2.0]}}},
        "tau_gains": {"text_only": {"value": tau - 1}},
        "cost": cost,
    }
    folder.mkdir()
    (folder / "report.json").write_text(json.dumps(value))
    return folder


def test_reports_are_compared_and_what_else_differs_is_said(tmp_path: Path) -> None:
    one, two = report(tmp_path / "a", 1.5), report(tmp_path / "b", 1.75)
    found = compare([one, two / "report.json"])
    assert [r["tau"] for r in found["reports"]] == [1.5, 1.75]
    assert found["reports"][1]["gain_over_text_only"] == 0.75
    assert found["differ"] == {}
    other = report(tmp_path / "c", 2.0, shards_sha256="b")
    assert compare([one, other])["differ"] == {"shards": ["a", "b"]}
    with pytest.raises(UsageError, match="got 1 reports"):
        compare([one])
    with pytest.raises(EvaluationError, match="not an acceptance report"):
        read_report(tmp_path / "nowhere")
    (one / "report.json").write_text('{"schema_version": 1}')
    with pytest.raises(EvaluationError, match="schema 1, need 2"):
        read_report(one)
