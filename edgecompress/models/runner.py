"""One way to ask a model, whatever it is: an ONNX session here, a PyTorch module in `torch_runner`.

A runner is a function from the inputs of a batch to the outputs by name
(`edgecompress.values.Runner`); `run_rows` asks it about any number of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from edgecompress.errors import StageError
from edgecompress.models.specs import NUMBERS
from edgecompress.values import Feed, OnnxModel

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
    specs, optional : tuple of TensorSpec
        The graph's inputs, and those that have a default; values of other dtypes are converted.
    outputs : tuple of str
    """

    def __init__(self, session: Any, outputs: Iterable[str] = (), name: str = "") -> None:
        import onnxruntime

        from edgecompress.models.session import (
            FATAL_ONLY,
            ORT_ERRORS,
            first_line,
            input_specs,
            specs_of,
        )

        self.session, self.name = session, name
        self.specs = input_specs(session)
        self.optional = specs_of(session.get_overridable_initializers())
        self.outputs = tuple(outputs) or tuple(found.name for found in session.get_outputs())
        self._settings = onnxruntime.RunOptions()
        self._settings.log_severity_level = FATAL_ONLY
        self._errors, self._said = ORT_ERRORS, first_line

    def __call__(self, feed: Batch, /) -> Feed:
        """Run one batch."""
        given = {
            spec.name: _typed(feed[spec.name], spec.dtype)
            for spec in (*self.specs, *self.optional)
            if spec.name in feed
        }
        found = self._run(self.session.run, list(self.outputs), given)
        return dict(zip(self.outputs, found, strict=True))

    def keeping(
        self, fed_back: Mapping[str, str]
    ) -> Callable[[Mapping[str, Any], int], dict[str, Any]]:
        """Give a function that runs it again and again, each time with what it kept.

        Parameters
        ----------
        fed_back : mapping of str to str
            For each input that holds a state, the output that it is given next.

        Returns
        -------
        callable
            As `KeptStates` is called; inputs that the graph lacks are left out.
        """
        from edgecompress.models.kept_states import KeptStates

        kept = KeptStates(self.session, self.outputs, fed_back, self._run)
        dtypes = {spec.name: spec.dtype for spec in (*self.specs, *self.optional)}

        def run(new: Mapping[str, Any], total: int) -> dict[str, Any]:
            known = {n: _typed(value, dtypes[n]) for n, value in new.items() if n in dtypes}
            return kept(known, total)

        return run

    def _run(self, run: Callable[..., Any], *given: Any) -> Any:
        try:
            return run(*given, self._settings)
        except self._errors as error:
            where = f"{self.name}: " if self.name else ""
            raise StageError(f"{where}ONNX Runtime cannot run it ({self._said(error)})") from error

    def values(self, feed: Batch) -> list[Any]:
        """Run one batch; give the outputs in the graph's order."""
        return list(self(feed).values())


def _typed(value: Any, dtype: str) -> Any:
    return np.asarray(value).astype(dtype, copy=False) if dtype in NUMBERS else value


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
