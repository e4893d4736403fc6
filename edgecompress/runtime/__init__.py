"""Answering from a bundle: onnxruntime, tokenizers and numpy, and nothing else.

::

    opening.py     a bundle, opened                 predictor.py   from text to answer
    prediction.py  what an answer is                generated.py   answers that come in pieces
    beside.py      what stands beside a question    operators.py   what batches do to answers
    batching.py    which rows go together           threads.py     how many threads are fastest
    lines.py       texts as they arrive

Importing this package loads none of the three: `load` and `Predictor` come when they are used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgecompress.runtime.prediction import Entity, Prediction

if TYPE_CHECKING:
    from edgecompress.runtime.opening import load
    from edgecompress.runtime.predictor import Predictor

__all__ = ["Entity", "Prediction", "Predictor", "load"]


def __getattr__(name: str) -> Any:
    if name == "Predictor":
        from edgecompress.runtime.predictor import Predictor

        return Predictor
    if name == "load":
        from edgecompress.runtime.opening import load

        return load
    raise AttributeError(f"module 'edgecompress.runtime' has no attribute {name!r}")
