"""Quantize an ONNX model to int8 with activation ranges measured beforehand on training examples.

QDQ pairs stand around the inputs of linear layers only; embeddings become int8 tables. ONNX Runtime
runs both with its integer kernels. The attention mask's bias, softmax and residuals stay in fp32.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from edgecompress.errors import StageError
from edgecompress.quantization.presets import IntegerType, LinearTypes
from edgecompress.quantization.tables import TableTypes
from edgecompress.stage import Context, Kind
from edgecompress.values import Candidate, Example, Json, OnnxModel

if TYPE_CHECKING:
    from edgecompress.quantization.calibration import Seen


class Static(LinearTypes, TableTypes):
    """Int8 weights and activations, with ranges from calibration examples."""

    accepts: ClassVar[tuple[Kind, ...]] = (OnnxModel,)
    yields: ClassVar[Kind] = OnnxModel
    needs_data: ClassVar[bool] = True

    calibration: str | None = None
    """A calibration set by name, or the path of its YAML file; without one, examples of the
    training set at random."""
    samples: int | None = Field(default=None, ge=1)
    """How many examples to measure ranges on; by default what the calibration set says, or 128."""
    method: Literal["minmax", "average", "percentile", "entropy", "mse"] = "minmax"
    """How a range is found among the values that were seen. ``minmax`` keeps them all; ``average``
    takes the samples' mean lowest and highest; ``mse`` clips where the squared error is least;
    ``percentile`` and ``entropy`` clip more, which costs accuracy where a few channels are always
    large, as in LayerNorm's outputs (on a MiniLM tagger ``entropy`` lost 7 points of F1 and
    ``minmax`` 0.2)."""
    percentile: float = Field(default=99.99, gt=50, le=100)
    """For the method of that name: how many per cent of the values a range covers."""
    activation: IntegerType = "uint8"
    """uint8 uses its whole range and is fast everywhere; int8 is symmetric, twice as far from fp32
    and three times slower on x86."""
    exclude: tuple[str, ...] = ()
    """Names of nodes or weights that stay fp32."""

    def identity(self) -> Json:
        """Give the parameters with the calibration set's digest in its name's place."""
        from edgecompress.data.calibration import load_calibration

        found = self.model_dump(mode="json")
        if self.calibration:
            found["calibration"] = load_calibration(self.calibration).digest
        return found

    def apply(self, candidate: Candidate, context: Context) -> Candidate:
        """Calibrate, write the quantized model and prove what runs as int8.

        Raises
        ------
        StageError
            When there is nothing to calibrate with, or the model cannot be quantized.
        DataError
            When the calibration set is unknown or malformed.
        """
        from edgecompress.quantization.inputs import onnx_model
        from edgecompress.quantization.proof import check_model, coverage
        from edgecompress.quantization.ranges import find_ranges, ranges_json
        from edgecompress.quantization.rewrite import (
            check_excluded,
            linear_inputs,
            missed_weights,
            rewrite,
        )
        from edgecompress.quantization.scheme import Scheme
        from edgecompress.quantization.storage import read_model, write_model

        source = onnx_model(candidate)
        exclude = frozenset(self.exclude)
        stored = read_model(source.path)
        check_excluded(stored, Scheme(exclude=exclude))
        examples = self._examples(context)
        seen = self._seen(candidate, examples, linear_inputs(stored, exclude), context)
        ranges = find_ranges(seen, self.method, self.percentile)
        scheme = Scheme(
            per_channel=self.per_channel,
            reduce_range=self.reduce_range,
            embeddings=self.embeddings,
            embedding_bits=self.embedding_bits,
            embedding_block=self.embedding_block,
            exclude=exclude,
            ranges=ranges,
            signed_activations=self.activation == "int8",
            unsigned_weights=self.weight == "uint8",
            symmetric_weights=self.symmetric,
        )
        model = OnnxModel(context.folder / "model" / "model.onnx", source.session)
        model.directory.mkdir(parents=True, exist_ok=True)
        quantized, reasons = rewrite(stored, scheme)
        write_model(quantized, model.path)
        found = coverage(model)
        missed = missed_weights(found)
        if missed:
            again = replace(scheme, as_integers=missed)
            quantized, reasons = rewrite(read_model(source.path), again)
            write_model(quantized, model.path)
            found = coverage(model)
        check_model(model)
        decided = found.to_json(reasons)
        decided |= {"calibrated_on": len(examples), "ranges": ranges_json(ranges)}
        decided |= {"preset": self.preset, "types": self.types_json(self.activation)}
        return candidate.with_model(model, **decided)

    def _examples(self, context: Context) -> Sequence[Example]:
        from edgecompress.data.calibration import CalibrationSet, load_calibration

        if not context.train:
            raise StageError(
                "quantize.static measures ranges on training examples, and there are none: "
                "give `data`, or use quantize.dynamic"
            )
        chosen = load_calibration(self.calibration) if self.calibration else None
        chosen = chosen or CalibrationSet(name="random")
        return chosen.select(context.train, context.seed, self.samples)

    def _seen(
        self,
        candidate: Candidate,
        examples: Sequence[Example],
        names: Sequence[str],
        context: Context,
    ) -> Mapping[str, Seen]:
        """Give what a pass over the examples saw; one pass serves all methods and candidates."""
        from edgecompress.onnx_files import model_digests
        from edgecompress.quantization.calibration import collect, load_seen, observe, save_seen
        from edgecompress.quantization.graph import graph_specs
        from edgecompress.quantization.inputs import encode_rows, onnx_model

        rows = encode_rows(candidate, examples)
        if rows is None:
            raise StageError("quantize.static needs a task and a tokenizer to read examples with")
        source = onnx_model(candidate)
        specs = graph_specs(source)
        total = len(rows.lengths)

        def build(folder: Path) -> None:
            # The model with further outputs is large and soon made: it is not kept.
            observed = observe(source, names, context.scratch / "observed")
            try:
                found = collect(
                    observed,
                    names,
                    (rows.feed([row], specs) for row in range(total)),
                    state=context.scratch / "seen.npz",
                    progress=lambda done: context.progress(done, total, "ranges"),
                )
            finally:
                shutil.rmtree(observed.directory, ignore_errors=True)
            save_seen(found, folder / "seen.npz", total)

        key = {
            "kind": "calibration",
            "model": model_digests(source),
            "tensors": list(names),
            "rows": [ids.tolist() for ids in rows.encoded.input_ids],
        }
        return load_seen(context.cached(key, build) / "seen.npz")[0]
