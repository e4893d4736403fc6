"""Export a PyTorch model to ONNX and prove that both give the same numbers.

Optimum writes what it knows; of other models PyTorch's own exporter follows two rows of the data.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from edgecompress.errors import StageError
from edgecompress.stage import Context, Decisions, Kind, Transform
from edgecompress.values import Candidate, OnnxModel, Step, TorchModel

EXAMPLES = 2
"""What PyTorch's exporter follows through a model; of a size of 1 it would keep no axis open."""


class Export(Transform):
    """From a PyTorch model to an fp32 ONNX file with dynamic batch and sequence axes."""

    accepts: ClassVar[tuple[Kind, ...]] = (TorchModel,)
    yields: ClassVar[Kind] = OnnxModel
    lossless: ClassVar[bool] = True
    keeps_ranges: ClassVar[bool] = True

    opset: int = Field(default=18, ge=17, le=23)
    """Version of the ONNX operator set; 17 is the first with LayerNormalization."""
    tolerance: float = Field(default=1e-3, gt=0)
    """Largest absolute difference to PyTorch's outputs."""

    @classmethod
    def tell(cls, step: Step) -> str:
        """Say what was written."""
        from edgecompress import telling

        opset = step.decisions.get("opset", step.parameters.get("opset"))
        which = f", operator set {opset}" if isinstance(opset, int) else ""
        return f"Written as ONNX{which}{telling.parity(step.decisions)}."

    def make(
        self,
        candidate: Candidate,
        decisions: Decisions,  # noqa: ARG002
        context: Context,
    ) -> Candidate:
        """Write ``model.onnx`` and compare it with PyTorch on real batches of several lengths.

        Raises
        ------
        StageError
            When the exporter fails or the outputs differ by more than `tolerance`.
        """
        from edgecompress.models.session import input_specs, open_session
        from edgecompress.models.storage import read_model
        from edgecompress.quantization.observe.learned import tensor_ranges
        from edgecompress.surgery.model import load_module
        from edgecompress.surgery.onnx_export import export_onnx, known_to_optimum

        if not isinstance(candidate.model, TorchModel):
            raise StageError("export takes a PyTorch model")
        module = load_module(candidate.model)
        model = OnnxModel(context.folder / "model" / "model.onnx")
        context.progress(0, 2, "tracing")
        by_optimum = known_to_optimum(module, candidate.task)
        if by_optimum:
            export_onnx(module, candidate.task, model.path, self.opset)
        else:
            self._alone(module, candidate, context, model.path)
        context.progress(1, 2, "comparing with PyTorch")
        session = open_session(model)
        checked = self._compare(module, session, candidate, context, model)
        dynamic = {
            spec.name: [size for size in spec.shape if isinstance(size, str)]
            for spec in input_specs(session)
        }
        modules = {path for path, _ in module.named_modules()}
        learned = tensor_ranges(read_model(model.path), candidate.ranges, modules)
        return candidate.with_model(
            model,
            learned_ranges=learned,
            exporter="optimum" if by_optimum else "torch",
            opset=self.opset,
            dynamic_axes=dynamic,
            parity=checked,
        )

    def _alone(self, module: Any, candidate: Candidate, context: Context, path: Path) -> None:
        """Export a model that Optimum does not know, as its rows show what it is given."""
        import inspect

        from edgecompress.models.inputs import encode_rows
        from edgecompress.surgery.onnx_export import export_alone

        rows = encode_rows(candidate, (context.validation or context.train)[:EXAMPLES])
        if rows is None:
            raise StageError(
                f"Optimum does not know models of the type {module.config.model_type!r}, and "
                "PyTorch's exporter needs inputs to follow; name `data`"
            )
        names = rows.inputs_of(inspect.signature(module.forward).parameters)
        feed = rows.batch(range(len(rows)), names)
        axes = rows.processor.axes(feed)
        outputs = [one.name for one in rows.task.outputs]
        export_alone(module, feed, axes, outputs, path, self.opset)

    def _compare(
        self, module: Any, session: Any, candidate: Candidate, context: Context, model: OnnxModel
    ) -> dict[str, Any]:
        import torch

        from edgecompress.models.inputs import largest_difference, parity_feeds

        examples = context.validation or context.train
        feeds = parity_feeds(candidate, examples, model, context.seed)
        worst = 0.0
        for feed in feeds:
            with torch.inference_mode():
                tensors = {name: torch.from_numpy(value) for name, value in feed.items()}
                expected = module(**tensors)[0].numpy()
            found = session.run(None, feed)[:1]
            gap = largest_difference([expected], found, feed)
            worst = max(worst, gap)
            if gap > self.tolerance:
                shape = "×".join(str(size) for size in next(iter(feed.values())).shape)
                raise StageError(
                    f"the exported model differs from PyTorch by {gap:.3g} on a batch of {shape} "
                    f"(batch × length), more than the tolerance {self.tolerance:g}"
                )
        shapes = [list(next(iter(feed.values())).shape) for feed in feeds]
        return {"max_abs_difference": worst, "tolerance": self.tolerance, "shapes": shapes}
