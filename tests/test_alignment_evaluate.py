import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from egotriad.alignment.acceptance import RoundCount, walk
from egotriad.alignment.arms import ArmRun, ClipResult, Divergence
from egotriad.alignment.cautions import cautions
from egotriad.alignment.controls import overlap, shuffled_donors, zeroed_imu
from egotriad.alignment.cost import StepCosts, predicted_speedup
from egotriad.alignment.evaluate import Evaluation, evaluate
from egotriad.alignment.evaluate_shards import evaluate_on_shards
from egotriad.alignment.evaluation_config import EvaluationConfig
from egotriad.alignment.report_files import report_json, write_report
from egotriad.alignment.speculate import Round
from egotriad.alignment.summary import summarise, verdict
from egotriad.alignment.target_outputs import TargetOutput, cache_targets, generate_outputs
from egotriad.alignment.target_quality import target_quality
from egotriad.alignment.train_draft import DraftTraining, train_draft
from egotriad.alignment.train_target import TargetTraining, train_target
from egotriad.manifests import Clip
from egotriad.manifests.errors import (
    CheckpointError,
    ClipRejected,
    EvaluationError,
    UsageError,
)
from egotriad.manifests.shards import TableWriter
from egotriad.models.conditioned import ConditionedLM
from egotriad.models.decoder import DecoderConfig
from egotriad.models.draft_imu import ImuDraftConfig
from egotriad.models.draft_text import TextDraftConfig
from egotriad.models.folder import save_model
from egotriad.models.target_tiny import TinyTargetConfig
from egotriad.pipelines.build import BuildConfig
from egotriad.pipelines.pack import pack
from egotriad.pipelines.part import Part

CONFIG = EvaluationConfig(gamma=5, max_new_tokens=16, bootstrap_draws=200)
SMALL = DecoderConfig(hidden_size=32, intermediate_size=64, heads=2)


@dataclass(frozen=True)
class World:
    """A trained target with its drafts, and clips they have not seen."""

    clips: list[Clip]
    target: ConditionedLM
    draft: ConditionedLM
    text_draft: ConditionedLM
    tokenizer: PreTrainedTokenizerFast
    outputs: list[TargetOutput]
    metas: dict[str, dict[str, Any]]

    @property
    def few(self) -> list[Clip]:
        """Twelve held-out clips of three recordings."""
        return [clip for clip in self.clips if clip.split == "test"][:12]

    def evaluate(self, config: EvaluationConfig = CONFIG, **changes: Any) -> Evaluation:
        given: dict[str, Any] = {
            "clips": self.clips,
            "target": self.target,
            "draft": self.draft,
            "text_draft": self.text_draft,
            "training_outputs": self.outputs,
            "tokenizer": self.tokenizer,
            "metas": self.metas,
            **changes,
        }
        return evaluate(config=config, **given)


_TRAINED: list[tuple[World, Evaluation]] = []


@pytest.fixture
def trained(toy_clips: Callable[..., list[Clip]]) -> tuple[World, Evaluation]:
    """Trained once; the test split is spread over eight recordings of four clips."""
    if not _TRAINED:
        clips = [
            replace(clip, recording=f"held{k // 4 % 8}", wearer=f"h{k // 8 % 4}")
            if clip.split == "test"
            else clip
            for k, clip in enumerate(toy_clips(96))
        ]
        world = train(clips)
        _TRAINED.append((world, world.evaluate()))
    return _TRAINED[0]


def train(clips: list[Clip]) -> World:
    train_split = [clip for clip in clips if clip.split == "train"]
    target = train_target(
        train_split,
        TargetTraining(
            tower_steps=50,
            tower_batch=16,
            decoder_steps=150,
            decoder_batch=16,
            decoder_learning_rate=3e-3,
        ),
        model_config=TinyTargetConfig(decoder=SMALL, tower_widths=(8, 16, 32)),
    )
    outputs = list(generate_outputs(clips, target.model, target.tokenizer, max_new_tokens=16))
    training = DraftTraining(steps=150, batch=16, learning_rate=6e-3)
    draft, text_draft = (
        train_draft(
            train_split, outputs, target.tokenizer, training, draft=name, model_config=config
        )
        for name, config in (
            ("imu", ImuDraftConfig(decoder=SMALL)),
            ("text", TextDraftConfig(decoder=SMALL)),
        )
    )
    return World(
        clips=clips,
        target=target.model,
        draft=draft.model,
        text_draft=text_draft.model,
        tokenizer=target.tokenizer,
        outputs=outputs,
        metas={"target": target.meta, "draft": draft.meta, "text_draft": text_draft.meta},
    )


