"""edgecompress: make a transformer small for a CPU at the edge, and prove what it cost.

The public API has a function for each command of the command line, by the same name. `load` opens a
bundle and answers questions (onnxruntime, tokenizers and numpy only); what makes and measures
models needs the ``build`` extra. Everything is imported when it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgecompress.api.measuring import evaluate, profile
    from edgecompress.api.stages import (
        distil,
        export,
        factorize,
        finetune,
        prune,
        quantize,
        trim,
    )
    from edgecompress.engine.run import run
    from edgecompress.runtime import load

__version__ = "0.1.0"
__all__ = [
    "__version__",
    "distil",
    "evaluate",
    "export",
    "factorize",
    "finetune",
    "load",
    "profile",
    "prune",
    "quantize",
    "run",
    "trim",
]

_STAGES = ("distil", "export", "factorize", "finetune", "prune", "quantize", "trim")
_HOMES = {
    "load": "edgecompress.runtime",
    "run": "edgecompress.engine.run",
    **dict.fromkeys(("evaluate", "profile"), "edgecompress.api.measuring"),
    **dict.fromkeys(_STAGES, "edgecompress.api.stages"),
}
"""Where each public name is defined."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'edgecompress' has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        from edgecompress.errors import MissingExtraError

        if str(error.name).startswith("edgecompress"):
            raise
        raise MissingExtraError(str(error.name)) from None


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
