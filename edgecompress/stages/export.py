"""Export a PyTorch model to ONNX and prove that both give the same numbers.

Optimum writes what it knows, where it is installed, else PyTorch's own exporter, which follows two
rows of the data through a model of a kind that no family describes.
"""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from edgecompress.errors import StageError
from edgecompress.stage import Context, Decisions, Kind, Transform
from edgecompress.values import Candidate, OnnxModel, Step, TorchModel

if TYPE_CHECKING:
    from edgecompress.surgery.dynamo_export import Traced

EXAMPLES = 2
"""What PyTorch's exporter follows through a model; of a size of 1 it would keep no axis open."""


class Export(Transform):
    """From a PyTorch model to an fp32 ONNX file with dynamic batch and sequence axes."""

    also_called: ClassVar[tuple[str, ...]] = ("onnx", "to_onnx", "convert")
    accepts: ClassVar[tuple[Kind, ...]] = (TorchModel,)
    yields: ClassVar[Kind] = OnnxModel
    lossless: ClassVar[bool] = True
    keeps_ranges: ClassVar[bool] = True

    opset: int = Field(default=18, ge=17, le=23)
    """Version of the ONNX operator set; 17 is the first with LayerNormalization."""
    tolerance: float = Field(default=1e-3, gt=0)
    """Largest absolute difference to PyTorch's outputs."""
    exporter: Literal["dynamo", "optimum"] | None = None
    """``dynamo`` is PyTorch's own exporter, ``optimum`` Optimum's, which needs transformers 4.57;
    without either: Optimum's where it is installed and knows the model, else PyTorch's."""

    kernels: bool | None = None
    """Write attention as ONNX Runtime's kernels: of language models with their norms
    (`GroupQueryAttention`), without it where they are equal and give tokens faster; of encoders of
    speech (`MultiHeadAttention`), without it always."""

    @classmethod
    def tell(cls, step: Step) -> str:
        """Say what was written."""
        from edgecompress import telling

        opset = step.decisions.get("opset", step.parameters.get("opset"))
        which = f", operator set {opset}" if isinstance(opset, int) else ""
        how = " by PyTorch's own exporter" if step.decisions.get("exporter") == "dynamo" else ""
        fused = ", with grouped-query attention" if step.decisions.get("kernels") else ""
        return f"Written as ONNX{how}{which}{fused}{telling.parity(step.decisions)}."

    def decide(self, candidate: Candidate, context: Context) -> Decisions:
        """Find out whether kernels make a language model faster; nothing of other models."""
        from edgecompress.models.cached import PROMPT, step_times
        from edgecompress.models.runner import open_onnx
        from edgecompress.surgery.model import load_module

        if not isinstance(candidate.model, TorchModel) or not _generates(candidate):
            return Decisions()
        module = load_module(candidate.model)
        if module.config.is_encoder_decoder:
            return Decisions()
        if self.kernels is not None:
            return Decisions({"kernels": self.kernels})
        plain, fused = (context.scratch / name / "model.onnx" for name in ("plain", "fused"))
        try:
            self._write(module, candidate, fused, context, kernels=True)
            self._compare(module, candidate, context, OnnxModel(fused))
        except StageError as error:
            return Decisions({"kernels": False, "without_kernels": str(error)})
        self._write(module, candidate, plain, context, kernels=False)
        context.progress(1, 3, "timing both forms")
        graphs = [open_onnx(OnnxModel(one)) for one in (plain, fused)]
        ms = step_times(graphs, getattr(module.config, "max_position_embeddings", PROMPT))
        faster = ms[1] < ms[0]
        measured = {"ms_per_token": {"plain": round(ms[0], 4), "kernels": round(ms[1], 4)}}
        made = (fused if faster else plain).parent
        return Decisions({"kernels": faster}, measured, made=made)

    def make(self, candidate: Candidate, decisions: Decisions, context: Context) -> Candidate:
        """Write ``model.onnx`` and compare it with PyTorch on real batches of several lengths.

        Raises
        ------
        StageError
            When the exporter fails or the outputs differ by more than `tolerance`.
        """
        from edgecompress.models.graph import signature
        from edgecompress.models.storage import read_model
        from edgecompress.quantization.observe.learned import tensor_ranges
        from edgecompress.surgery.model import load_module

        if not isinstance(candidate.model, TorchModel):
            raise StageError("export takes a PyTorch model")
        module = load_module(candidate.model)
        if hasattr(module, "export_parts"):
            return self._in_parts(module, candidate, context)
        model = OnnxModel(context.folder / "model" / "model.onnx")
        kernels = bool(decisions.record.get("kernels"))
        if decisions.made is None:
            exporter = self._write(module, candidate, model.path, context, kernels=kernels)
        else:
            exporter = "dynamo"
            shutil.move(decisions.made, model.path.parent)
        context.progress(2, 3, "comparing with PyTorch")
        checked = self._compare(module, candidate, context, model)
        dynamic = {
            spec.name: [size for size in spec.shape if isinstance(size, str)]
            for spec in signature(model)
        }
        modules = {path for path, _ in module.named_modules()}
        learned = tensor_ranges(read_model(model.path), candidate.ranges, modules)
        return candidate.with_model(
            model,
            learned_ranges=learned,
            exporter=exporter,
            opset=self.opset,
            dynamic_axes=dynamic,
            parity=checked,
        )

    def _write(
        self, module: Any, candidate: Candidate, path: Path, context: Context, *, kernels: bool
    ) -> str:
        """Write the graph; give the name of the exporter that did."""
        from edgecompress.quantization.graphs.exporting import export_graph
        from edgecompress.surgery.decoder_export import cached_form
        from edgecompress.surgery.decoder_kernels import as_kernels
        from edgecompress.surgery.families import find_family
        from edgecompress.surgery.onnx_export import choose_exporter

        context.progress(0, 3, "tracing")
        exporter = self.exporter or choose_exporter(module, candidate.task)
        form, traced = module, None
        family = find_family(module.config)
        if _generates(candidate) and not module.config.is_encoder_decoder:
            exporter = "dynamo"  # what is fed back, and what a graph may leave out, is our own form
            form, traced = cached_form(module)
        elif exporter == "dynamo" and (family is None or not family.words):  # no text, as is known
            traced = self._rows_to_trace(module, candidate, context)
        with as_kernels(form) if kernels else contextlib.nullcontext():
            # Ranges that training has learned belong to the layers that it knew.
            join = kernels and not candidate.ranges
            export_graph(form, candidate.task, path, exporter, self.opset, traced, join=join)
        return exporter

    def _in_parts(self, module: Any, candidate: Candidate, context: Context) -> Candidate:
        """Write each part that a model says it has, and compare each with PyTorch."""
        from edgecompress.models.parity import difference
        from edgecompress.quantization.graphs.exporting import export_graph
        from edgecompress.surgery.dynamo_export import Traced
        from edgecompress.surgery.encoder_kernels import as_kernels

        made: dict[str, OnnxModel] = {}
        gaps: dict[str, float] = {}
        parts = module.export_parts()
        for number, (name, (part, given)) in enumerate(parts.items()):
            context.progress(number, len(parts), f"tracing the {name}")
            traced = Traced(**given)
            model = OnnxModel(context.folder / "model" / name / "model.onnx")
            plain = "attention_mask" not in traced.example  # the kernel is given no mask
            fused = name == "encoder" and plain and self.kernels is not False
            with as_kernels(part.model) if fused else contextlib.nullcontext():
                export_graph(part.eval(), None, model.path, "dynamo", self.opset, traced)
            gaps[name] = difference(part, traced, model)
            if gaps[name] > self.tolerance:
                raise StageError(
                    f"the exported {name} differs from PyTorch by {gaps[name]:.3g}, more than the "
                    f"tolerance {self.tolerance:g}"
                )
            made[name] = model
        parity = {"max_abs_difference": max(gaps.values()), "tolerance": self.tolerance}
        return candidate.with_model(
            OnnxModel.of(made),
            exporter="dynamo",
            opset=self.opset,
            parity={**parity, "parts": gaps},
        )

    def _rows_to_trace(self, module: Any, candidate: Candidate, context: Context) -> Traced:
        """Give rows of the data, which show what a model of any kind is given."""
        import inspect

        import torch

        from edgecompress.models.inputs import encode_rows
        from edgecompress.surgery.dynamo_export import Traced
        from edgecompress.tasks import task as find_task

        examples = context.validation or context.train
        if not examples and candidate.task is not None:
            examples = find_task(candidate.task).trial()
        rows = encode_rows(candidate, examples[:EXAMPLES])
        if rows is None:
            raise StageError(
                f"no family describes models of the type {module.config.model_type!r}, and "
                "PyTorch's exporter needs inputs to follow; name `data`"
            )
        module.config.use_cache = False  # what a decoder would keep for its next token is no answer
        names = rows.inputs_of(inspect.signature(module.forward).parameters)
        feed = rows.batch(range(len(rows)), names)
        example = {name: torch.from_numpy(value) for name, value in feed.items()}
        outputs = tuple(one.name for one in rows.task.outputs)
        return Traced(example, rows.processor.axes(feed), outputs)

    def _compare(
        self, module: Any, candidate: Candidate, context: Context, model: OnnxModel
    ) -> dict[str, Any]:
        import torch

        from edgecompress.generation.states import is_state
        from edgecompress.models.cached import cached_difference, keeps_states
        from edgecompress.models.inputs import largest_difference, parity_feeds
        from edgecompress.models.runner import open_onnx

        runner = open_onnx(model)
        examples = context.validation or context.train
        feeds = parity_feeds(candidate, examples, model, context.seed)
        worst = 0.0
        for feed in feeds:
            with torch.inference_mode():
                tensors = {name: torch.from_numpy(value) for name, value in feed.items()}
                known = {name: tensors[name] for name in tensors if not is_state(name)}
                expected = module(**known)[0].numpy()
            found = runner.values(feed)[:1]
            gap = largest_difference([expected], found, feed)
            worst = max(worst, gap)
            if gap > self.tolerance:
                shape = "×".join(str(size) for size in next(iter(feed.values())).shape)
                raise StageError(
                    f"the exported model differs from PyTorch by {gap:.3g} on a batch of {shape} "
                    f"(batch × length), more than the tolerance {self.tolerance:g}"
                )
        if keeps_states(runner):
            worst = max(worst, gap := cached_difference(runner, feeds[-2]["input_ids"][0][:64]))
            if gap > self.tolerance:
                raise StageError(
                    f"the exported model's logits differ by {gap:.3g} when it goes on from its "
                    f"cache, more than the tolerance {self.tolerance:g}"
                )
        shapes = [list(next(iter(feed.values())).shape) for feed in feeds]
        return {"max_abs_difference": worst, "tolerance": self.tolerance, "shapes": shapes}


def _generates(candidate: Candidate) -> bool:
    from edgecompress.tasks import task

    return candidate.task is not None and task(candidate.task).generates
