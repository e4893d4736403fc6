"""Where a training computes and how: the device, its mixed precision, memory that stays at hand."""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import torch

from edgecompress.launched import process_count
from edgecompress.training.together import team

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's mallopt(3)."""

LARGEST_GROWN = 32 * 1024 * 1024
"""What glibc lets its own threshold for mapped blocks grow to (DEFAULT_MMAP_THRESHOLD_MAX)."""


def training_device() -> torch.device:
    """Give the device that this process trains on: its accelerator where it has one, else the CPU.

    Accelerate chooses it; ``ACCELERATE_USE_CPU=true`` (which ``accelerate launch --cpu`` sets)
    keeps to the CPU.
    """
    if process_count() > 1:
        found: torch.device = team().device
        return found
    return _alone()


@functools.cache
def _alone() -> torch.device:
    forced = os.environ.get("ACCELERATE_USE_CPU", "").lower() in {"1", "true", "yes", "on"}
    if forced or not torch.accelerator.is_available():
        return torch.device("cpu")
    # Without it cuBLAS refuses to work deterministically; it is read when CUDA starts.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    from accelerate import Accelerator  # type: ignore[import-untyped]

    found: torch.device = Accelerator(mixed_precision="no").device
    return found


@functools.cache
def faster_dtype(kind: str = "cpu") -> torch.dtype | None:
    """Give bfloat16 where this kind of device multiplies it faster than float32, else None.

    Source: for a CPU, the flags ``avx512_bf16``, ``amx_bf16`` (x86) and ``bf16`` (ARM) of
    /proc/cpuinfo; for CUDA, what PyTorch says of the hardware.
    """
    if kind == "cuda":
        has = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if has else None
    if kind == "xpu":
        return torch.bfloat16
    if kind != "cpu":
        return None
    try:
        words = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    except OSError:
        return None
    return torch.bfloat16 if {"avx512_bf16", "amx_bf16", "bf16"} & set(words) else None


def autocast(kind: str = "cpu") -> AbstractContextManager[None]:
    """Give the mixed-precision context for a kind of device (none where it would not help)."""
    dtype = faster_dtype(kind)
    context: AbstractContextManager[None] = torch.autocast(
        kind, dtype=dtype or torch.bfloat16, enabled=dtype is not None
    )
    return context


def moved(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Give a tensor of the CPU on `device`; to a CUDA device it is copied from pinned memory."""
    if device.type == "cpu":
        return tensor
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


@contextmanager
def memory_at_hand() -> Iterator[None]:
    """While inside, memory that is freed stays with this process, to be used again.

    Each step frees and asks anew for the same activations and gradients. glibc gives large blocks
    back to the system at once, and each page that comes again is a page fault: with a small student
    they were a fifth of a step. Nothing is done where the C library is another one.
    """
    try:
        library = ctypes.CDLL(None)
        mallopt, trim = library.mallopt, library.malloc_trim
    except (OSError, AttributeError):
        yield
        return
    mallopt(M_MMAP_THRESHOLD, ctypes.c_int(2**30))
    mallopt(M_TRIM_THRESHOLD, ctypes.c_int(2**31 - 1))
    try:
        yield
    finally:
        mallopt(M_MMAP_THRESHOLD, ctypes.c_int(LARGEST_GROWN))
        mallopt(M_TRIM_THRESHOLD, ctypes.c_int(2 * LARGEST_GROWN))
        trim(0)
