"""How the inputs of a model are described: dtypes by numpy's names, open sizes by theirs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from edgecompress.errors import DataError
from edgecompress.values import TensorSpec

NUMBERS = frozenset(
    ["bool", "float16", "float32", "float64"]
    + [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
)
"""Dtypes of what can be fed: those that numpy holds, too."""

NO_NAMES = frozenset({"", "?", "-1", "*", "None", "none", "unk", "unknown", "dynamic"})
"""What exporters write where an axis has no name: equal ones need not be of equal size."""


def check_numbers(specs: Iterable[TensorSpec], file: Path | None = None) -> None:
    """Refuse inputs that no numbers can be given to.

    Raises
    ------
    DataError
        Naming the first one.
    """
    for spec in specs:
        if spec.dtype not in NUMBERS:
            raise DataError(
                f"input {spec.name!r} is of dtype {spec.dtype}, and only numbers can be fed; leave "
                "what turns it into numbers out of the graph",
                file=file,
            )


def numpy_name(dtype: str) -> str:
    """Give numpy's name of a dtype for ONNX's (``float``) or ONNX Runtime's (``tensor(float)``)."""
    inner = (
        dtype.removeprefix("tensor(").removesuffix(")") if dtype.startswith("tensor(") else dtype
    )
    return {"float": "float32", "double": "float64"}.get(inner, inner)


def named_size(name: str, axis: int, size: int | str | None) -> int | str:
    """Give a size of input `name`: fixed, or its symbol, or ``input.axis`` where it has none."""
    if isinstance(size, str) and size.strip() not in NO_NAMES:
        return size
    return size if isinstance(size, int) and size >= 0 else f"{name}.{axis}"
