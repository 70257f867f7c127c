"""Super SloMo: frames between two frames by two convolutional networks, with the user's checkpoint.

Jiang et al., "Super SloMo: High Quality Estimation of Multiple Intermediate Frames for Video
Interpolation", CVPR 2018, in the one-channel form of v2e (SensorsINI/v2e, `v2ecore/model.py`,
`slomo.py`; trained as avinashpaliwal/Super-SloMo). A first U-Net (2 -> 4 channels) estimates the
flow between two frames both ways; for each moment a second one (12 -> 5) refines the flows to that
moment and says which frame each pixel is to come from.

We differ from v2e: the training mean is taken off on every device (v2e: on CUDA only); a frame is
rendered at the very fraction asked for; frames are padded to multiples of 32 pixels and cut again
instead of resized twice. torch is imported when the network is made, not before.
"""

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from egotriad.manifests.errors import CheckpointError, MissingDependency, UsageError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["FLOW_KEY", "REFINE_KEY", "SuperSlomo", "layer_shapes"]

FLOW_KEY = "state_dictFC"
"""Where a checkpoint keeps the network of the flow between the frames."""

REFINE_KEY = "state_dictAT"
"""Where it keeps the network of the flow to a moment."""

MEAN = 0.428
"""Of the training frames, on the scale from 0 to 1: v2ecore/slomo.py."""

_STRIDE = 32  # five halvings
_SLOPE = 0.1  # of the leaky rectifiers

Weights: TypeAlias = "Mapping[str, Tensor]"


