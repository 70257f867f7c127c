"""`evaluate-acceptance` as users type it: what it refuses, and what its options change."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from egotriad.alignment.cli import compare_reports, evaluate_acceptance
from egotriad.alignment.proposers import DraftProposer, Proposal
from egotriad.alignment.stages import STAGES
from egotriad.alignment.target_outputs import (
    generate_outputs,
    read_target_outputs,
    write_target_outputs,
)
from egotriad.alignment.train_cli import cache_targets
from egotriad.alignment.train_draft import DraftTraining, train_draft
from egotriad.alignment.train_target import TargetTraining, train_target
from egotriad.manifests import Clip
from egotriad.manifests.shards import shards_sha256
from egotriad.models.conditioned import ConditionedLM
from egotriad.models.decoder import DecoderConfig, build_decoder
from egotriad.models.draft_imu import ImuDraftConfig
from egotriad.models.draft_text import TextDraftConfig
from egotriad.models.encoder_limu_bert import LimuBert, LimuBertConfig
from egotriad.models.folder import load_model, save_model
from egotriad.models.seeding import torch_stream
from egotriad.models.target_llama import vicuna_prompt
from egotriad.models.target_tiny import TinyTargetConfig
from egotriad.models.tokenizer import tokenizer_json, train_tokenizer, wrapped

SCHEMA = Path(__file__).parents[1] / "docs" / "acceptance.schema.json"
VALIDATOR = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))
SMALL = DecoderConfig(hidden_size=32, intermediate_size=64, heads=2)
LONGEST = 12


@dataclass(frozen=True)
class Desk:
    """Shards, a target with its texts, a draft with its twin, and the command line over them."""

    root: Path
    capsys: pytest.CaptureFixture[str]

    def run(self, *flags: str, **paths: str | Path) -> int:
        """Exit code; `paths` replace folders by name, `flags` are added."""
        given = {name: self.root / name for name in ("shards", "target", "draft")}
        given |= {"outputs": self.root / "outputs.parquet", "out": self.root / "report", **paths}
        words = [w for name, path in given.items() for w in (f"--{name}", str(path))]
        few = ["--max-new-tokens", str(LONGEST), "--bootstrap-draws", "100", "--speed-clips", "1"]
        self.capsys.readouterr()
        return evaluate_acceptance([*words, *few, *flags])

    def report(self, *flags: str, **paths: str | Path) -> dict[str, Any]:
        """The report of a run that succeeds."""
        assert self.run(*flags, **paths) == 0
        text = (self.root / "report" / "report.json").read_text(encoding="utf-8")
        found: dict[str, Any] = json.loads(text)
        VALIDATOR.validate(found)
        return found

    def refused(self, *flags: str, code: int = 1, **paths: str | Path) -> str:
        """What is said when a run fails; nothing is written."""
        out = self.root / "nothing"
        assert self.run(*flags, **{"out": out, **paths}) == code
        assert not out.exists()
        said = self.capsys.readouterr().err.splitlines()[-1]
        assert said.startswith("error: ")
        return said

    def clips(self) -> list[dict[str, Any]]:
        """The per-clip lines of the last report."""
        lines = (self.root / "report" / "clips.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]

    def cached(self, name: str, *flags: str, **paths: str | Path) -> Path:
        """A new file of target outputs."""
        given = {name: self.root / name for name in ("shards", "target")} | paths
        words = [w for key, path in given.items() for w in (f"--{key}", str(path))]
        assert cache_targets([*words, "--out", str(self.root / name), *flags]) == 0
        return self.root / name


@pytest.fixture(scope="module")
def made(
    toy_clips: Callable[..., list[Clip]],
    tmp_path_factory: pytest.TempPathFactory,
    write_build: Callable[[Sequence[Clip], Path], Path],
) -> Path:
    """Trained once: enough for texts that differ and drafts that are partly right."""
    root = tmp_path_factory.mktemp("desk")
    clips = toy_clips(24)
    train = [clip for clip in clips if clip.split == "train"]
    target = train_target(
        train,
        TargetTraining(tower_steps=30, tower_batch=16, decoder_steps=80, decoder_batch=16),
        model_config=TinyTargetConfig(decoder=SMALL, tower_widths=(8, 16, 32)),
    )
    save_model(root / "target", target.model, target.tokenizer, target.meta)
    write_build(clips, root / "shards")
    flags = ["--max-new-tokens", str(LONGEST), "--out", str(root / "outputs.parquet")]
    words = ["--shards", str(root / "shards"), "--target", str(root / "target"), *flags]
    assert cache_targets(words) == 0
    outputs = list(generate_outputs(clips, target.model, target.tokenizer, max_new_tokens=LONGEST))
    training = DraftTraining(steps=60, batch=16, learning_rate=6e-3)
    for name, config, folder in (
        ("imu", ImuDraftConfig(decoder=SMALL), root / "draft"),
        ("text", TextDraftConfig(decoder=SMALL), root / "draft" / "text-only"),
    ):
        draft = train_draft(
            train, outputs, target.tokenizer, training, draft=name, model_config=config
        )
        save_model(folder, draft.model, target.tokenizer, draft.meta)
    return root


@pytest.fixture
def desk(
    made: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Desk:
    monkeypatch.setattr("egotriad.alignment.cost.REPEATS", 2)  # times are not what is tested
    for name in ("shards", "target", "draft", "outputs.parquet"):
        (tmp_path / name).symlink_to(made / name)
    return Desk(tmp_path, capsys)


def reader(desk: Desk) -> list[Clip]:
    from egotriad.manifests.shards import read_shards

    return list(read_shards(desk.root / "shards"))


# --- errors, never a report of zeros ------------------------------------------------------------


def test_an_evaluation_of_no_clips_is_an_error(
    desk: Desk, write_build: Callable[[Sequence[Clip], Path], Path]
) -> None:
    assert "has no split 'val', only test, train" in desk.refused("--split", "val")
    clips = [clip for clip in reader(desk) if clip.split == "train"]
    shards = write_build(clips, desk.root / "empty")
    outputs = desk.cached("empty.parquet", "--max-new-tokens", str(LONGEST), shards=shards)
    said = desk.refused(shards=shards, outputs=outputs)
    assert "the shards hold none of split 'test'" in said


def test_an_evaluation_in_which_every_clip_fails_is_an_error(
    desk: Desk, write_build: Callable[[Sequence[Clip], Path], Path]
) -> None:
    blind = [replace(clip, imu=None) if clip.split == "test" else clip for clip in reader(desk)]
    shards = write_build(blind, desk.root / "blind")
    outputs = desk.cached("blind.parquet", "--max-new-tokens", str(LONGEST), shards=shards)
    said = desk.refused(shards=shards, outputs=outputs)
    assert "none of 8 clips could be evaluated; the first: " in said
    assert "no IMU" in said


def test_clips_that_fail_among_others_are_listed_and_the_exit_code_says_so(
    desk: Desk, write_build: Callable[[Sequence[Clip], Path], Path]
) -> None:
    clips = reader(desk)
    assert clips[0].split == "test"
    clips[0] = replace(clips[0], imu=None)
    shards = write_build(clips, desk.root / "gap")
    outputs = desk.cached("gap.parquet", "--max-new-tokens", str(LONGEST), shards=shards)
    assert desk.run("--batch", "4", shards=shards, outputs=outputs) == 3
    report = json.loads((desk.root / "report" / "report.json").read_text(encoding="utf-8"))
    assert report["data"]["evaluated"] == 7
    assert report["data"]["failures"][0]["window_id"] == clips[0].window_id


def test_a_draft_of_another_vocabulary_is_refused_with_the_ids(desk: Desk) -> None:
    model, tokenizer, meta = load_model(desk.root / "draft")
    other = train_tokenizer(["quite another text", "USER: x ASSISTANT:"], vocab_size=len(tokenizer))
    save_model(desk.root / "foreign", type(model)(model.config, other), other, meta)
    said = desk.refused(draft=desk.root / "foreign")
    assert "ids mean different pieces to draft and target (id " in said


def test_a_draft_that_never_runs_is_an_error(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DraftProposer, "propose", lambda *_: Proposal([]))
    assert "the draft proposed nothing in " in desk.refused()


def test_a_draft_in_the_targets_place_and_the_reverse_are_refused(desk: Desk) -> None:
    draft, target = desk.root / "draft", desk.root / "target"
    assert "holds a draft, need a target" in desk.refused(target=draft)
    assert "holds a target, need a draft" in desk.refused(draft=target)


@pytest.mark.parametrize("target", ["target", "cached"])
def test_texts_of_other_shards_or_too_short_ones_are_refused(
    desk: Desk, target: str, write_build: Callable[[Sequence[Clip], Path], Path]
) -> None:
    given = {"target": "cached" if target == "cached" else desk.root / "target"}
    shards = write_build(reader(desk)[::-1], desk.root / "other")
    assert "made with other shards" in desk.refused(shards=shards, **given)
    short = desk.cached("short.parquet", "--max-new-tokens", "5")
    assert "cut after 5 ids, need 12" in desk.refused(outputs=short, **given)


def test_texts_of_another_target_are_refused(desk: Desk) -> None:
    model, tokenizer, _ = load_model(desk.root / "target")
    save_model(desk.root / "again", model, tokenizer, {"other": True})
    assert "made with other target" in desk.refused(target=desk.root / "again")


def test_recorded_texts_of_another_tokenizer_are_refused(desk: Desk) -> None:
    model, tokenizer, meta = load_model(desk.root / "draft")
    wide = extended(tokenizer)
    save_model(desk.root / "wide", rebuilt(model, wide), wide, meta)
    said = desk.refused(draft=desk.root / "wide", target="cached")
    assert "made with other tokenizer" in said


# --- recorded texts in the place of the target --------------------------------------------------


@pytest.mark.parametrize("flags", [(), ("--batch", "5"), ("--tree-width", "3", "--gamma", "3")])
def test_recorded_texts_give_the_rounds_of_the_target_and_no_times(
    desk: Desk, flags: tuple[str, ...]
) -> None:
    live = desk.report(*flags)
    rounds = [clip["arms"]["draft"]["rounds"] for clip in desk.clips()]
    replayed = desk.report(*flags, target="cached")
    for arm in (*live["arms"].values(), *replayed["arms"].values()):
        del arm["offline"]
    if "--tree-width" in flags:  # a tree depends on its drafter's second thoughts
        assert replayed["arms"]["oracle"]["rounds"] <= live["arms"]["oracle"]["rounds"]
        for report in (live, replayed):
            del report["arms"]["oracle"]
    assert replayed["arms"] == live["arms"]
    assert replayed["tau_gains"] == live["tau_gains"]
    assert [clip["arms"]["draft"]["rounds"] for clip in desk.clips()] == rounds
    assert replayed["lossless"]["oracle_complete"]
    assert (live["target"]["recorded"], replayed["target"]["recorded"]) == (False, True)
    assert replayed["sources"] == live["sources"]
    cost = replayed["cost"]
    assert {name for name, value in cost.items() if value is not None} == {
        "drafted_per_round",
        "clips_timed",
    }
    assert cost["clips_timed"] == 0
    assert replayed["cautions"][0].startswith("Measured on recorded texts: times,")
    page = (desk.root / "report" / "report.html").read_text(encoding="utf-8")
    assert "recorded ones, replayed" in page
    assert "times as fast" not in page


@pytest.mark.parametrize(
    "flags", [("--temperature", "1"), ("--check-lossless",), ("--require-lossless",)]
)
def test_what_recorded_texts_cannot_tell_is_refused(desk: Desk, flags: tuple[str, ...]) -> None:
    said = desk.refused(*flags, target="cached", code=2)
    assert said.startswith(f"error: {flags[0]}: recorded texts say what the target chose greedily")


def test_recorded_texts_have_no_precision(desk: Desk) -> None:
    assert "--precision: is of published models" in desk.refused(
        "--precision", "bfloat16", target="cached", code=2
    )


def test_a_folder_called_cached_can_still_be_named(desk: Desk) -> None:
    assert "config.json" in desk.refused(target="./cached")


# --- vocabularies -------------------------------------------------------------------------------


def extended(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    wide = wrapped(Tokenizer.from_str(tokenizer_json(tokenizer)))
    wide.add_tokens(["<ts>"], special_tokens=True)
    return wide


def rebuilt(model: ConditionedLM, tokenizer: PreTrainedTokenizerFast) -> ConditionedLM:
    """The model around another tokenizer; where its texts begin with "C", a new id is louder."""
    first = tokenizer.encode("C walks", add_special_tokens=False)[0]
    made: ConditionedLM = type(model)(model.config, tokenizer)
    weights = model.state_dict()
    for name, own in made.state_dict().items():
        if own.shape != weights[name].shape:
            weights[name] = torch.cat([weights[name], 2 * weights[name][first : first + 1]])
    made.load_state_dict(weights)
    return made.eval()


def test_equal_vocabularies_are_recorded_with_their_tokenizers(desk: Desk) -> None:
    report = desk.report()
    models = report["models"]
    vocabulary = models["draft"]["vocabulary"]
    assert vocabulary["verdict"] == models["text_draft"]["vocabulary"]["verdict"] == "equal"
    assert vocabulary["draft_rows"] == vocabulary["target_rows"]
    assert {models[role]["tokenizer_sha256"] for role in models} == {
        report["sources"]["tokenizer_sha256"]
    }


def test_a_wider_draft_is_masked_and_drafts_as_before(desk: Desk) -> None:
    before = desk.report()
    model, tokenizer, meta = load_model(desk.root / "draft")
    wide = extended(tokenizer)
    save_model(desk.root / "wide", rebuilt(model, wide), wide, meta)
    twin = ("--text-draft", str(desk.root / "draft" / "text-only"))
    after = desk.report(*twin, draft=desk.root / "wide")
    vocabulary = after["models"]["draft"]["vocabulary"]
    assert vocabulary["verdict"] == "padded"
    assert (vocabulary["draft_only"], vocabulary["target_only"]) == (1, 0)
    assert after["models"]["draft"]["tokenizer_sha256"] != after["sources"]["tokenizer_sha256"]
    for name, arm in after["arms"].items():
        assert arm["rounds"] == before["arms"][name]["rounds"]
        assert arm["histogram"] == before["arms"][name]["histogram"]


@pytest.mark.parametrize("batch", ["1", "6"])
def test_a_wider_target_never_says_what_the_draft_cannot_follow(desk: Desk, batch: str) -> None:
    model, tokenizer, meta = load_model(desk.root / "target")
    wide = extended(tokenizer)
    save_model(desk.root / "wide", rebuilt(model, wide), wide, meta)
    outputs = desk.cached(
        "wide.parquet", "--max-new-tokens", str(LONGEST), target=desk.root / "wide"
    )
    new = len(tokenizer)
    assert any(new in row.output_ids for row in read_target_outputs(outputs))
    report = desk.report("--batch", batch, target=desk.root / "wide", outputs=outputs)
    vocabulary = report["models"]["draft"]["vocabulary"]
    assert (vocabulary["verdict"], vocabulary["target_only"]) == ("padded", 1)
    assert not any(new in clip["target_ids"] for clip in desk.clips())
    assert report["lossless"]["equal"] == report["lossless"]["checked"] > 0
    assert report["lossless"]["oracle_complete"]


# --- several clips at a time --------------------------------------------------------------------


def close(a: Any, b: Any) -> bool:
    """Equal, numbers up to the order in which floats were added."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(close(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(close, a, b))
    return bool(a == pytest.approx(b, rel=1e-4, abs=1e-5)) if isinstance(a, float) else a == b


