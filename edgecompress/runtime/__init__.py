"""Answering from a bundle: onnxruntime, tokenizers and numpy, and nothing else.

::

    predictor.py   from text to answer              prediction.py  what an answer is
    sessions.py    the model, opened as it asks     operators.py   what batches do to its answers
    batching.py    which rows go together           threads.py     how many threads are fastest
    lines.py       texts as they arrive

Importing this package loads none of the three: `load` and `Predictor` come when they are used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgecompress.runtime.prediction import Entity, Prediction

if TYPE_CHECKING:
    from edgecompress.runtime.predictor import Predictor, load

__all__ = ["Entity", "Prediction", "Predictor", "load"]


def __getattr__(name: str) -> Any:
    if name in ("Predictor", "load"):
        from edgecompress.runtime import predictor

        return getattr(predictor, name)
    raise AttributeError(f"module 'edgecompress.runtime' has no attribute {name!r}")
