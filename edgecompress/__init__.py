"""edgecompress: make a transformer small for a CPU at the edge, and prove what it cost.

The public API: `load` opens a bundle and answers questions (onnxruntime, tokenizers and numpy
only); `run` runs a recipe (needs the ``build`` extra). Everything is imported when it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgecompress.engine.run import run
    from edgecompress.runtime import load

__version__ = "0.1.0"
__all__ = ["__version__", "load", "run"]


def __getattr__(name: str) -> Any:
    if name == "load":
        from edgecompress.runtime import load

        return load
    if name == "run":
        from edgecompress.engine.run import run

        return run
    raise AttributeError(f"module 'edgecompress' has no attribute {name!r}")