@pytest.mark.parametrize("flags", [(), ("--temperature", "0.8", "--top-p", "0.95")])
def test_a_batch_gives_the_report_of_one_clip_at_a_time(desk: Desk, flags: tuple[str, ...]) -> None:
    flags = (*flags, "--prompt-lookup", "--retrieval")
    one = desk.report(*flags)
    clips = desk.clips()
    several = desk.report(*flags, "--batch", "5")
    assert several["config"].pop("batch") == 5
    assert one["config"].pop("batch") == 1
    for report in (one, several):
        drafted = report.pop("cost")["drafted_per_round"]  # the rest are times
        report["drafted"] = drafted
        report["cautions"] = [c for c in report["cautions"] if not c.startswith("No gain")]
    assert close(several, one)
    assert close(desk.clips(), clips)


def test_clips_run_together_only_where_they_draft_alike(desk: Desk) -> None:
    for flags in (("--schedule", "heuristic"), ("--confidence", "0.4"), ("--tree-width", "2")):
        assert "--batch: clips that run together" in desk.refused("--batch", "2", *flags, code=2)


# --- arms on request, questions, stages ---------------------------------------------------------


def test_prompt_lookup_and_retrieval_are_arms_with_gains(desk: Desk) -> None:
    plain = desk.report()
    report = desk.report("--prompt-lookup", "--retrieval")
    names = ["draft", "text_only", "ngram", "prompt_lookup", "retrieval"]
    assert list(report["arms"])[:5] == names
    assert set(report["tau_gains"]) == set(plain["tau_gains"]) | {"prompt_lookup", "retrieval"}
    assert report["arms"]["retrieval"]["accepted"] > 0
    assert report["arms"]["retrieval"]["offline"] is None
    assert report["lossless"]["equal"] == report["lossless"]["checked"]
    for name, arm in plain["arms"].items():
        assert report["arms"][name]["rounds"] == arm["rounds"]
    page = (desk.root / "report" / "report.html").read_text(encoding="utf-8")
    assert "prompt lookup" in page
    assert "retrieved text" in page
    without = desk.report("--retrieval", target="cached")
    assert without["arms"]["retrieval"]["rounds"] == report["arms"]["retrieval"]["rounds"]


