"""Where a result was measured and on what: free JSON as facts, and the CPU's flags; pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from edgecompress.report import words
from edgecompress.report.blocks import Fact
from edgecompress.values import Json

CPU_FLAGS = (
    "avx", "avx2", "avx_vnni", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16",
    "amx_int8", "amx_tile", "amx_bf16", "f16c", "fma", "neon", "asimd", "asimddp", "asimdhp",
    "i8mm", "bf16", "sve", "sve2", "fphp",
)  # fmt: skip
"""The flags that decide which int8 and fp32 kernels ONNX Runtime uses."""

NAMES = {
    "cpu": "processor",
    "isa": "instruction sets",
    "libc": "C library",
    "python": "Python",
    "meters": "energy meters",
}
"""Keys of a description that people call otherwise."""


def machine(document: Json, *, depth: int = 4) -> tuple[Fact, ...]:
    """Turn free JSON into facts; CPU flags are left out (see `cpu_flags`)."""
    out = []
    for key, value in document.items():
        name = words.plain(key).replace("_", " ")
        if "flags" in str(key).lower() or value is None or value == "":
            continue
        if isinstance(value, Mapping) and depth > 1:
            out.append(Fact(name, below=machine(dict(value), depth=depth - 1)))
        elif isinstance(value, list | tuple):
            out.append(Fact(name, ", ".join(words.plain(one) for one in value) or words.MISSING))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            out.append(Fact(name.removesuffix(" bytes"), _figure(str(key), float(value))))
        else:
            # A digest is recognized by its beginning; results.json holds it whole.
            text = re.sub(r"^([0-9a-f]{12})[0-9a-f]{28,}$", r"\1…", words.plain(value))
            out.append(Fact(name, text))
    return tuple(out)


def host(environment: Json) -> tuple[Fact, ...]:
    """Turn the description of the machine that ran the recipe into facts, in people's words."""
    shown = {
        NAMES.get(key, key): value
        for key, value in environment.items()
        if key not in ("emulated", "bits")
    }
    if shown.get("energy meters") in ([], ()):
        shown["energy meters"] = "none that can be read"
    return machine(shown)


def cpu_flags(environment: Json) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Give the CPU flags that matter to ONNX Runtime's kernels, and all of them."""
    every = tuple(dict.fromkeys(words.plain(flag) for flag in _flags(environment)))
    return tuple(flag for flag in CPU_FLAGS if flag in every), every


def _flags(value: object) -> Iterable[str]:
    if not isinstance(value, Mapping):
        return
    for key, one in value.items():
        if "flags" in str(key).lower():
            yield from one.split() if isinstance(one, str) else map(str, one or ())
        else:
            yield from _flags(one)


def _figure(key: str, value: float) -> str:
    if key.endswith("_bytes") and value >= 1e9:
        return f"{words.significant(value / 1e9)} GB"
    if key.endswith("_bytes"):
        return words.with_unit(value, "bytes")
    return f"{value:,.0f}" if value.is_integer() else f"{value:g}"