# --- the whole evaluation on trained models -----------------------------------------------------


def test_every_arm_writes_the_targets_own_text(trained: tuple[World, Evaluation]) -> None:
    _, evaluation = trained
    assert list(evaluation.summary.arms) == [
        "draft",
        "text_only",
        "ngram",
        "zeroed_imu",
        "shuffled_imu",
        "oracle",
    ]
    assert (evaluation.requested, len(evaluation.clips), evaluation.failures) == (32, 32, ())
    assert evaluation.summary.checked == evaluation.summary.equal == 32 * 6
    assert evaluation.summary.oracle_complete
    for clip in evaluation.clips:
        for run in clip.arms.values():
            assert tuple(i for r in run.rounds for i in r.emitted) == clip.target_ids


def test_the_target_texts_are_its_cached_ones(trained: tuple[World, Evaluation]) -> None:
    world, evaluation = trained
    cached = {row.window_id: row.output_ids for row in world.outputs if row.span_index == 1}
    assert all(cached[clip.window_id] == clip.target_ids for clip in evaluation.clips)
    assert evaluation.summary.distinct_texts == len({c.target_ids for c in evaluation.clips})


def test_the_imu_draft_beats_its_controls_where_the_imu_tells_the_text(
    trained: tuple[World, Evaluation],
) -> None:
    _, evaluation = trained
    gains = evaluation.summary.tau_gains
    assert set(gains) == {"text_only", "ngram", "zeroed_imu", "shuffled_imu"}
    assert all(gain.low > 0 for gain in gains.values())
    assert evaluation.verdict.startswith(f"The IMU adds {gains['text_only'].value:.2f} tokens")


