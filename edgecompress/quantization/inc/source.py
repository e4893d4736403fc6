"""A PyTorch model on its way through Neural Compressor: loaded, smoothed, observed, written.

`Source` holds what all configurations for one candidate have in common (inputs, calibration texts,
what is compared, the exported graph), so that a configuration is one call; the tuning makes many.

Method: PyTorch 2 Export quantization (PT2E) as Neural Compressor 3 drives it,
https://intel.github.io/neural-compressor/latest/docs/source/3x/PT_StaticQuant.html: the model is
exported to a PyTorch graph, observers are inserted, and calibration texts run through it (static).
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgecompress.context import Context
from edgecompress.determinism import torch_threads
from edgecompress.errors import DataError, StageError
from edgecompress.models import sizes
from edgecompress.models.fitting import row_of
from edgecompress.models.inputs import encode_rows, parity_feeds, typed_feed
from edgecompress.quantization.arithmetic.blocks import (
    Bits,
    dequantize_blocks,
    fitting_block,
    quantize_block_table,
)
from edgecompress.quantization.arithmetic.weights import dequantize, quantize_rows
from edgecompress.quantization.graphs.exporting import export_graph
from edgecompress.quantization.inc.config import IncConfig, Smooth, check_excluded
from edgecompress.quantization.inc.library import import_inc, quiet, step
from edgecompress.quantization.inc.observed import layer_path, observed_layers
from edgecompress.quantization.inc.result import parity, write_observed
from edgecompress.quantization.inc.smoothing import WRAPPER, SmoothedGroup, smooth_linears
from edgecompress.quantization.plan.scheme import EXCLUDED
from edgecompress.quantization.prove.answers import (
    compare_outputs,
    first_fault,
    outputs_of,
    unpadded,
)
from edgecompress.quantization.prove.judging import ADVICE, NO_ANSWERS, answers_json
from edgecompress.surgery.families import blocks, layer_list
from edgecompress.surgery.model import load_module
from edgecompress.surgery.onnx_export import choose_exporter, input_names
from edgecompress.values import Candidate, Example, Feed, Json, OnnxModel, TensorSpec, TorchModel

# torch.export takes sizes 0 and 1 for constants, and equal sizes for one: trace with others.
TRACED_SHAPE = (2, 7)
UNTOUCHED = "Neural Compressor did not quantize it"


class LogitsOnly(torch.nn.Module):
    """A transformers model that takes its inputs by position and gives its logits alone."""

    def __init__(self, module: torch.nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.model = module
        self.names = tuple(names)

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Compute the logits: int64 (batch, length) each to float32 (batch, …, classes)."""
        named = dict(zip(self.names, inputs, strict=True))
        return self.model(**named)[0]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A module that is ready for observers.

    Attributes
    ----------
    module : LogitsOnly
        With its tables rounded and, where asked for, smoothed.
    smoothed : list of SmoothedGroup
    linears : dict of str to str
        Path of each linear layer in the model, and in `module`.
    """

    module: LogitsOnly
    smoothed: list[SmoothedGroup]
    linears: dict[str, str]


class Source:
    """A candidate that Neural Compressor is to quantize, in one way or several.

    Raises
    ------
    MissingExtraError
        When neural-compressor is not installed.
    StageError
        When the candidate is no PyTorch model, or one that shares layers.
    """

    def __init__(
        self,
        candidate: Candidate,
        context: Context,
        examples: Sequence[Example],
        embedding_bits: Bits = 8,
        embedding_block: int = 32,
        force: bool = False,
    ) -> None:
        if not isinstance(candidate.model, TorchModel):
            raise StageError(
                "Neural Compressor quantizes PyTorch models: put this stage before export"
            )
        self.libraries = import_inc()
        self.candidate, self.context, self.model = candidate, context, candidate.model
        self.tables = (embedding_bits, embedding_block)
        self.force = force
        module = load_module(self.model)
        if len(list(blocks(module))) < len(layer_list(module)):
            raise StageError(
                f"the layers of this {module.config.model_type} model share their weights, which "
                "no graph of Neural Compressor does; export it and use quantize.dynamic or "
                "quantize.static"
            )
        self.names = input_names(module)
        self.specs = [TensorSpec(name, "int64", ("batch", "length")) for name in self.names]
        pieces = int(module.config.vocab_size)
        self.traced = row_of(self.specs, {"input_ids": (0, pieces)}, sizes.SizePlan(*TRACED_SHAPE))
        self.example = tensors(self.traced)
        rows = encode_rows(candidate, examples)
        self.examples = len(examples)
        # One by one, so that no padding enters the ranges.
        count = len(rows.lengths) if rows else 0
        self.texts = [typed_feed(rows, [row], self.specs) for row in range(count)] if rows else []
        judged = context.validation or context.train
        self.compared = parity_feeds(
            candidate, judged, self.specs, context.seed, {"input_ids": pieces}
        )
        self.linears = {n for n, p in module.named_modules() if isinstance(p, torch.nn.Linear)}
        plain = LogitsOnly(module, self.names).eval()
        with torch.no_grad():
            self.answers = [plain(*tensors(feed)).numpy() for feed in self.compared]
        self.judged_on = "examples" if encode_rows(candidate, judged[:1]) else "made-up inputs"

    def prepare(self, smooth: Smooth | None) -> Prepared:
        """Load the module, round its tables and smooth its linear layers."""
        module = load_module(self.model)
        round_tables(module, *self.tables)
        wrapped = LogitsOnly(module, self.names).eval()
        smoothed = [] if smooth is None else smooth_linears(wrapped, self._texts(), smooth)
        linears = {
            layer_path(name.removeprefix(WRAPPER)): name
            for name, part in wrapped.named_modules()
            if isinstance(part, torch.nn.Linear)
        }
        return Prepared(wrapped, smoothed, linears)

    def export(self, prepared: Prepared) -> Any:
        """Give the graph that Neural Compressor quantizes, both axes dynamic."""
        dynamic = torch.export.Dim.DYNAMIC
        shapes = (tuple({0: dynamic, 1: dynamic} for _ in self.example),)
        return step(
            "Neural Compressor cannot export the model",
            lambda: self.libraries["export"](prepared.module, self.example, dynamic_shapes=shapes),
        )

    def config(self, config: IncConfig, prepared: Prepared) -> Any:
        """Make Neural Compressor's own form of a configuration."""
        check_excluded(config.exclude, list(prepared.linears))
        paths = [prepared.linears[name] for name in config.exclude]
        return config.of_library(self.libraries, paths)

    def observe(self, graph: Any, config: IncConfig) -> None:
        """Run what a configuration's observers are to see through a graph."""
        if config.scheme == "static":
            texts = self._texts()
            for done, feed in enumerate(texts, start=1):
                graph(*feed)
                what = f"calibrating, {done} of {len(texts)}"
                self.context.progress(done, len(texts) + 1, what)
        else:
            # One run observes the weights; without it Neural Compressor gives them a scale of 1.
            graph(*self.example)

    def quantize(self, config: IncConfig, path: Path) -> tuple[OnnxModel, Json]:
        """Quantize in one way; give the ONNX model and its decisions."""
        prepared = self.prepare(config.smooth)
        with torch.no_grad():
            graph = self.export(prepared)
            graph = self.libraries["prepare"](graph, self.config(config, prepared))
            self.observe(graph, config)
            return self.write(self.libraries["convert"](graph), prepared, config, path)

    def write(
        self, graph: Any, prepared: Prepared, config: IncConfig, path: Path
    ) -> tuple[OnnxModel, Json]:
        """Write what was found in a converted graph as ONNX and prove what it is.

        Raises
        ------
        StageError
            When nothing is quantized, it cannot be written, or it computes something else.
        """
        with torch.no_grad():
            expected = [graph(*tensors(feed)).numpy() for feed in self.compared]
        found = observed_layers(graph)
        if not found:
            raise StageError("Neural Compressor quantized no linear layer of this model")
        fp32 = dict.fromkeys(prepared.linears, UNTOUCHED)
        fp32 |= dict.fromkeys(config.exclude, EXCLUDED)
        model, decisions = write_observed(
            self.exported, found, prepared.smoothed, fp32, self.tables, path
        )
        decisions |= {
            "calibrated_on": self.examples if config.scheme == "static" or config.smooth else 0,
            "parity": parity(model, expected, self.compared),
            "answers": self._judge(model),
        }
        if prepared.smoothed:
            decisions["alphas"] = {group.paths[0]: group.alpha for group in prepared.smoothed}
        return model, decisions

    @cached_property
    def exported(self) -> OnnxModel:
        """The fp32 graph of the whole model, written once into the scratch folder."""
        target = OnnxModel(self.context.scratch / "exported" / "model.onnx")
        shutil.rmtree(target.directory, ignore_errors=True)
        module, task = load_module(self.model), self.candidate.task
        export_graph(module, task, target.path, choose_exporter(module, task))
        return target

    def _judge(self, model: OnnxModel) -> Json:
        """Compare the answers with those of the PyTorch model in fp32.

        Raises
        ------
        StageError
            When they are no answers any more.
        """
        names, found = outputs_of(model, self.compared)
        pairs = zip(self.answers, self.compared, strict=True)
        expected = [[unpadded(answer, feed)] for answer, feed in pairs]
        errors = compare_outputs(names, expected, found)
        fault = first_fault(errors)
        if fault and not self.force:
            told = f"{len(self.compared)} {self.judged_on}"
            raise StageError(f"{NO_ANSWERS}: {fault} ({told}); {ADVICE}")
        return answers_json(errors, len(self.compared), self.judged_on, fault)

    def _texts(self) -> list[tuple[Any, ...]]:
        if not self.texts:
            raise DataError(
                "calibration needs training examples, a task and a tokenizer; without them use"
                " quantize.inc_dynamic"
            )
        return [tensors(feed) for feed in self.texts]


