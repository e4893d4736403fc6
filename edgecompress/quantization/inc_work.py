"""A model on its way through Neural Compressor: loaded, smoothed, exported, quantized, written.

`Source` holds what all plans for one candidate have in common (inputs, calibration texts, what is
compared), so that a plan is one call; the tuning in `inc_auto` makes many.

Imported inside functions only: it needs torch.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgecompress.errors import DataError, StageError
from edgecompress.models import sizes
from edgecompress.models.fitting import row_of
from edgecompress.models.inputs import encode_rows, parity_feeds, typed_feed
from edgecompress.quantization.answers import (
    compare_outputs,
    first_fault,
    outputs_of,
    unpadded,
)
from edgecompress.quantization.blocks import Bits
from edgecompress.quantization.inc import Plan, Smooth, check_excluded, import_inc, step
from edgecompress.quantization.inc_embedding import quantize_embeddings
from edgecompress.quantization.inc_graph import WRAPPER, LogitsOnly, lower_linears
from edgecompress.quantization.inc_onnx import dynamic_shapes, export_onnx, parity
from edgecompress.quantization.inc_smooth import SMOOTHED, smooth_linears
from edgecompress.quantization.judging import ADVICE, NO_ANSWERS, answers_json
from edgecompress.quantization.proof import Coverage, coverage
from edgecompress.quantization.scheme import EXCLUDED
from edgecompress.stage import Context
from edgecompress.surgery.families import blocks, family_of, layer_list
from edgecompress.surgery.model import load_module
from edgecompress.values import Candidate, Example, Feed, Json, OnnxModel, TensorSpec, TorchModel

# torch.export takes sizes 0 and 1 for constants, and equal sizes for one: trace with others.
TRACED_SHAPE = (2, 7)
NO_LAYER = "a constant of the model, such as rotary frequencies, and no layer's weight"
UNTOUCHED = "Neural Compressor did not quantize it"


@dataclass(frozen=True, slots=True)
class Prepared:
    """A module that is ready for export.

    Attributes
    ----------
    module : LogitsOnly
        With its final tables and, where asked for, smoothed.
    exceptions : dict of str to str
        Tables that stay fp32, with the reason.
    alphas : dict of str to float
        SmoothQuant's alpha by the first layer of each group; empty where nothing is smoothed.
    linears : dict of str to str
        Path of each linear layer in the model, and in `module`.
    """

    module: LogitsOnly
    exceptions: dict[str, str]
    alphas: dict[str, float]
    linears: dict[str, str]


class Source:
    """A candidate that Neural Compressor is to quantize, by one plan or several.

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
        self.force = force or context.recorded is not None
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
        self.traced = row_of(self.specs, {"input_ids": (0, pieces)}, sizes.Plan(*TRACED_SHAPE))
        self.example = tensors(self.traced)
        rows = encode_rows(candidate, examples)
        self.examples = len(examples)
        # One by one, so that no padding enters the ranges.
        self.calibration = (
            [tensors(typed_feed(rows, [row], self.specs)) for row in range(len(rows.lengths))]
            if rows
            else []
        )
        judged = context.validation or context.train
        self.compared = parity_feeds(
            candidate, judged, self.specs, context.seed, {"input_ids": pieces}
        )
        plain = LogitsOnly(module, self.names).eval()
        with torch.no_grad():
            self.answers = [plain(*tensors(feed)).numpy() for feed in self.compared]
        self.judged_on = "examples" if encode_rows(candidate, judged[:1]) else "made-up inputs"

    def prepare(self, smooth: Smooth | None) -> Prepared:
        """Load the module, quantize its tables and smooth its linear layers."""
        module = load_module(self.model)
        exceptions = quantize_embeddings(module, *self.tables)
        wrapped = LogitsOnly(module, self.names).eval()
        names = [
            name.removeprefix(WRAPPER)
            for name, part in wrapped.named_modules()
            if isinstance(part, torch.nn.Linear)
        ]
        alphas: dict[str, float] = {}
        if smooth is not None:
            alphas = smooth_linears(wrapped, self._texts(), smooth)
        linears = {
            name.removeprefix(WRAPPER).removesuffix(f".{SMOOTHED}"): name
            for name, part in wrapped.named_modules()
            if isinstance(part, torch.nn.Linear)
        }
        if sorted(linears) != sorted(names):
            raise StageError("Neural Compressor's SmoothQuant lost a linear layer of this model")
        return Prepared(wrapped, exceptions, alphas, linears)

    def export(self, prepared: Prepared) -> Any:
        """Give the graph that Neural Compressor quantizes, both axes dynamic."""
        shapes = (dynamic_shapes(self.example),)  # one per parameter: `LogitsOnly` takes *inputs
        return step(
            "Neural Compressor cannot export the model",
            lambda: self.libraries["export"](prepared.module, self.example, dynamic_shapes=shapes),
        )

    def config(self, plan: Plan, prepared: Prepared) -> Any:
        """Make Neural Compressor's configuration of a plan."""
        check_excluded(plan.exclude, list(prepared.linears))
        return plan.config(self.libraries, [prepared.linears[name] for name in plan.exclude])

    def observe(self, graph: Any, plan: Plan) -> None:
        """Run what a plan's observers are to see through a graph."""
        if plan.scheme == "static":
            texts = self._texts()
            for done, feed in enumerate(texts, start=1):
                graph(*feed)
                what = f"calibrating, {done} of {len(texts)}"
                self.context.progress(done, len(texts) + 1, what)
        else:
            # One run observes the weights; without it Neural Compressor gives them a scale of 1.
            graph(*self.example)

    def quantize(self, plan: Plan, path: Path) -> tuple[OnnxModel, Json]:
        """Quantize by one plan; give the ONNX model and its decisions."""
        prepared = self.prepare(plan.smooth)
        with torch.no_grad():
            graph = self.export(prepared)
            graph = self.libraries["prepare"](graph, self.config(plan, prepared))
            self.observe(graph, plan)
            return self.write(self.libraries["convert"](graph), prepared, plan, path)

    def write(
        self, graph: Any, prepared: Prepared, plan: Plan, path: Path
    ) -> tuple[OnnxModel, Json]:
        """Write a converted graph as ONNX and prove what it is.

        Raises
        ------
        StageError
            When nothing is quantized, it cannot be written, or it computes something else.
        """
        with torch.no_grad():
            expected = [graph(*tensors(feed)).numpy() for feed in self.compared]
            lowered, left = lower_linears(graph)
            if len(left) == len(lowered):
                raise StageError("Neural Compressor quantized no linear layer of this model")
            model = step(
                "the quantized graph cannot be written as ONNX",
                lambda: export_onnx(graph, self.example, self.names, lowered, path),
            )
        found = coverage(model)
        decisions = {
            **found.to_json(_reasons(found, prepared, plan)),
            "calibrated_on": self.examples if plan.scheme == "static" or plan.smooth else 0,
            "parity": parity(model, expected, self.compared),
            "answers": self._judge(model),
        }
        if prepared.alphas:
            decisions["alphas"] = prepared.alphas
        return model, decisions

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
        if not self.calibration:
            raise DataError(
                "calibration needs training examples, a task and a tokenizer; without them use"
                " quantize.inc_dynamic"
            )
        return self.calibration


def _reasons(found: Coverage, prepared: Prepared, plan: Plan) -> dict[str, str]:
    """Say why each part of a graph that is not int8 is not."""
    known = dict(prepared.exceptions)
    for name in prepared.linears:
        known[f"{name}.weight"] = EXCLUDED if name in plan.exclude else UNTOUCHED
    return {
        part.weight: next(
            (reason for name, reason in known.items() if part.weight.endswith(name)),
            "" if part.dequantized or part.kind == "embedding" else NO_LAYER,
        )
        for part in found.parts
    }


def input_names(module: Any) -> tuple[str, ...]:
    """Give the inputs of a text encoder: those of Optimum's export, in its order.

    RoBERTa's relatives (positions behind the padding id) accept segment ids but know only one.
    """
    taken = inspect.signature(module.forward).parameters
    segments = "token_type_ids" in taken and not family_of(module.config).position_offset
    return ("input_ids", "attention_mask", *(["token_type_ids"] if segments else []))


def tensors(feed: Feed) -> tuple[Any, ...]:
    """Give a feed's arrays as tensors, in its order."""
    return tuple(torch.from_numpy(np.asarray(value)) for value in feed.values())