def test_reports_of_other_arms_and_without_times_are_compared(desk: Desk) -> None:
    one, two = desk.root / "one", desk.root / "two"
    assert desk.run(out=one) == 0
    assert desk.run("--retrieval", target="cached", out=two) == 0
    desk.capsys.readouterr()
    for order in ((one, two), (two, one)):
        assert compare_reports([*map(str, order)]) == 0
        shown = desk.capsys.readouterr().out
        assert "gain over retrieval" in shown
        assert "speedup predicted" in shown
        assert "Not the same" not in shown


def test_engines_change_no_round_and_are_recorded(desk: Desk) -> None:
    reports = [desk.report("--engine", name) for name in ("auto", "eager", "graphed")]
    for role in ("target", "draft", "text_draft"):
        assert [r["models"][role]["engine"] for r in reports] == ["lean", "eager", "graphed"]
    for report in reports[1:]:
        for name, arm in report["arms"].items():
            assert arm["histogram"] == reports[0]["arms"][name]["histogram"]
        assert report["lossless"]["equal"] == report["lossless"]["checked"]


def test_retrieval_without_a_training_clip_it_can_use_is_an_error(
    desk: Desk, write_build: Callable[[Sequence[Clip], Path], Path]
) -> None:
    dead = [replace(clip, imu=None) if clip.split == "train" else clip for clip in reader(desk)]
    shards = write_build(dead, desk.root / "dead")
    outputs = desk.cached("dead.parquet", "--max-new-tokens", str(LONGEST), shards=shards)
    said = desk.refused("--retrieval", shards=shards, outputs=outputs)
    assert "retrieval has no training clip with a text of the target" in said


