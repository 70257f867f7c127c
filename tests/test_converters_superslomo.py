"""The networks on made-up weights: what must hold whatever they have learnt, and bad files."""

import datetime
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from egotriad.converters.interpolate import UpsampleConfig, Upsampler
from egotriad.converters.superslomo import FLOW_KEY, REFINE_KEY, SuperSlomo, layer_shapes
from egotriad.manifests.errors import CheckpointError, MissingDependency, UsageError

torch = pytest.importorskip("torch")

SHAPES = {FLOW_KEY: layer_shapes(2, 4), REFINE_KEY: layer_shapes(12, 5)}


def silent_networks() -> dict:
    """Weights of zero: no flow, both frames equally visible. A layer takes one number on disk."""
    zero = torch.zeros(())
    content = {
        key: {name: zero.expand(shape) for name, shape in shapes.items()}
        for key, shapes in SHAPES.items()
    }
    for key, shapes in SHAPES.items():
        content[key]["conv3.bias"] = torch.zeros(shapes["conv3.bias"])
    return content


def saved(path: Path, content: object, **options: object) -> Path:
    torch.save(content, path, **options)
    return path


@pytest.fixture(scope="module")
def silent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("slomo") / "SuperSloMo39.ckpt", silent_networks())


def texture(shape: tuple[int, int]) -> np.ndarray:
    y, x = np.mgrid[: shape[0], : shape[1]]
    return np.rint(127 + 60 * np.sin(x / 5.0) + 50 * np.cos(y / 7.0)).astype(np.uint8)


def test_the_networks_have_the_parameters_of_the_published_checkpoint() -> None:
    count = {key: sum(int(np.prod(s)) for s in shapes.values()) for key, shapes in SHAPES.items()}
    assert sum(count.values()) == 39_591_657  # "39.6 million"
    assert count[REFINE_KEY] - count[FLOW_KEY] == 10 * 32 * 49 + 32 * 9 + 1
    assert SHAPES[FLOW_KEY]["down1.conv1.weight"] == (64, 32, 5, 5)
    assert SHAPES[REFINE_KEY]["up5.conv2.weight"] == (32, 64, 3, 3)


def test_without_flow_the_frame_is_the_mixture_at_the_fraction_asked_for(silent: Path) -> None:
    first, second = np.full((40, 50), 40, np.uint8), np.full((40, 50), 140, np.uint8)
    shown = SuperSlomo(silent).between(first, second, np.array([0.1, 0.5, 0.8]))
    assert shown.shape == (3, 40, 50)
    assert [set(np.unique(frame)) for frame in shown] == [{50}, {90}, {120}]


def test_a_size_that_is_no_multiple_of_32_keeps_its_pixels(silent: Path) -> None:
    still = texture((50, 70))
    assert np.array_equal(SuperSlomo(silent).between(still, still, np.array([0.3]))[0], still)


def test_flow_of_the_second_network_moves_both_frames(tmp_path: Path) -> None:
    content = silent_networks()
    content[REFINE_KEY]["conv3.bias"][:4] = torch.tensor([2.0, 0.0, 0.0, 3.0])
    network = SuperSlomo(saved(tmp_path / "a.ckpt", content))
    network._half_pixel = 0.0  # these weights know nothing of rest
    still = texture((64, 64))
    shown = network.between(still, still, np.array([1e-9, 1 - 1e-9]))
    assert np.array_equal(shown[0][:, :-2], still[:, 2:])
    assert np.array_equal(shown[1][:-3], still[3:])


def test_flow_of_the_first_network_counts_with_the_published_coefficients(tmp_path: Path) -> None:
    content = silent_networks()
    content[FLOW_KEY]["conv3.bias"][:] = torch.tensor([0.0, 0.0, 8.0, 0.0])  # back by 8 px in x
    network = SuperSlomo(saved(tmp_path / "a.ckpt", content))
    network._half_pixel = 0.0
    first, second = texture((64, 96)), np.zeros((64, 96), np.uint8)
    late = 0.5  # first frame: t^2 * 8 = 2 px away
    shown = network.between(first, second, np.array([late]))[0]
    expected = np.rint(first[:, 2:] / 2.0)
    assert np.abs(shown[:, :-2] - expected).max() <= 1


