"""What a stage benchmark says beside its times: models, memory, environment."""

import platform
import resource
from collections.abc import Sequence
from typing import Any

import torch

from egotriad.alignment.stage_models import BenchmarkModels
from egotriad.alignment.stages import StageRun
from egotriad.models.conditioned import ConditionedLM
from egotriad.models.folder import versions

__all__ = ["described", "environment", "memory"]


def described(models: BenchmarkModels) -> dict[str, Any]:
    """What was timed; nothing of where it lies."""
    found: dict[str, Any] = {
        "tokenizer": {"ids": len(models.tokenizer), "stand_in": models.stand_in}
    }
    for role, model in (("target", models.target), ("draft", models.draft)):
        if model is not None:
            found[role] = {
                "name": model.name,
                "parameters": sum(weight.numel() for weight in model.parameters()),
                "decoder_parameters": sum(w.numel() for w in model.decoder.parameters()),
                "precision": str(next(model.decoder.parameters()).dtype).removeprefix("torch."),
                "engine": model.engines.of(model.decoder),
            }
    return found


def memory(models: Sequence[ConditionedLM], runs: Sequence[StageRun]) -> dict[str, int | None]:
    """Bytes of weights, of keys and values at the end of the longest text, and at the peak."""
    device = models[0].device
    peak = (
        torch.cuda.max_memory_allocated(device)
        if device.type == "cuda"
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    )
    return {
        "weights_bytes": sum(p.nbytes for m in models for p in m.parameters()),
        "kv_bytes_end": max(run.kv_bytes for run in runs),
        "peak_bytes": peak,
    }


def environment(device: torch.device) -> dict[str, Any]:
    """Versions and settings that times depend on; no host, user or path."""
    cuda = device.type == "cuda"
    return {
        **versions(),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if cuda else "cpu",
        "tf32": torch.backends.cuda.matmul.allow_tf32,
        "cuda": torch.version.cuda,
    }