def test_a_question_reaches_the_target_and_binds_its_texts(desk: Desk) -> None:
    _, tokenizer, _ = load_model(desk.root / "draft")
    shape = DecoderConfig(hidden_size=32, intermediate_size=64, heads=2, tie_embeddings=False)
    with torch_stream(0, "published"):
        decoder = build_decoder(shape, len(tokenizer)).eval()
        with torch.no_grad():
            decoder.get_input_embeddings().weight.mul_(20)
    folder = desk.root / "published"
    folder.mkdir()
    save_file(dict(decoder.state_dict()), folder / "model.safetensors")
    (folder / "config.json").write_text(decoder.config.to_json_string())
    (folder / "tokenizer.json").write_text(tokenizer_json(tokenizer))
    given = {"target": folder, "draft": desk.root / "draft"}
    common = ("--precision", "float32", "--max-new-tokens", str(LONGEST))
    asked, other = ("--question", "C walks?"), ("--question", "C sits?")
    outputs = desk.cached("asked.parquet", *common, *asked, target=folder)
    assert read_target_outputs(outputs).meta["prompt"] == vicuna_prompt("C walks?")
    report = desk.report(*common[:2], *asked, **given, outputs=outputs)
    assert report["models"]["target"]["prompt"] == vicuna_prompt("C walks?")
    for flags in (other, ()):
        said = desk.refused(*common[:2], *flags, **given, outputs=outputs)
        assert "target outputs were made with other prompt" in said
    replayed = desk.report(target="cached", outputs=outputs)
    assert replayed["models"]["target"]["prompt"] == vicuna_prompt("C walks?")
    said = desk.refused(*asked, target="cached", outputs=outputs, code=2)
    assert "recorded texts answer the prompt" in said