def round_tables(module: Any, bits: Bits, block: int) -> None:
    """Round the embedding tables of `module` in place, as they will be stored.

    So activation ranges are those behind the quantized tables. A table that is a linear layer's
    weight, too, stays as it is: Neural Compressor quantizes it as that.
    """
    owners = [id(weight) for _, weight in module.named_parameters(remove_duplicate=False)]
    for part in module.modules():
        if not isinstance(part, torch.nn.Embedding) or owners.count(id(part.weight)) > 1:
            continue
        table = part.weight.detach().numpy()
        fitting = fitting_block(table.shape[1], block) if bits == 4 else None
        rounded = (
            dequantize_blocks(quantize_block_table(table, fitting))
            if fitting
            else dequantize(quantize_rows(table), axis=0)
        )
        with torch.no_grad():
            part.weight.copy_(torch.from_numpy(rounded))


def tensors(feed: Feed) -> tuple[Any, ...]:
    """Give a feed's arrays as tensors, in its order."""
    return tuple(torch.from_numpy(np.asarray(value)) for value in feed.values())


def quantize_with_inc(
    candidate: Candidate,
    context: Context,
    config: IncConfig,
    examples: Sequence[Example] = (),
    *,
    embedding_bits: Bits = 8,
    embedding_block: int = 32,
    force: bool = False,
) -> Candidate:
    """Quantize `candidate` and write ``model/model.onnx`` into the context's folder.

    Parameters
    ----------
    candidate : Candidate
        Holds a `TorchModel`.
    config : IncConfig
    examples : sequence of Example
        Calibration texts; what is dynamic and smooths nothing needs none.
    embedding_bits : int
        8: one scale for each row of a table; 4: one for each `embedding_block` values of a row.
    force : bool
        Keep what gives no answers.

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
    # One thread, so that ranges do not depend on the number of cores; 64 short texts are soon read.
    with quiet(), torch_threads(1):
        source = Source(candidate, context, examples, embedding_bits, embedding_block, force)
        model, decisions = source.quantize(config, context.folder / "model" / "model.onnx")
    measured = {"answers": decisions.pop("answers")}
    return candidate.with_model(model, measured=measured, **decisions)
