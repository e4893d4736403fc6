"""Quantize a PyTorch model with Intel Neural Compressor and give it back as ONNX.

Method: PyTorch 2 Export quantization (PT2E) as Neural Compressor 3 drives it,
https://intel.github.io/neural-compressor/latest/docs/source/3x/PT_StaticQuant.html: the model is
exported to a graph, observers are inserted, calibration texts run through it (static), and each
linear layer gets int8 weights with one scale per output channel and uint8 activations. On top of
it, embeddings become int8 (`inc_embedding`), and the graph becomes ONNX with the operators that
ONNX Runtime runs in int8 (`inc_graph`, `inc_onnx`).
"""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from edgecompress.determinism import torch_threads
from edgecompress.errors import DataError, EdgeCompressError, MissingExtraError, StageError
from edgecompress.values import Candidate, Example, Json, TensorSpec, TorchModel

if TYPE_CHECKING:
    from edgecompress.stage import Context

Scheme = Literal["static", "dynamic"]
Feed = dict[str, np.ndarray[Any, Any]]

# torch.export takes sizes 0 and 1 for constants, and equal sizes for one: trace with others.
TRACED_SHAPE = (2, 7)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep library chatter (log records up to WARNING, Python warnings) from the user.

    Errors are still logged and raised. Loggers' own levels do not suffice: Neural Compressor and
    torch set theirs while they are imported.
    """
    before = logging.root.manager.disable
    logging.disable(max(before, logging.WARNING))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def quantize_with_inc(
    candidate: Candidate,
    context: Context,
    scheme: Scheme,
    settings: Json,
    examples: Sequence[Example] = (),
) -> Candidate:
    """Quantize `candidate` and write ``model/model.onnx`` into the context's folder.

    Parameters
    ----------
    candidate : Candidate
        Holds a `TorchModel`.
    scheme : str
        ``static`` fixes activation ranges from `examples`; ``dynamic`` computes them at run time.
    settings : dict
        For Neural Compressor's ``StaticQuantConfig`` or ``DynamicQuantConfig``.
    examples : sequence of Example
        Calibration texts; ``dynamic`` needs none.

    Returns
    -------
    Candidate
        Its step's decisions: what is int8 as ONNX Runtime executed it, exceptions with reasons,
        and the difference between Neural Compressor's own result and ONNX Runtime's.

    Raises
    ------
    MissingExtraError
        When neural-compressor is not installed.
    DataError
        When there is nothing to calibrate with.
    StageError
        When the graph cannot be exported or computes something else in ONNX Runtime.
    """
    if not isinstance(candidate.model, TorchModel):
        raise StageError("Neural Compressor quantizes PyTorch models: put this stage before export")
    # One thread, so that ranges do not depend on the number of cores; 64 short texts are soon read.
    with quiet(), torch_threads(1):
        return _quantize(candidate, candidate.model, context, scheme, settings, examples)


def _quantize(
    candidate: Candidate,
    source: TorchModel,
    context: Context,
    scheme: Scheme,
    settings: Json,
    examples: Sequence[Example],
) -> Candidate:
    inc = _import_inc()
    import torch

    from edgecompress.quantization.inc_embedding import quantize_embeddings
    from edgecompress.quantization.inc_graph import LogitsOnly, lower_linears
    from edgecompress.quantization.inc_onnx import dynamic_shapes, export_onnx, parity
    from edgecompress.quantization.inputs import encode_rows, parity_feeds
    from edgecompress.quantization.proof import coverage
    from edgecompress.quantization.session import random_feed
    from edgecompress.surgery.families import blocks, layer_list
    from edgecompress.surgery.model import load_module

    module = load_module(source)
    if len(list(blocks(module))) < len(layer_list(module)):
        raise StageError(
            f"the layers of this {module.config.model_type} model share their weights, which no "
            "graph of Neural Compressor does; export it and use quantize.dynamic or quantize.static"
        )
    names = input_names(module)
    specs = [TensorSpec(name, "tensor(int64)", ("batch", "length")) for name in names]
    bounds = {"input_ids": int(module.config.vocab_size)}
    traced = random_feed(specs, *TRACED_SHAPE, bounds=bounds)
    example = _tensors(traced)
    # One run observes the weights; without it Neural Compressor gives them a scale of 1.
    feeds = [traced]
    if scheme == "static":
        rows = encode_rows(candidate, examples)
        if rows is None:
            raise DataError(
                "calibration needs training examples, a task and a tokenizer; without them use"
                " quantize.inc_dynamic"
            )
        # One by one, so that no padding enters the ranges.
        feeds = [rows.feed([row], specs) for row in range(len(rows.lengths))]
    judged = context.validation or context.train
    compared = parity_feeds(candidate, judged, specs, bounds, context.seed)

    exceptions = quantize_embeddings(module)
    shapes = (dynamic_shapes(example),)  # one entry per parameter: `LogitsOnly` takes *inputs
    with torch.no_grad():
        graph = _step(
            "Neural Compressor cannot export the model",
            lambda: inc["export"](LogitsOnly(module, names), example, dynamic_shapes=shapes),
        )
        graph = inc["prepare"](graph, inc[scheme](**settings))
        for done, feed in enumerate(feeds, start=1):
            graph(*_tensors(feed))
            context.progress(done, len(feeds) + 1, f"calibrating, {done} of {len(feeds)}")
        graph = inc["convert"](graph)
        expected = [graph(*_tensors(feed)).numpy() for feed in compared]
        lowered, left = lower_linears(graph)
        if not lowered:
            raise StageError("Neural Compressor quantized no linear layer of this model")
        path = context.folder / "model" / "model.onnx"
        model = _step(
            "the quantized graph cannot be written as ONNX",
            lambda: export_onnx(graph, example, names, lowered, path),
        )
    exceptions |= dict.fromkeys(left, "Neural Compressor did not quantize it")
    found = coverage(model)
    reasons = {
        part.weight: reason
        for part in found.parts
        for name, reason in exceptions.items()
        if part.weight.endswith(name)
    }
    return candidate.with_model(
        model,
        **found.to_json(reasons),
        calibrated_on=len(examples),
        parity=parity(model, expected, compared),
    )


def _import_inc() -> dict[str, Any]:
    try:
        from neural_compressor.torch.export import export
        from neural_compressor.torch.quantization import (
            DynamicQuantConfig,
            StaticQuantConfig,
            convert,
            prepare,
        )
    except ImportError as error:
        raise MissingExtraError(error.name or "neural-compressor") from None
    return {
        "export": export,
        "prepare": prepare,
        "convert": convert,
        "static": StaticQuantConfig,
        "dynamic": DynamicQuantConfig,
    }


def input_names(module: Any) -> tuple[str, ...]:
    """Give the inputs of a text encoder: those of Optimum's export, in its order.

    RoBERTa's relatives (positions behind the padding id) accept segment ids but know only one.
    """
    from edgecompress.surgery.families import family_of

    taken = inspect.signature(module.forward).parameters
    segments = "token_type_ids" in taken and not family_of(module.config).position_offset
    return ("input_ids", "attention_mask", *(["token_type_ids"] if segments else []))


def _tensors(feed: Feed) -> tuple[Any, ...]:
    import torch

    return tuple(torch.from_numpy(value) for value in feed.values())


def _step(what: str, run: Callable[[], Any]) -> Any:
    """Run a library's export step; its many kinds of errors become one sentence."""
    try:
        return run()
    except (EdgeCompressError, MemoryError):
        raise
    except (RuntimeError, ValueError, TypeError, NotImplementedError, AssertionError) as error:
        cause = " ".join(str(error).split())[:300]
        raise StageError(f"{what} ({type(error).__name__}: {cause})") from error
