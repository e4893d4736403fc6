"""What this machine is: the facts that a reader needs beside every figure."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import sys
from pathlib import Path

from edgecompress.targets.base import available_cores
from edgecompress.values import Json, json_digest

LIBRARIES = (
    "edgecompress",
    "numpy",
    "onnx",
    "onnxruntime",
    "optimum",
    "optimum-onnx",
    "neural-compressor",
    "tokenizers",
    "torch",
    "torchao",
    "transformers",
)


def _cpuinfo() -> dict[str, str]:
    """First processor's fields of ``/proc/cpuinfo``; empty where there is none."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            fields.setdefault(key.strip(), value.strip())
    return fields


def _system() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    except OSError:
        return platform.platform(terse=True)


def _version(library: str) -> str | None:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


@functools.cache
def _environment() -> Json:
    info = _cpuinfo()
    flags = info.get("flags") or info.get("Features") or ""
    board = Path("/proc/device-tree/model")  # set on ARM boards, such as a Raspberry Pi
    memory = None
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "machine": platform.machine(),
        "board": board.read_text(errors="replace").rstrip("\0\n") if board.is_file() else None,
        "cpu": info.get("model name") or info.get("Model") or platform.processor() or "unknown",
        "flags": sorted(flags.split()),
        "cores": available_cores(),
        "memory_bytes": memory,
        "system": _system(),
        "kernel": platform.release(),
        "python": sys.version.split()[0],
        "libraries": {name: found for name in LIBRARIES if (found := _version(name))},
    }


def environment() -> Json:
    """Describe this machine: CPU and its flags, cores, memory, system, library versions.

    Nothing that names a person or a place: no host name, no user, no path.
    """
    return dict(_environment())


def fingerprint() -> str:
    """Digest of what timings and int8 answers depend on here."""
    facts = _environment()
    runtime = {name: facts["libraries"].get(name) for name in ("numpy", "onnxruntime", "torch")}
    keys = ("machine", "board", "cpu", "flags", "cores", "python")
    return json_digest({key: facts[key] for key in keys} | {"libraries": runtime})
