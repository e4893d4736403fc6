"""A tiny encoder with one planted culprit: a layer that 8 bits ruin and fp32 does not notice."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from helpers import small_context
from small_encoders import write_encoder

from edgecompress.stages.export import Export
from edgecompress.values import Candidate, TorchModel

CULPRIT = "/bert/encoder/layer.1/output/dense/MatMul"
LARGE = 3000.0


_FOLDER = tempfile.TemporaryDirectory(prefix="edgecompress-planted-")


@functools.cache
def planted_encoder() -> Candidate:
    """Give an exported tagger whose last feed-forward part has one huge, unused activation.

    A neuron is always `LARGE`, and nothing reads it: fp32 answers as without it. In 8 bits the
    range of its layer's input is LARGE wide, and nothing is left of the other neurons.
    """
    import torch

    from edgecompress.surgery.model import load_module, save_module

    folder = Path(_FOLDER.name)

    plain = write_encoder(folder / "plain", "Bert", "token-classification")
    assert isinstance(plain.model, TorchModel)
    module = load_module(plain.model)
    part = module.bert.encoder.layer[1]
    with torch.no_grad():
        part.intermediate.dense.bias[5] = LARGE
        part.intermediate.dense.weight[5] = 0
        part.output.dense.weight[:, 5] = 0
    model = save_module(module, folder / "model")
    planted = Candidate(model, plain.preprocessor, plain.task, plain.labels)
    return Export().apply(planted, small_context(folder / "export"))