def llasa_folder(desk: Desk) -> Path:
    """LLaSA in small as its authors publish it, without the tower that is not published."""
    _, tokenizer, _ = load_model(desk.root / "draft")
    shape = DecoderConfig(hidden_size=32, intermediate_size=64, heads=2, tie_embeddings=False)
    with torch_stream(0, "llasa"):
        decoder = build_decoder(shape, len(tokenizer)).eval()
        projector = torch.nn.Sequential(
            torch.nn.Linear(72, 32), torch.nn.GELU(), torch.nn.Linear(32, 32)
        )
    weights = {f"model.mm_projector.{key}": w for key, w in projector.state_dict().items()}
    folder = desk.root / "LLaSA-7B"
    folder.mkdir()
    save_file(weights | decoder.state_dict(), folder / "model.safetensors")
    values = json.loads(decoder.config.to_json_string()) | {"model_type": "llava_llama"}
    (folder / "config.json").write_text(json.dumps(values))
    return folder


def test_a_published_draft_is_told_its_options_and_a_substitute_is_never_silent(
    desk: Desk,
) -> None:
    with torch_stream(2, "substitute"):
        torch.save(LimuBert(LimuBertConfig()).state_dict(), desk.root / "uci.pt")
    options = {"samples": "60", "substitute_encoder": str(desk.root / "uci.pt")}
    flags = [w for key in options for w in ("--draft-option", f"{key}={options[key]}")]
    flags += ["--draft-tokenizer", str(desk.root / "draft" / "tokenizer.json")]
    flags += ["--text-draft", str(desk.root / "draft" / "text-only")]
    folder = llasa_folder(desk)
    said = desk.refused(*flags, draft=folder, code=2)
    assert "set allow_substitute_encoder to go on" in said
    flags += ["--draft-option", "allow_substitute_encoder=true"]
    assert "draft does not say which wearers" in desk.refused(*flags, draft=folder)
    report = desk.report(*flags, "--allow-overlap", draft=folder)
    published = report["models"]["draft"]["published"]
    assert published["options"]["substitute_encoder"]["name"] == "uci.pt"
    assert published["options"]["samples"] == 60
    assert any("encoder is a substitute (uci.pt)" in line for line in report["cautions"])


