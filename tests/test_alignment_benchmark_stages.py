"""The stage benchmark from shards and from its command line; models of true size without files."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from egotriad.alignment import stage_models
from egotriad.alignment.benchmark_stages import StageBenchmark, benchmark_stages_on_shards
from egotriad.alignment.cli import benchmark_stages
from egotriad.alignment.model_options import TargetOptions
from egotriad.alignment.stage_models import RandomWeights, loaded_models
from egotriad.alignment.stage_table import stage_table
from egotriad.manifests import Clip
from egotriad.manifests.errors import CheckpointError, ShardError, UnknownPlugin, UsageError
from egotriad.manifests.files import sha256_file
from egotriad.manifests.shards import ShardReader, TableWriter
from egotriad.models import placement
from egotriad.models.decoder import DecoderConfig
from egotriad.models.decoders import DECODERS, KnownDecoder
from egotriad.models.draft_imu import ImuDraft, ImuDraftConfig
from egotriad.models.folder import save_model
from egotriad.models.placement import Placement
from egotriad.models.random_models import random_models, stand_in_tokenizer
from egotriad.models.target_eventgpt import EventGpt
from egotriad.models.target_tiny import TinyTarget, TinyTargetConfig
from egotriad.models.target_video_llava import VideoLlava
from egotriad.models.tokenizer import train_tokenizer

SMALL = DecoderConfig(hidden_size=32, intermediate_size=48, layers=1, heads=2)
RANDOM = RandomWeights(random_weights=True)
CPU = Placement(precision="float32")


@pytest.fixture
def shards(tmp_path: Path, toy_clips: Callable[..., list[Clip]]) -> Path:
    """The smallest folder that `ShardReader` takes for a complete build, all of it `test`."""
    out, name = tmp_path / "shards", "test-00000-of-00001.parquet"
    clips = [clip for clip in toy_clips(24) if clip.split == "test"][:3]
    for table, folder in (("windows", "data"), ("events", "events")):
        (out / folder).mkdir(parents=True)
        path = out / folder / name
        with TableWriter(path, table, builder="test 1", config_hash="c") as writer:
            if table == "windows":
                writer.write_windows(clips, [None] * len(clips), list(range(len(clips))))
            else:
                for clip in clips:
                    writer.write_events(clip)
    line = {"config": "windows", "split": "test", "path": f"data/{name}"}
    (out / "manifest.jsonl").write_text(json.dumps(line) + "\n")
    (out / "SHA256SUMS").write_text(f"{sha256_file(out / 'manifest.jsonl')}  manifest.jsonl\n")
    return out


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """A target and a draft that have learnt nothing."""
    texts = ["C walks forward.", "USER: What is the wearer doing? ASSISTANT:"]
    tokenizer = train_tokenizer(texts, vocab_size=400)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        target = TinyTarget(TinyTargetConfig(decoder=SMALL), tokenizer)
        draft = ImuDraft(ImuDraftConfig(decoder=SMALL), tokenizer)
    save_model(tmp_path / "target", target, tokenizer, {})
    save_model(tmp_path / "draft", draft, tokenizer, {})
    return tmp_path / "target", tmp_path / "draft"


@pytest.fixture
def tiny_decoder(monkeypatch: pytest.MonkeyPatch) -> str:
    """A name under which the catalogue has a decoder that a test can afford."""
    known = KnownDecoder(repository="none", parameters=0, config=SMALL, licence="none")
    monkeypatch.setattr(stage_models, "DECODERS", {**DECODERS, "tiny": known})
    return "tiny"


def test_flaw_1_every_load_reads_the_files_anew(shards: Path) -> None:
    reader = ShardReader(shards, split="test", cached_rows=0)
    assert reader.clip(0).events is not None
    for file in (shards / "events").iterdir():
        file.rename(file.with_suffix(".away"))
    with pytest.raises((ShardError, OSError)):
        reader.clip(0)


@pytest.mark.parametrize("engine", ["eager", "lean", "graphed"])
def test_folders_are_timed_from_the_command_line(
    engine: str, shards: Path, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    target, draft = folders
    words = ["--shards", shards, "--target", target, "--draft", draft, "--out", tmp_path / "out"]
    words += ["--engine", engine, "--clips", 2, "--max-new-tokens", 4, "--clock", "cpu"]
    assert benchmark_stages([str(word) for word in words]) == 0
    report = json.loads((tmp_path / "out" / "stages.json").read_text())
    assert report["weights"] == "trained"
    assert report["models"]["target"]["engine"] == report["models"]["draft"]["engine"] == engine
    assert report["models"]["tokenizer"]["stand_in"] is False
    assert report["lossless"] == {"checked": 2, "equal": 2}
    lines = (tmp_path / "out" / "runs.jsonl").read_text().splitlines()
    assert len(lines) == 2 * 3


def test_random_weights_are_timed_and_said_to_be_random(
    shards: Path, tmp_path: Path, tiny_decoder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--shards", shards, "--random-weights", "--target", "llama", "--draft", "imu"]
    words += ["--target-decoder", tiny_decoder, "--draft-decoder", tiny_decoder]
    words += ["--out", tmp_path / "out", "--clips", 2, "--max-new-tokens", 4, "--clock", "cpu"]
    assert benchmark_stages([str(word) for word in words]) == 0
    shown = capsys.readouterr().out
    assert "RANDOM WEIGHTS" in shown
    assert "Texts and acceptance mean nothing" in shown
    report = json.loads((tmp_path / "out" / "stages.json").read_text())
    assert report["weights"] == "random"
    assert report["config"]["eos"] == "fixed"
    assert report["models"]["tokenizer"] == {"ids": 32_000, "stand_in": True}
    assert report["models"]["target"]["decoder_parameters"] > 32_000 * 32
    for arm in report["arms"].values():
        assert arm["tokens_out"] == 2 * 4  # all that was asked for, whatever is said
        assert all(stage["p50"] > 0 for stage in arm["stages"].values())


def test_an_assumed_acceptance_is_that_of_the_pair_and_only_of_random_weights(
    shards: Path, folders: tuple[Path, Path], tmp_path: Path, tiny_decoder: str
) -> None:
    given = RandomWeights(
        random_weights=True, target_decoder=tiny_decoder, draft_decoder=tiny_decoder
    )
    rounds = {}
    for alpha in (0.0, 1.0):
        config = StageBenchmark(
            clips=1, max_new_tokens=13, gamma=3, assumed_alpha=alpha, clock="cpu"
        )
        models = Path("llama"), Path("imu")
        report = benchmark_stages_on_shards(
            shards, *models, tmp_path, config, placement=CPU, random=given
        )
        rounds[alpha] = report["arms"]["speculative"]["rounds"]
        assert report["lossless"] == {"checked": 1, "equal": 1}
        assert f"Assumed alpha: {alpha}" in str(stage_table(report).caption)
    assert rounds == {0.0: 13, 1.0: 4}
    with pytest.raises(UsageError, match="--assumed-alpha: trained models have an acceptance"):
        benchmark_stages_on_shards(shards, *folders, tmp_path, config)
    with pytest.raises(UsageError, match="assumed_alpha: got 2, need 0 <= alpha <= 1"):
        StageBenchmark(assumed_alpha=2)


@pytest.mark.parametrize("target_class", [EventGpt, VideoLlava])
def test_random_models_are_whole_in_their_precision_and_the_same_for_a_seed(
    target_class: type[EventGpt] | type[VideoLlava],
) -> None:
    config = target_class.small()
    tokenizer = stand_in_tokenizer([config.template])
    half = Placement(precision="bfloat16")
    wanted = [(target_class, config), (ImuDraft, ImuDraftConfig(decoder=SMALL))]
    target, draft = random_models(wanted, tokenizer, half)
    again, _ = random_models(wanted, tokenizer, half)
    other, _ = random_models(wanted, tokenizer, half, seed=1)
    assert {w.dtype for m in (target, draft) for w in m.parameters()} == {torch.bfloat16}
    assert torch.get_default_dtype() == torch.float32
    assert not target.training
    one, two, three = (m.decoder.lm_head.weight for m in (target, again, other))
    assert torch.equal(one, two)
    assert not torch.equal(one, three)
    pixels = torch.zeros(1, config.frames, 3, 28, 28)
    assert torch.isfinite(target.state(pixels).prefix_logits).all()
    imu = torch.zeros(1, *draft.encoder.contract.shape)
    assert torch.isfinite(draft.state(imu).prefix_logits).all()


def test_the_stand_in_tokenizer_has_llamas_size_and_knows_the_prompts_words() -> None:
    prompt = EventGpt.Config().template
    tokenizer = stand_in_tokenizer([prompt])
    assert len(tokenizer) == 32_000
    ids = tokenizer.encode(prompt.replace("<event>", ""), add_special_tokens=False)
    assert (
        tokenizer.decode(ids).strip() == prompt.replace("<event>", "").replace("\n", "\n").strip()
    )
    assert 30 < len(ids) < 60  # LLaMA's own needs 57
    assert max(ids) < 1000


def test_with_llamas_own_tokenizer_prompts_have_their_true_length(
    shared: Callable[[str], Path], tiny_decoder: str
) -> None:
    given = RandomWeights(random_weights=True, target_decoder=tiny_decoder)
    options = TargetOptions(target_tokenizer=shared("real/llama2_tokenizer"))
    models = loaded_models(Path("llama"), None, given, CPU, target_options=options)
    assert not models.stand_in
    assert len(models.tokenizer) == 32_000
    prompt = models.target.prompt
    assert len(prompt.before) + len(prompt.after) == 46


def test_too_little_memory_is_said_before_anything_large_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(placement, "free_bytes", lambda device: 10_000_000_000)
    with pytest.raises(
        CheckpointError,
        match=r"target eventgpt and draft imu take 28\.\d GB in float32, 10\.0 GB are free on cpu; "
        "choose another device, or smaller decoders",
    ):
        loaded_models(Path("eventgpt"), Path("imu"), RANDOM, CPU)


def test_a_draft_of_random_weights_is_a_plug_in_or_a_system_with_any_decoder(
    tiny_decoder: str,
) -> None:
    for name, encoder in (("imu", "conv"), ("limu-bert-llama", "limu_bert"), ("text", None)):
        given = RandomWeights(
            random_weights=True, target_decoder=tiny_decoder, draft_decoder="stories15m"
        )
        draft = loaded_models(Path("llama"), Path(name), given, CPU).draft
        assert draft is not None
        assert getattr(draft.config, "encoder", None) == encoder
        weights = sum(w.numel() for w in draft.decoder.parameters())
        assert weights == DECODERS["stories15m"].parameters


def test_names_and_options_are_checked_before_models_are_made(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--draft-decoder: only with --random-weights"):
        RandomWeights(draft_decoder="llama-68m")
    with pytest.raises(UsageError, match="no decoder is called 'llama-70b'; known: stories15m"):
        RandomWeights(random_weights=True, draft_decoder="llama-70b")
    with pytest.raises(UnknownPlugin, match="no target is called 'evengpt'; did you mean eventgpt"):
        loaded_models(Path("evengpt"), None, RANDOM, CPU)
    with pytest.raises(UsageError, match="target cached has no weights"):
        loaded_models(Path("cached"), None, RANDOM, CPU)
    with pytest.raises(UsageError, match="precision 4bit, which packs the weights of files"):
        loaded_models(Path("llama"), None, RANDOM, Placement(precision="4bit"))
    asked = TargetOptions(question="Where?")
    with pytest.raises(UsageError, match="a made-up model takes no question"):
        loaded_models(Path("llama"), None, RANDOM, CPU, target_options=asked)
    with pytest.raises(UsageError, match="engine: got 'fast'"):
        benchmark_stages_on_shards(
            shards,
            Path("tiny"),
            None,
            tmp_path,
            StageBenchmark(),
            random=RANDOM,
            engine="fast",  # type: ignore[arg-type]
        )