def test_visibility_takes_a_pixel_from_one_frame(tmp_path: Path) -> None:
    content = silent_networks()
    content[REFINE_KEY]["conv3.bias"][4] = 50.0  # sigmoid: seen in the first frame only
    network = SuperSlomo(saved(tmp_path / "a.ckpt", content))
    first, second = np.full((32, 32), 40, np.uint8), np.full((32, 32), 200, np.uint8)
    assert np.unique(network.between(first, second, np.array([0.9]))).tolist() == [40]


@pytest.mark.parametrize(("bias", "shift"), [(0.0, 0.0), (0.5, 0.5)])
def test_things_at_rest_stay_at_rest_whichever_sampler_trained_the_network(
    tmp_path: Path, bias: float, shift: float
) -> None:
    content = silent_networks()
    content[REFINE_KEY]["conv3.bias"][:4] = bias
    network = SuperSlomo(saved(tmp_path / "a.ckpt", content))
    assert network._half_pixel == shift
    still = texture((64, 64))
    assert np.array_equal(network.between(still, still, np.array([0.5]))[0], still)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_checkpoint_as_the_training_program_wrote_it_is_read(
    tmp_path: Path, zipped: bool
) -> None:
    content = silent_networks() | {
        "Detail": "End to end Super SloMo.",
        "epoch": 39,
        "timestamp": datetime.datetime(2019, 5, 27, 12, 0),
        "learningRate": 1e-4,
        "loss": [[1.0, 2.0]],
    }
    path = saved(tmp_path / "a.ckpt", content, _use_new_zipfile_serialization=zipped)
    SuperSlomo(path)


def test_frames_between_frames_through_the_upsampler(silent: Path) -> None:
    config = UpsampleConfig(method="superslomo", factor=4, checkpoint=silent)
    upsampler = Upsampler(config, (64, 48))
    still = texture((48, 64))
    frames = np.stack([still, np.minimum(still, 235) + 20]).astype(np.uint8)
    chunks = list(upsampler.feed(frames, np.array([0, 40_000])))
    assert np.concatenate([c.t_us for c in chunks]).tolist() == [0, 10_000, 20_000, 30_000, 40_000]
    middle = chunks[1].luma[1].astype(int)
    assert np.abs(middle - (frames[0].astype(int) + frames[1]) / 2).max() <= 1
    assert config.identity()["checkpoint_sha256"]


def test_keys_that_are_missing_or_too_many_are_named(tmp_path: Path) -> None:
    content = silent_networks()
    del content[FLOW_KEY]["up3.conv2.bias"]
    content[FLOW_KEY]["conv9.weight"] = torch.zeros(1)
    content[FLOW_KEY]["conv3.bias"] = torch.zeros(5)
    with pytest.raises(CheckpointError) as caught:
        SuperSlomo(saved(tmp_path / "a.ckpt", content))
    message = str(caught.value)
    assert "a.ckpt: state_dictFC lacks up3.conv2.bias; has no use for conv9.weight" in message
    assert "conv3.bias (5,) instead of (4,)" in message


@pytest.mark.parametrize("content", [{"model": {}}, [1, 2], {FLOW_KEY: {}, "x": 1}])
def test_another_file_of_torch_is_refused(tmp_path: Path, content: object) -> None:
    with pytest.raises(CheckpointError, match=r"a\.ckpt: .*(SuperSloMo39|lacks)"):
        SuperSlomo(saved(tmp_path / "a.ckpt", content))


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, silent: Path) -> None:
    bad = tmp_path / "bad.ckpt"
    for content in (b"", b"<html>not found</html>", silent.read_bytes()[:5_000]):
        bad.write_bytes(content)
        with pytest.raises(CheckpointError, match="download SuperSloMo39"):
            SuperSlomo(bad)
    with pytest.raises(CheckpointError, match="not there"):
        SuperSlomo(tmp_path / "absent.ckpt")
    with pytest.raises(UsageError, match="no such file"):
        UpsampleConfig(method="superslomo", checkpoint=tmp_path / "absent.ckpt")


def test_a_checkpoint_cannot_run_code(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot read it"):
        SuperSlomo(saved(tmp_path / "a.ckpt", {"run": print}))


def test_without_torch_the_message_says_what_to_install(
    silent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingDependency, match=r"pip install 'egotriad\[train\]'"):
        SuperSlomo(silent)


def test_cuda_that_is_not_there_is_a_usage_error(
    silent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="use 'cpu'"):
        SuperSlomo(silent, device="cuda")


def test_torch_is_not_imported_before_a_network_is_made() -> None:
    script = "import sys, egotriad.converters.interpolate; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)