def test_options_of_drafts_that_take_none_or_are_misspelt_are_refused(desk: Desk) -> None:
    assert "takes no samples" in desk.refused("--draft-option", "samples=60", code=2)
    said = desk.refused("--draft-option", "samples", code=2)
    assert "--draft-option: got 'samples', need NAME=VALUE" in said
    assert "takes no visual_tower" in desk.refused("--target-option", "visual_tower=x", code=2)


def test_a_target_that_takes_no_question_says_so(desk: Desk) -> None:
    assert "takes no question" in desk.refused("--question", "What?", code=2)


def test_texts_recorded_before_prompts_were_are_taken_for_the_usual_one(desk: Desk) -> None:
    outputs = read_target_outputs(desk.root / "outputs.parquet")
    meta = {key: outputs.meta[key] for key in outputs.meta if not key.startswith("prompt")}
    write_target_outputs(desk.root / "old.parquet", outputs, meta)
    report = desk.report(outputs=desk.root / "old.parquet")
    assert report["data"]["evaluated"] == 8


def stages_file(desk: Desk, **changes: Any) -> Path:
    times = {stage: {"p50": 0.001 * (k + 1)} for k, stage in enumerate(STAGES)}
    report = {
        "config": {"clock": "cpu"},
        "weights": "trained",
        "data": {"ok": 7},
        "models": {"target": {"name": "<tiny>", "parameters": 378_000}},
        "arms": {name: {"stages": times} for name in ("target", "draft", "speculative")},
        "sources": {"shards_sha256": shards_sha256(desk.root / "shards")},
        **changes,
    }
    path = desk.root / "stages.json"
    path.write_text(json.dumps(report))
    return path


def test_stages_become_stacked_bars_on_the_page(desk: Desk) -> None:
    desk.report("--stages", str(stages_file(desk)))
    page = (desk.root / "report" / "report.html").read_text(encoding="utf-8")
    assert "Median milliseconds over 7 clips, cpu time" in page
    assert "measured them: target &lt;tiny&gt; (0.378 M weights)." in page
    assert page.count(">15 ms<") == 3
    assert "target + draft" in page
    desk.report()
    without = (desk.root / "report" / "report.html").read_text(encoding="utf-8")
    assert "<h2>Stages</h2>" not in without


def test_stages_of_other_shards_and_other_files_are_refused(desk: Desk) -> None:
    path = stages_file(desk, sources={"shards_sha256": "ab"})
    assert "measured on other shards (sha256 ab" in desk.refused("--stages", str(path))
    path = stages_file(desk, arms={"target": {}})
    assert "not a report of benchmark-stages" in desk.refused("--stages", str(path))
    path.write_text("{")
    assert "not a report of benchmark-stages" in desk.refused("--stages", str(path))