def layer_shapes(inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    """Name and shape of every weight and bias of a U-Net with so many channels in and out."""
    shapes: dict[str, tuple[int, ...]] = {}

    def convolution(name: str, ins: int, outs: int, side: int) -> None:
        shapes[f"{name}.weight"] = (outs, ins, side, side)
        shapes[f"{name}.bias"] = (outs,)

    widths, sides = (32, 64, 128, 256, 512, 512), (7, 5, 3, 3, 3, 3)
    convolution("conv1", inputs, widths[0], sides[0])
    convolution("conv2", widths[0], widths[0], sides[0])
    for k in range(1, 6):
        convolution(f"down{k}.conv1", widths[k - 1], widths[k], sides[k])
        convolution(f"down{k}.conv2", widths[k], widths[k], sides[k])
    for k in range(1, 6):
        convolution(f"up{k}.conv1", widths[6 - k], widths[5 - k], 3)
        convolution(f"up{k}.conv2", 2 * widths[5 - k], widths[5 - k], 3)
    convolution("conv3", widths[0], outputs, 3)
    return shapes


class SuperSlomo:
    """The networks of one checkpoint.

    Args:
        checkpoint: file with the entries `state_dictFC` and `state_dictAT`, such as v2e's
            SuperSloMo39.ckpt (151 MB, 39.6 million parameters).
        device: `cpu` or `cuda`.

    Raises:
        CheckpointError: the file is missing, unreadable, or holds other weights.
        MissingDependency: torch is not installed.
        UsageError: `cuda` where there is none.
    """

    def __init__(self, checkpoint: Path, *, device: str = "cpu") -> None:
        try:
            import torch
        except ImportError as exc:
            raise MissingDependency(
                "upsampling by 'superslomo' needs torch: pip install 'egotriad[train]'"
            ) from exc
        if device == "cuda" and not torch.cuda.is_available():
            raise UsageError("device: got 'cuda', but torch sees no such device; use 'cpu'")
        flow, refine = _read(checkpoint)
        self._flow = {name: value.to(device) for name, value in flow.items()}
        self._refine = {name: value.to(device) for name, value in refine.items()}
        self._device = device
        self._half_pixel = 0.0
        self._half_pixel = self._still_shift()

    def between(
        self, first: NDArray[np.uint8], second: NDArray[np.uint8], fractions: NDArray[np.float64]
    ) -> NDArray[np.uint8]:
        """Frames between two frames.

        Args:
            first: uint8 (H, W).
            second: uint8 (H, W).
            fractions: float64 (k,), where in the interval, each between 0 and 1.

        Returns:
            uint8 (k, H, W).
        """
        import torch

        frames = np.empty((len(fractions), *first.shape), np.uint8)
        with torch.inference_mode():
            one, two = self._tensor(first), self._tensor(second)
            flows = _unet(self._flow, torch.cat([one, two], 1))
            for frame, fraction in zip(frames, fractions.tolist(), strict=True):
                shown = self._at(one, two, flows[:, :2], flows[:, 2:], fraction)
                levels = ((shown + MEAN) * 255).round().clamp(0, 255).byte()
                frame[:] = levels[0, 0, : first.shape[0], : first.shape[1]].cpu().numpy()
        return frames

    def _at(
        self, one: "Tensor", two: "Tensor", forward: "Tensor", backward: "Tensor", late: float
    ) -> "Tensor":
        """The frame at fraction `late`, (1, 1, H, W): equations 4 and 5 of the paper."""
        import torch

        early = 1 - late
        to_one = -early * late * forward + late * late * backward
        to_two = early * early * forward - late * early * backward
        shown = [self._warped(two, to_two), self._warped(one, to_one)]
        seen = torch.cat([one, two, forward, backward, to_two, to_one, *shown], 1)  # (1, 12, H, W)
        refined = _unet(self._refine, seen)
        from_one = early * torch.sigmoid(refined[:, 4:])
        from_two = late * (1 - torch.sigmoid(refined[:, 4:]))
        mixed = from_one * self._warped(one, to_one + refined[:, :2])
        mixed = mixed + from_two * self._warped(two, to_two + refined[:, 2:4])
        return mixed / (from_one + from_two)

    def _warped(self, image: "Tensor", flow: "Tensor") -> "Tensor":
        """The image (1, 1, H, W) sampled `flow` (1, 2, H, W) pixels away; the rim goes on."""
        import torch
        from torch.nn import functional as F

        height, width = image.shape[2:]
        x = torch.arange(width, device=image.device) + flow[:, 0] - self._half_pixel
        y = torch.arange(height, device=image.device)[:, None] + flow[:, 1] - self._half_pixel
        grid = torch.stack([2 * x / (width - 1) - 1, 2 * y / (height - 1) - 1], 3)
        return F.grid_sample(image, grid, padding_mode="border", align_corners=True)

    def _tensor(self, frame: NDArray[np.uint8]) -> "Tensor":
        """The frame (1, 1, H', W') without the mean, padded at its far sides to whole strides."""
        import torch

        height, width = frame.shape
        margins = ((0, -height % _STRIDE), (0, -width % _STRIDE))
        levels = np.pad(frame, margins, mode="edge").astype(np.float32)
        return torch.from_numpy(levels / 255 - MEAN)[None, None].to(self._device)

    def _still_shift(self) -> float:
        """How many pixels this checkpoint's flows of things at rest are off: none, or a half.

        Versions of torch disagreed by half a pixel on what `grid_sample` means, and a network
        learns to make up for the one it was trained with (v2e still renders with that shift, of
        all its frames alike). Between frames that stay as they are it would be a jump at every
        frame of the video. So a picture at rest is interpolated both ways, and the way that leaves
        it at rest is kept.
        """
        noise = np.random.default_rng(0).integers(0, 256, (16, 16)).astype(np.uint8)
        still = cv2.resize(noise, (128, 128), interpolation=cv2.INTER_LINEAR)
        off = {}
        for shift in (0.0, 0.5):
            self._half_pixel = shift
            shown = self.between(still, still, np.array([0.5]))[0]
            inner = np.s_[16:-16, 16:-16]
            off[shift] = float(cv2.absdiff(shown[inner], still[inner]).mean())
        return min(off, key=lambda shift: off[shift])


def _unet(weights: Weights, x: "Tensor") -> "Tensor":
    """The paper's U-Net: (1, inputs, H, W) -> (1, outputs, H, W), H and W whole strides."""
    import torch
    from torch.nn import functional as F

    def layer(name: str, x: "Tensor") -> "Tensor":
        weight = weights[f"{name}.weight"]
        x = F.conv2d(x, weight, weights[f"{name}.bias"], padding=weight.shape[2] // 2)
        return F.leaky_relu(x, _SLOPE)

    x = layer("conv2", layer("conv1", x))
    skipped = [x]
    for k in range(1, 6):
        x = layer(f"down{k}.conv2", layer(f"down{k}.conv1", F.avg_pool2d(x, 2)))
        skipped.append(x)
    for k in range(1, 6):
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        x = torch.cat([layer(f"up{k}.conv1", x), skipped[5 - k]], 1)
        x = layer(f"up{k}.conv2", x)
    return layer("conv3", x)


def _read(path: Path) -> tuple[Weights, Weights]:
    """Both networks' weights, float32 on the CPU, checked against what they must be."""
    from torch import Tensor

    content = _load(path)
    networks = []
    for key, shapes in ((FLOW_KEY, layer_shapes(2, 4)), (REFINE_KEY, layer_shapes(12, 5))):
        weights = content.get(key) if isinstance(content, dict) else None
        if not isinstance(weights, dict):
            held = sorted(map(str, content)) if isinstance(content, dict) else type(content)
            raise CheckpointError(
                f"{path.name}: holds {held}, need {FLOW_KEY} and {REFINE_KEY}; "
                "is this SuperSloMo39.ckpt?"
            )
        found = {
            name: tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            for name, value in weights.items()
        }
        if found != shapes:
            raise CheckpointError(f"{path.name}: {key} {_difference(found, shapes)}")
        networks.append({name: value.float() for name, value in weights.items()})
    return networks[0], networks[1]


def _load(path: Path) -> Any:
    """What torch saved, tensors and plain values only."""
    import datetime

    import torch

    try:
        # The training program put the time of day beside the weights.
        with torch.serialization.safe_globals([datetime.datetime]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as exc:
        raise CheckpointError(
            f"{path}: not there; v2e's README says where SuperSloMo39.ckpt is"
        ) from exc
    except (UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as exc:
        raise CheckpointError(
            f"{path.name}: torch cannot read it as a checkpoint ({type(exc).__name__}: "
            f"{str(exc).partition(chr(10))[0]}); download SuperSloMo39.ckpt again"
        ) from exc


def _difference(found: Mapping[str, object], need: Mapping[str, object]) -> str:
    """What is missing, what is too much, and what has another shape."""
    wrong = [
        f"{k} {found[k]} instead of {need[k]}" for k in need if found.get(k, need[k]) != need[k]
    ]
    parts = (
        ("lacks", [name for name in need if name not in found]),
        ("has no use for", [name for name in found if name not in need]),
        ("has", wrong),
    )
    return "; ".join(f"{verb} {', '.join(names)}" for verb, names in parts if names)
