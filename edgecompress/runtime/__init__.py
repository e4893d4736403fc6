"""Answering from a bundle: onnxruntime, tokenizers and numpy, and nothing else.

::

    predictor.py   from text to answer              prediction.py  what an answer is
    sessions.py    the model, opened as it asks     operators.py   what batches do to its answers
    batching.py    which rows go together           threads.py     how many threads are fastest
    lines.py       texts as they arrive
"""

from __future__ import annotations

from edgecompress.runtime.prediction import Entity, Prediction
from edgecompress.runtime.predictor import Predictor, load

__all__ = ["Entity", "Prediction", "Predictor", "load"]
