"""The hardware of this process and the number format that fits it."""

from __future__ import annotations

import os
import platform
import resource
import sys
from dataclasses import dataclass

import torch

from training.core.config import PEFTMethod, Precision, RLHFConfig
from training.core.errors import RLHFConfigurationError

GB = 1e9


@dataclass(frozen=True)
class Device:
    """Where a job runs and in which precision."""

    kind: str
    """cuda or cpu."""
    name: str
    precision: Precision
    """fp32, bf16 or fp16; never auto."""

    def weights_dtype(self, method: PEFTMethod) -> torch.dtype:
        """The format of the loaded weights.

        Weights that are trained stay in fp32, since small updates are lost in 16 bits;
        the frozen base under an adapter takes half the memory in bf16.
        """
        if self.precision is Precision.BF16 and method is not PEFTMethod.FULL:
            return torch.bfloat16
        return torch.float32


def choose_device(config: RLHFConfig) -> Device:
    """The GPU that is visible, else the CPU.

    Raises:
        RLHFConfigurationError: RLHF004, where the precision asked for is not there, or
            there are several processes or GPUs.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 or torch.cuda.device_count() > 1:
        raise RLHFConfigurationError(
            "Training over several processes or GPUs is not built yet: start one "
            "process, and set CUDA_VISIBLE_DEVICES to one GPU.",
            code="RLHF004",
        )
    if not torch.cuda.is_available():
        precision = config.precision
        if precision is Precision.AUTO:
            precision = Precision.FP32
        if precision is Precision.FP16:
            raise RLHFConfigurationError(
                "precision fp16 needs a GPU, and there is none: set precision: auto.",
                code="RLHF004",
            )
        name = f"CPU ({platform.machine()}, {os.cpu_count()} cores)"
        return Device("cpu", name, precision)
    has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    precision = config.precision
    if precision is Precision.AUTO:
        precision = Precision.BF16 if has_bf16 else Precision.FP32
    name = torch.cuda.get_device_name(0)
    if precision is Precision.BF16 and not has_bf16:
        raise RLHFConfigurationError(
            f"{name} has no bf16: set precision: fp16 or auto.", code="RLHF004"
        )
    return Device("cuda", name, precision)


def peak_memory_gb() -> float:
    """The most memory this process has held so far, in GB (1e9 bytes), without GPUs."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / GB


def peak_gpu_memory_gb() -> float | None:
    """The most GPU memory reserved so far, in GB (1e9 bytes); None without a GPU."""
    if not torch.cuda.is_available():
        return None
    return torch.cuda.max_memory_reserved() / GB