def test_the_oracle_needs_the_fewest_rounds_possible(trained: tuple[World, Evaluation]) -> None:
    _, evaluation = trained
    for clip in evaluation.clips:
        rounds = clip.arms["oracle"].rounds
        assert len(rounds) == -(-len(clip.target_ids) // 6)
        assert all(r.matched == len(r.drafted) for r in rounds)
        assert all(clip.arms["oracle"].forced)


def test_walking_teacher_forced_matches_gives_every_arms_rounds(
    trained: tuple[World, Evaluation],
) -> None:
    _, evaluation = trained
    for clip in evaluation.clips:
        for run in clip.arms.values():
            walked = walk(run.forced, 5, max_new_tokens=16)
            assert [r.emitted for r in walked] == [len(r.emitted) for r in run.rounds]
            assert [r.matched for r in walked] == [r.matched for r in run.rounds]


def test_the_same_seed_gives_the_same_report_and_another_seed_other_donors(
    trained: tuple[World, Evaluation],
) -> None:
    world, _ = trained
    first, again = (report_json(world.evaluate(clips=world.few)) for _ in range(2))
    for report in (first, again):
        assert set(report) >= {"cost", "cautions"}
        del report["cost"], report["cautions"]  # they hold times
    assert again == first
    other = report_json(world.evaluate(replace(CONFIG, seed=1), clips=world.few))
    assert other["arms"]["draft"]["rounds"] == first["arms"]["draft"]["rounds"]
    assert other["arms"]["shuffled_imu"] != first["arms"]["shuffled_imu"]


def test_without_a_text_only_draft_the_n_gram_table_is_the_measure(
    trained: tuple[World, Evaluation],
) -> None:
    world, _ = trained
    evaluation = world.evaluate(text_draft=None, clips=world.few)
    assert "text_only" not in evaluation.summary.arms
    assert "over the n-gram table" in evaluation.verdict
    assert "only a text-only draft can tell" in evaluation.verdict
    assert any("Without a text-only draft" in line for line in cautions(evaluation))


def test_the_text_only_draft_as_imu_draft_shows_no_use_of_the_sensor(
    trained: tuple[World, Evaluation],
) -> None:
    world, _ = trained
    evaluation = world.evaluate(draft=world.text_draft, clips=world.few)
    arms = evaluation.summary.arms
    assert arms["draft"] == arms["text_only"] == arms["zeroed_imu"] == arms["shuffled_imu"]
    assert evaluation.verdict.startswith("No evidence that the sensor is used: +0.00")
    assert evaluation.summary.oracle_complete
    assert arms["oracle"].metrics.alpha_conditional == 1.0


def test_a_draft_that_only_knows_the_language_is_held_against_the_n_gram_table(
    trained: tuple[World, Evaluation],
) -> None:
    world, evaluation = trained
    assert not any("not better than the n-gram" in line for line in cautions(evaluation))
    alike = world.evaluate(draft=world.text_draft, clips=world.few)
    assert any("The draft is not better than the n-gram table" in line for line in cautions(alike))


def test_clips_that_a_model_cannot_use_are_listed_and_left_out_of_all_arms(
    trained: tuple[World, Evaluation],
) -> None:
    world, _ = trained
    clips = world.few
    broken = [
        replace(clips[0], imu=None),
        replace(clips[1], events=None),
        replace(clips[2], event_spans=()),
        *clips[3:],
    ]
    calls: list[tuple[int, int]] = []
    evaluation = world.evaluate(clips=broken, progress=lambda *done: calls.append(done))
    assert len(evaluation.clips) == 9
    assert {f.window_id for f in evaluation.failures} == {c.window_id for c in clips[:3]}
    assert "no IMU" in evaluation.failures[0].error
    assert any("3 of 12 clips" in line for line in cautions(evaluation))
    assert calls[-1] == (10, 10)
    assert report_json(evaluation)["data"]["failed"] == 3


def test_no_clips_and_no_usable_clips_are_errors_not_zeros(
    trained: tuple[World, Evaluation],
) -> None:
    world, _ = trained
    with pytest.raises(EvaluationError, match="none of split 'validation'"):
        world.evaluate(replace(CONFIG, split="validation"))
    blind = [replace(clip, imu=None) for clip in world.clips]
    with pytest.raises(EvaluationError, match="none of 32 clips could be evaluated; the first:"):
        world.evaluate(clips=blind)
    unseen = [replace(clip, events=None) for clip in world.clips]
    with pytest.raises(EvaluationError, match="none of 32 clips could be evaluated; the first:"):
        world.evaluate(clips=unseen)
    alone = [replace(clip, recording="held0") for clip in world.clips]
    with pytest.raises(EvaluationError, match="at least 2 of them, got 1"):
        world.evaluate(clips=alone)
    with pytest.raises(EvaluationError, match="no training text"):
        world.evaluate(training_outputs=[row for row in world.outputs if row.split == "test"])


def test_clips_of_wearers_seen_in_training_are_refused_unless_allowed(
    trained: tuple[World, Evaluation],
) -> None:
    world, _ = trained
    leaky = [
        replace(clip, wearer="w0") if clip.recording == world.few[0].recording else clip
        for clip in world.few
    ]
    with pytest.raises(
        EvaluationError, match=r"are not held out: draft was trained on 1 wearers \(w0"
    ):
        world.evaluate(clips=leaky)
    evaluation = world.evaluate(replace(CONFIG, allow_overlap=True), clips=leaky)
    assert len(evaluation.overlaps) == 3  # both drafts and the n-gram table
    assert cautions(evaluation)[0].startswith("Not held out: draft was trained on 1 wearers")
    assert report_json(evaluation)["data"]["overlaps"] == list(evaluation.overlaps)
    with pytest.raises(EvaluationError, match="text_draft does not say which wearers"):
        world.evaluate(metas={"draft": world.metas["draft"], "text_draft": {}})


def test_reports_are_json_with_every_block_and_one_line_per_clip(
    trained: tuple[World, Evaluation], tmp_path: Path
) -> None:
    world, evaluation = trained
    quality = target_quality(world.outputs, world.clips, split="test")
    evaluation = replace(evaluation, quality=quality, sources={"shards_sha256": "ab"})
    write_report(evaluation, tmp_path / "out")
    text = (tmp_path / "out" / "report.json").read_text(encoding="utf-8")
    report = json.loads(text)
    assert set(report) == {
        "schema_version",
        "verdict",
        "cautions",
        "config",
        "environment",
        "models",
        "sources",
        "data",
        "arms",
        "tau_gains",
        "lossless",
        "target",
        "cost",
        "by_group",
    }
    draft = report["arms"]["draft"]
    assert (
        draft["tau_incl_bonus"] == draft["emitted_per_round"] == draft["emitted"] / draft["rounds"]
    )
    assert draft["ci95"]["tau_incl_bonus"][0] <= draft["tau_incl_bonus"]
    assert sum(draft["histogram"]) == draft["rounds"]
    assert report["lossless"] == {
        "checked": 192,
        "equal": 192,
        "oracle_complete": True,
        "chi2": None,
        "first_divergence": [],
    }
    assert report["target"]["mean_tokens"] > 1
    assert report["cost"]["c"] > 0
    lines = (tmp_path / "out" / "clips.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(rows) == 32
    emitted = [i for r in rows[0]["arms"]["draft"]["rounds"] for i in r["emitted"]]
    assert emitted == rows[0]["target_ids"]
    assert str(Path.home()) not in text


def write_build(clips: list[Clip], out: Path) -> Path:
    """A build of one part per split."""
    parts = []
    (out / "parts").mkdir(parents=True)
    for split in ("train", "test"):
        chosen = [clip for clip in clips if clip.split == split]
        names = {table: f"{split}.key.{table}.parquet" for table in ("windows", "events")}
        for table, name in names.items():
            with TableWriter(
                out / "parts" / name, table, builder="test 1", config_hash="c"
            ) as writer:
                if table == "windows":
                    writer.write_windows(chosen, [None] * len(chosen), list(range(len(chosen))))
                else:
                    for clip in chosen:
                        writer.write_events(clip)
        parts.append(
            Part(
                recording=split,
                wearer="w",
                key="key",
                split=split,
                split_group=f"toy/{split}",
                rows=len(chosen),
                event_count=sum(len(clip.events or ()) for clip in chosen),
                duration_us=0,
                files={name: {"bytes": 1, "sha256": ""} for name in names.values()},
                sources=[],
                rejected=[],
            )
        )
    pack(parts, out / "parts", out, BuildConfig(), title="toy")
    return out


def test_folders_on_disk_give_the_same_numbers_and_a_whole_report(
    trained: tuple[World, Evaluation], tmp_path: Path
) -> None:
    world, evaluation = trained
    build = write_build(world.clips, tmp_path / "build")
    folders = {}
    for role, model in (
        ("target", world.target),
        ("draft", world.draft),
        ("text_draft", world.text_draft),
    ):
        folders[role] = tmp_path / role
        save_model(folders[role], model, world.tokenizer, world.metas[role])
    cache_targets(build, folders["target"], tmp_path / "outputs.parquet", max_new_tokens=16)

    def on_shards(target: str = "target", draft: str = "draft") -> Evaluation:
        return evaluate_on_shards(
            build,
            folders[target],
            folders[draft],
            folders["text_draft"],
            tmp_path / "outputs.parquet",
            tmp_path / "out",
            CONFIG,
        )

    made = on_shards()
    assert made.summary.arms["draft"] == evaluation.summary.arms["draft"]
    assert made.summary.arms["text_only"] == evaluation.summary.arms["text_only"]
    assert made.quality is not None
    assert made.quality.clips == 32
    assert {f.name for f in (tmp_path / "out").iterdir()} == {
        "clips.jsonl",
        "report.html",
        "report.json",
    }
    for name in ("report.json", "clips.jsonl", "report.html"):
        assert str(tmp_path) not in (tmp_path / "out" / name).read_text(encoding="utf-8")
    with pytest.raises(CheckpointError, match="holds a target, need a draft"):
        on_shards(draft="target")
    save_model(tmp_path / "target", world.target, world.tokenizer, {"other": True})
    with pytest.raises(CheckpointError, match="made with other target"):
        on_shards()


# --- pieces -------------------------------------------------------------------------------------


def result(
    recording: str, index: int, rounds: dict[str, list[Round]], **changes: Any
) -> ClipResult:
    runs = {name: ArmRun(tuple(done), (), None) for name, done in rounds.items()}
    return ClipResult(
        window_id=f"toy/{recording}/{index}",
        recording=recording,
        wearer=None,
        narration="C walks.",
        target_ids=tuple(i for r in rounds["oracle"] for i in r.emitted),
        target_text="C walks.",
        arms={**runs, **changes},
    )


HIT = Round((5, 6), 2, (5, 6, 7))
MISS = [Round((9, 9), 0, (5,)), Round((9, 9), 0, (6,)), Round((9,), 0, (7,))]


def test_arms_are_ratios_of_sums_and_gains_are_paired() -> None:
    clips = [
        result("a", 0, {"draft": [HIT], "text_only": MISS, "oracle": [HIT]}),
        result("a", 1, {"draft": [HIT], "text_only": MISS, "oracle": [HIT]}),
        result("b", 2, {"draft": MISS, "text_only": MISS, "oracle": [HIT]}),
    ]
    summary = summarise(clips, gamma=2, draws=400, seed=0)
    assert summary.recordings == 2
    assert summary.arms["draft"].tau.value == 9 / 5
    assert summary.arms["draft"].tau.low == 1.0
    assert summary.arms["draft"].tau.high == 3.0
    gain = summary.tau_gains["text_only"]
    assert (gain.value, gain.low, gain.high) == pytest.approx((9 / 5 - 1, 0.0, 2.0))
    assert verdict(summary).startswith("No evidence that the sensor is used: +0.80")


def test_the_verdict_follows_the_interval_of_the_difference() -> None:
    better = [
        result(name, 0, {"draft": [HIT], "text_only": MISS, "oracle": [HIT]}) for name in "ab"
    ]
    worse = [result(name, 0, {"draft": MISS, "text_only": [HIT], "oracle": [HIT]}) for name in "ab"]
    assert verdict(summarise(better, gamma=2)) == (
        "The IMU adds 2.00 tokens per target pass over the text-only draft [2.00, 2.00]."
    )
    assert verdict(summarise(worse, gamma=2)) == (
        "The draft does worse than the text-only draft: -2.00 tokens per target pass "
        "[-2.00, -2.00]."
    )


def test_a_rejected_oracle_and_a_divergence_are_seen() -> None:
    split = ArmRun((HIT,), (), Divergence(1, 1e-7))
    clips = [
        result("a", 0, {"draft": [HIT], "ngram": [HIT], "oracle": [HIT]}, draft=split),
        result("b", 0, {"draft": [HIT], "ngram": [HIT], "oracle": MISS}),
    ]
    summary = summarise(clips, gamma=2)
    assert not summary.oracle_complete
    assert (summary.equal, summary.checked) == (5, 6)


def test_a_divergence_is_located_with_the_gap_and_refused_on_request(
    trained: tuple[World, Evaluation], monkeypatch: pytest.MonkeyPatch
) -> None:
    world, _ = trained
    clips = [clip for clip in world.clips if clip.split == "test"][:8]
    right = trained[1].clips[0].target_ids
    wrong = [*right[:2], 0]
    monkeypatch.setattr("egotriad.alignment.run_arms.plain", lambda *_, **__: wrong)
    evaluation = world.evaluate(clips=clips)
    divergence = evaluation.clips[0].arms["draft"].divergence
    assert divergence is not None
    assert (divergence.index, divergence.top2_gap > 0) == (2, True)
    assert any("differ from plain greedy" in line for line in cautions(evaluation))
    assert report_json(evaluation)["lossless"]["first_divergence"][0]["index"] == 2
    with pytest.raises(EvaluationError, match=r"48 of 48 texts differ .* id 2, top-2 logit gap"):
        world.evaluate(replace(CONFIG, require_lossless=True), clips=clips)


def test_shuffled_donors_are_a_permutation_that_never_keeps_a_recording() -> None:
    recordings = ["a"] * 3 + ["b"] * 5 + ["c"] * 1 + ["d"] * 2
    seen = set()
    for seed in range(20):
        donors = shuffled_donors(recordings, seed)
        assert sorted(donors) == list(range(11))
        assert all(recordings[i] != recordings[j] for i, j in enumerate(donors))
        assert donors == shuffled_donors(recordings, seed)
        seen.add(tuple(donors))
    assert len(seen) == 20


def test_when_one_recording_dominates_donors_repeat_but_still_come_from_others() -> None:
    recordings = ["a"] * 7 + ["b", "c"]
    donors = shuffled_donors(recordings, 0)
    assert all(recordings[i] != recordings[j] for i, j in enumerate(donors))
    assert Counter(recordings[j] for j in donors[:7]).keys() == {"b", "c"}
    with pytest.raises(EvaluationError, match="at least 2 of them, got 1"):
        shuffled_donors(["a", "a"], 0)


def test_a_zeroed_imu_reads_nothing_and_leaves_the_clip_alone(
    toy_clips: Callable[..., list[Clip]],
) -> None:
    clip = toy_clips(1)[0]
    before = clip.imu
    dead = zeroed_imu(clip)
    assert dead.imu is not None
    assert before is not None
    assert not dead.imu.data.any()
    assert dead.imu.valid.all()
    assert (dead.imu.rate_hz, dead.imu.data.shape) == (200.0, (6, 640))
    assert clip.imu is before
    assert np.abs(before.data).max() > 9
    with pytest.raises(ClipRejected, match="no IMU"):
        zeroed_imu(replace(clip, imu=None))


def test_overlap_names_what_was_seen_and_is_silent_otherwise(
    toy_clips: Callable[..., list[Clip]],
) -> None:
    clips = toy_clips(24)
    assert overlap(clips, {"wearers": ["x"], "recordings": []}, "draft") == ""
    sentence = overlap(clips, {"wearers": ["w1"], "recordings": ["rec1", "rec2"]}, "draft")
    assert sentence == (
        "draft was trained on 1 wearers (w1) and 2 recordings (rec1, rec2) of the evaluated clips"
    )
    nobody = [replace(clip, wearer=None) for clip in clips]
    assert overlap(nobody, {"wearers": [], "recordings": []}, "draft") == ""


def test_predicted_speedup_is_plain_steps_over_the_cost_of_the_rounds() -> None:
    costs = StepCosts(t_target_step_s=1.0, t_verify_s=1.5, t_draft_step_s=0.25)
    text = [RoundCount(3, 3, 4), RoundCount(3, 1, 2)]
    assert (costs.c, costs.v) == (0.25, 1.5)
    assert predicted_speedup([text, text], costs) == (6 - 1) / (2 * (1.5 + 3 * 0.25))
    sized = replace(costs, t_feed_s=(1.0, 1.1, 1.2, 1.3))
    assert predicted_speedup([text], sized) == 5 / (1.2 + 1.3 + 6 * 0.25)
    assert predicted_speedup([text], sized, levels=2) == 5 / (1.2 + 1.3 + 4 * 0.25)
    alone = [RoundCount(0, 0, 1)]  # one id, which the prefix gives
    assert predicted_speedup([alone], costs) == 1.0


def test_settings_out_of_range_are_refused() -> None:
    for name, value in (("gamma", 0), ("max_new_tokens", 1), ("bootstrap_draws", 99), ("seed", -1)):
        with pytest.raises(UsageError, match=f"{name}: got {value}"):
            EvaluationConfig(**{name: value})


def test_sampling_is_measured_with_the_same_arms(trained: tuple[World, Evaluation]) -> None:
    world, greedy = trained
    clips = [clip for clip in world.clips if clip.split == "test"][:12]
    config = replace(CONFIG, temperature=0.7, top_p=0.95, speed_clips=2)
    evaluation = world.evaluate(config, clips=clips)
    assert set(evaluation.summary.arms) == set(greedy.summary.arms)
    assert evaluation.summary.oracle_complete
    assert evaluation.summary.checked == 0  # sampled texts differ by right
    assert evaluation == replace(
        world.evaluate(config, clips=clips),
        costs=evaluation.costs,
        speed=evaluation.speed,
        speed_clips=evaluation.speed_clips,
    )
    assert len(evaluation.speed_clips) == 2
    offline = evaluation.summary.arms["draft"].offline
    assert offline is not None
    assert 0 < offline.alpha_overlap <= 1
    with pytest.raises(UsageError, match="leave --temperature at 0"):
        replace(config, require_lossless=True)


def test_the_reports_of_real_evaluations_are_what_the_schema_describes(
    trained: tuple[World, Evaluation],
) -> None:
    path = Path(__file__).parents[1] / "docs" / "acceptance.schema.json"
    report = json.loads(json.dumps(report_json(trained[1])))
    jsonschema.validate(report, json.loads(path.read_text(encoding="utf-8")))


def test_schedules_and_confidence_change_rounds_and_never_texts(
    trained: tuple[World, Evaluation],
) -> None:
    world, _ = trained
    clips = [clip for clip in world.clips if clip.split == "test"][:8]
    plain = world.evaluate(replace(CONFIG, speed_clips=0), clips=clips)
    assert plain.speed is None
    for change in ({"schedule": "heuristic", "gamma": 2}, {"confidence": 0.9}):
        other = world.evaluate(replace(CONFIG, speed_clips=0, **change), clips=clips)
        assert [c.target_ids for c in other.clips] == [c.target_ids for c in plain.clips]
        assert other.summary.equal == other.summary.checked
        assert other.summary.arms["draft"].metrics != plain.summary.arms["draft"].metrics
    tree = replace(CONFIG, speed_clips=2, tree_width=3, gamma=3, tree_nodes=12)
    wide = world.evaluate(tree, clips=clips)
    chain = world.evaluate(replace(CONFIG, speed_clips=0, gamma=3), clips=clips)
    assert [c.target_ids for c in wide.clips] == [c.target_ids for c in plain.clips]
    assert wide.summary.equal == wide.summary.checked
    for arm in ("draft", "text_only", "shuffled_imu"):
        arms = wide.summary.arms[arm], chain.summary.arms[arm]
        assert arms[0].metrics.tau_incl_bonus >= arms[1].metrics.tau_incl_bonus
        assert arms[0].offline == arms[1].offline
    assert arms[0].metrics != arms[1].metrics  # another arm than a chain, though as few passes
    with pytest.raises(UsageError, match="trees are greedy"):
        replace(tree, temperature=1.0)
    with pytest.raises(UsageError, match="schedule"):
        EvaluationConfig(schedule="sometimes")
    with pytest.raises(UsageError, match="confidence"):
        EvaluationConfig(confidence=1.0)


def test_a_pair_is_checked_by_sampling_and_a_wrong_rule_is_caught(
    trained: tuple[World, Evaluation], monkeypatch: pytest.MonkeyPatch
) -> None:
    world, _ = trained
    clips = [clip for clip in world.clips if clip.split == "test"][:8]
    config = replace(CONFIG, check_lossless=True, speed_clips=0)
    found = world.evaluate(config, clips=clips).chi_square
    assert found is not None
    assert found.p > 1e-3
    assert 0.05 < found.accepted < 0.99
    monkeypatch.setattr("egotriad.alignment.rules.residual", lambda p, q: p)
    broken = world.evaluate(config, clips=clips)
    assert broken.chi_square is not None
    assert broken.chi_square.p < 1e-3
    assert any("do not have the target's distribution" in line for line in cautions(broken))
    with pytest.raises(EvaluationError, match="a cache or a rule is wrong"):
        world.evaluate(replace(config, require_lossless=True), clips=clips)
