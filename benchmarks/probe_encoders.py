"""IMU encoders on real, labelled data: leave-one-wearer-out accuracy of a linear layer on HAPT.

    python benchmarks/probe_encoders.py --hapt FOLDER --limu-bert FOLDER [--whole]

FOLDER of HAPT holds `RawData` (UCI, Smartphone-Based Recognition of Human Activities and Postural
Transitions: acc_expEE_userUU.txt in g, gyro_... in rad/s, 50 Hz, labels.txt); that of LIMU-BERT its
published `pretrain_base_*.pt`. Windows of 6 s, half overlapping, of activities 1 to 6. Frozen
encoders train the layer for 1,000 steps, `conv` and (with `--whole`) a LIMU-BERT of random weights
train with it for 200; batches of 32, AdamW 2e-3 with a cosine.
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from egotriad.converters.imu_units import GRAVITY
from egotriad.manifests import Imu
from egotriad.models.encoder_conv import ConvEncoder, ConvEncoderConfig
from egotriad.models.encoder_limu_bert import LimuBert, LimuBertConfig
from egotriad.models.seeding import torch_stream

RATE_HZ = 50.0
SAMPLES = 300
ACTIVITIES = 6


@dataclass(frozen=True, slots=True)
class Windows:
    """IMU windows, their activities (W,) from 0, and whose they are (W,)."""

    imu: list[Imu]
    activity: Tensor
    wearer: np.ndarray


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hapt", type=Path, required=True)
    parser.add_argument("--limu-bert", type=Path, required=True)
    parser.add_argument("--whole", action="store_true", help="train LIMU-BERT whole too (minutes)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    windows = read_windows(arguments.hapt / "RawData")
    print("| encoder | mean accuracy | per wearer | CPU s |\n|---|---|---|---|")
    with torch_stream(0, "encoders"):
        arms: dict[str, Any] = {"conv, trained": ConvEncoder(ConvEncoderConfig(window_s=6.0))}
        if arguments.whole:
            arms["LIMU-BERT, trained"] = LimuBert(LimuBertConfig(trainable=True))
    for file in sorted(arguments.limu_bert.glob("pretrain_base_*.pt")):
        arms[f"LIMU-BERT, frozen, {file.stem.split('_')[2]}"] = LimuBert.load(file)
    for name, encoder in arms.items():
        started = time.process_time()
        found = leave_one_out(encoder, windows)
        cells = " ".join(f"{accuracy:.2f}" for accuracy in found)
        seconds = time.process_time() - started
        print(f"| {name} | {np.mean(found):.2f} | {cells} | {seconds:.0f} |", flush=True)


def read_windows(raw: Path) -> Windows:
    """Every window of the six activities, in the order of files and labels."""
    labels = np.loadtxt(raw / "labels.txt", dtype=int)  # experiment, user, activity, start, end
    imu: list[Imu] = []
    activities, wearers = [], []
    for file in sorted(raw.glob("acc_*.txt")):
        accel = np.loadtxt(file) * GRAVITY
        gyro = np.loadtxt(raw / file.name.replace("acc", "gyro"))
        data = np.concatenate([accel, gyro], axis=1).T.astype(np.float32)
        experiment = int(file.stem[7:9])
        for _, user, activity, start, end in labels[labels[:, 0] == experiment]:
            if activity > ACTIVITIES:
                continue
            for first in range(start - 1, end - SAMPLES + 1, SAMPLES // 2):
                piece = data[:, first : first + SAMPLES]
                imu.append(Imu(data=piece, rate_hz=RATE_HZ, valid=np.ones(SAMPLES, bool)))
                activities.append(activity - 1)
                wearers.append(user)
    return Windows(imu, torch.tensor(activities), np.array(wearers))


def leave_one_out(encoder: Any, windows: Windows) -> list[float]:
    """Accuracy on each wearer of a layer (and encoder) trained on the others."""
    inputs = torch.from_numpy(np.stack([encoder.contract.preset(each) for each in windows.imu]))
    start = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    accuracies = []
    for wearer in np.unique(windows.wearer):
        encoder.load_state_dict(start)
        mine = torch.from_numpy(windows.wearer == wearer)
        with torch_stream(0, f"probe {wearer}"):
            head = trained_head(encoder, inputs[~mine], windows.activity[~mine])
        with torch.inference_mode():
            guesses = head(encoder(inputs[mine]).mean(1)).argmax(1)
        accuracies.append((guesses == windows.activity[mine]).float().mean().item())
    return accuracies


def trained_head(encoder: Any, inputs: Tensor, truth: Tensor) -> nn.Module:
    """A norm and a linear layer on mean features; the encoder is trained too unless frozen."""
    encoder.fit_normalisation(inputs)
    frozen = not any(p.requires_grad for p in encoder.parameters())
    steps = 1000 if frozen else 200
    head = nn.Sequential(nn.LayerNorm(encoder.width), nn.Linear(encoder.width, ACTIVITIES))
    parameters = [*head.parameters(), *(p for p in encoder.parameters() if p.requires_grad)]
    optimizer = torch.optim.AdamW(parameters, lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    features = encoder(inputs).mean(1) if frozen else None
    for _ in range(steps):
        rows = torch.randint(len(inputs), (32,))
        batch = encoder(inputs[rows]).mean(1) if features is None else features[rows]
        loss = F.cross_entropy(head(batch), truth[rows])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return head


if __name__ == "__main__":
    main()
