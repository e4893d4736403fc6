"""One way to ask a model, whatever it is: an ONNX session or a PyTorch module.

A runner is a function from the inputs of a batch to the outputs by name
(`edgecompress.values.Runner`); `run_rows` asks it about any number of rows.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from edgecompress.errors import StageError
from edgecompress.models.specs import NUMBERS
from edgecompress.values import Feed, OnnxModel, TensorSpec

ALL_CORES = 0
"""As a number of threads: one for each physical core."""

Batch = Mapping[str, np.ndarray[Any, Any]]


class SessionRunner:
    """An ONNX Runtime session that is asked by name and gives its outputs by name.

    Parameters
    ----------
    session : onnxruntime.InferenceSession
    outputs : iterable of str
        The outputs to give; empty for all.
    name : str
        What errors call the model.

    Attributes
    ----------
    specs : tuple of TensorSpec
        The graph's inputs; values of other dtypes are converted.
    outputs : tuple of str
    """

    def __init__(self, session: Any, outputs: Iterable[str] = (), name: str = "") -> None:
        import onnxruntime

        from edgecompress.models.session import FATAL_ONLY, ORT_ERRORS, first_line, input_specs

        self.session, self.name = session, name
        self.specs = input_specs(session)
        self.outputs = tuple(outputs) or tuple(found.name for found in session.get_outputs())
        self._settings = onnxruntime.RunOptions()
        self._settings.log_severity_level = FATAL_ONLY
        self._errors, self._said = ORT_ERRORS, first_line

    def __call__(self, feed: Batch, /) -> Feed:
        """Run one batch."""
        given = {
            spec.name: _typed(feed[spec.name], spec.dtype)
            for spec in self.specs
            if spec.name in feed
        }
        try:
            found = self.session.run(list(self.outputs), given, self._settings)
        except self._errors as error:
            where = f"{self.name}: " if self.name else ""
            raise StageError(f"{where}ONNX Runtime cannot run it ({self._said(error)})") from error
        return dict(zip(self.outputs, found, strict=True))

    def values(self, feed: Batch) -> list[Any]:
        """Run one batch; give the outputs in the graph's order."""
        return list(self(feed).values())


def _typed(value: Any, dtype: str) -> Any:
    return np.asarray(value).astype(dtype, copy=False) if dtype in NUMBERS else value


class TorchRunner:
    """A PyTorch module in evaluation that takes and gives numpy arrays.

    Parameters
    ----------
    module : torch.nn.Module
        Its answer is a mapping, as those of transformers are.
    outputs : iterable of str
        The outputs to give; empty for all that are tensors.
    precision : callable, optional
        Gives the context in which the module runs, such as mixed precision.

    Attributes
    ----------
    specs : tuple of TensorSpec
        The arguments of ``forward`` by name; dtype and shape are not known.
    """

    def __init__(
        self,
        module: Any,
        outputs: Iterable[str] = (),
        precision: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self.module, self.outputs, self.precision = module, tuple(outputs), precision
        self.specs = tuple(
            TensorSpec(name, "", ()) for name in inspect.signature(module.forward).parameters
        )
        self._known = frozenset(spec.name for spec in self.specs)

    def __call__(self, feed: Batch, /) -> Feed:
        """Run one batch on the device where the module is; floating point comes as float32."""
        import torch

        device = next(self.module.parameters()).device
        given = {
            name: torch.from_numpy(np.asarray(value)).to(device)
            for name, value in feed.items()
            if name in self._known
        }
        with torch.inference_mode(), self.precision():
            answer = self.module(**given)
        names = self.outputs or [name for name in answer if torch.is_tensor(answer[name])]
        return {name: _array(answer[name]) for name in names}


def _array(tensor: Any) -> np.ndarray[Any, Any]:
    found: np.ndarray[Any, Any] = (
        (tensor.float() if tensor.is_floating_point() else tensor).cpu().numpy()
    )
    return found


def open_onnx(
    model: OnnxModel, threads: int = 1, *, outputs: Iterable[str] = (), packed: bool = True
) -> SessionRunner:
    """Open an ONNX model on this machine's CPU with the session that it wants.

    Parameters
    ----------
    model : OnnxModel
    threads : int
        Compute threads of one operator; 0 is one for each physical core.
    outputs : iterable of str
        The outputs to give; empty for all.
    packed : bool
        As `open_session` says.

    Raises
    ------
    StageError
        When ONNX Runtime refuses the file or a setting.
    """
    from edgecompress.models.session import open_session

    session = open_session(model, threads, packed=packed)
    return SessionRunner(session, outputs, str(model.path))


def answers(model: OnnxModel, feeds: Iterable[Batch]) -> list[list[Any]]:
    """Give the outputs of a model on all `feeds`, in the session that it wants.

    Raises
    ------
    StageError
        When ONNX Runtime cannot load or run it.
    """
    runner = open_onnx(model)
    return [runner.values(feed) for feed in feeds]


def run_rows(
    runner: Callable[[Batch], Feed],
    batch: Callable[[Sequence[int]], Batch],
    batches: Iterable[Iterable[int]],
    tick: Callable[[int], None] | None = None,
) -> Iterator[tuple[int, Feed]]:
    """Ask a model about rows in batches; give each row's outputs.

    Parameters
    ----------
    runner : Runner or callable
        Such as a task's `play` with a runner.
    batch : callable
        Gives the inputs of the rows with these numbers, padded to the longest of them.
    batches : iterable of iterable of int
        Numbers of rows that are asked together.
    tick : callable, optional
        Told the number of rows done.

    Yields
    ------
    row : int
        In the order of `batches`.
    outputs : dict of str to ndarray
        Without the batch axis; what a task's `compact` keeps of them lacks the padding.
    """
    done = 0
    for numbers in batches:
        rows = [int(row) for row in numbers]
        found = runner(batch(rows))
        for place, row in enumerate(rows):
            yield row, {name: values[place] for name, values in found.items() if np.ndim(values)}
        done += len(rows)
        if tick is not None:
            tick(done)
