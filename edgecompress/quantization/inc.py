"""Quantize a PyTorch model with Intel Neural Compressor and give it back as ONNX.

Method: PyTorch 2 Export quantization (PT2E) as Neural Compressor 3 drives it,
https://intel.github.io/neural-compressor/latest/docs/source/3x/PT_StaticQuant.html: the model is
exported to a graph, observers are inserted, calibration texts run through it (static), and each
linear layer gets int8 weights with one scale per output channel and uint8 activations. On top of
it, embeddings become int8 (`inc_embedding`), and the graph becomes ONNX with the operators that
ONNX Runtime runs in int8 (`inc_graph`, `inc_onnx`).
"""

from __future__ import annotations

import difflib
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from edgecompress.determinism import torch_threads
from edgecompress.errors import EdgeCompressError, MissingExtraError, StageError
from edgecompress.values import Candidate, Example, Json

if TYPE_CHECKING:
    from edgecompress.stage import Context

Scheme = Literal["static", "dynamic"]
Method = Literal["minmax", "histogram"]
Smooth = float | Literal["auto"]

# As Neural Compressor calls the two ways to find an activation's range.
ALGORITHMS = {"histogram": "kl", "minmax": "minmax"}
FLOAT = {"w_dtype": "fp32", "act_dtype": "fp32"}


@dataclass(frozen=True, slots=True)
class Plan:
    """One way to quantize a model with Neural Compressor.

    Attributes
    ----------
    scheme : str
        ``static`` fixes activation ranges from calibration texts; ``dynamic`` computes them at run
        time.
    method : str
        How a static range is found.
    smooth : float or "auto", optional
        SmoothQuant's alpha for all layers; ``auto``: one for each; None: not smoothed.
    exclude : tuple of str
        Paths of the linear layers that stay fp32.
    """

    scheme: Scheme
    method: Method = "histogram"
    smooth: Smooth | None = None
    exclude: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What progress and decisions call it."""
        parts = [self.scheme if self.scheme == "dynamic" else f"{self.scheme} {self.method}"]
        parts += [f"smooth {self.smooth}"] if self.smooth is not None else []
        parts += [f"{len(self.exclude)} layers in fp32"] if self.exclude else []
        return ", ".join(parts)

    def config(self, libraries: Mapping[str, Any], paths: Iterable[str] = ()) -> Any:
        """Make Neural Compressor's ``StaticQuantConfig`` or ``DynamicQuantConfig``.

        Parameters
        ----------
        libraries : mapping
            From `import_inc`.
        paths : iterable of str
            Of the excluded layers in the module that is exported.
        """
        make = libraries[self.scheme]
        if self.scheme == "static":
            made = make(act_algo=ALGORITHMS[self.method])
        else:
            made = make(w_granularity="per_channel")
        for path in paths:
            made.set_local(path, make(**FLOAT))
        return made

    def to_json(self) -> Json:
        """Give what `plan_from_json` reads."""
        return {**asdict(self), "exclude": list(self.exclude)}


def plan_from_json(document: Any) -> Plan:
    """Read a plan from a record.

    Raises
    ------
    StageError
        When it is none.
    """
    try:
        plan = Plan(
            document["scheme"],
            document["method"],
            document["smooth"],
            tuple(str(name) for name in document["exclude"]),
        )
    except (KeyError, TypeError):
        raise StageError(
            "there is no record of what Neural Compressor chose; run the recipe again"
        ) from None
    if plan.scheme not in get_args(Scheme) or plan.method not in get_args(Method):
        raise StageError(f"the record names a scheme that is not known: {plan.name}")
    return plan


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
    plan: Plan,
    examples: Sequence[Example] = (),
    *,
    embedding_bits: Literal[4, 8] = 8,
    embedding_block: int = 32,
    force: bool = False,
) -> Candidate:
    """Quantize `candidate` and write ``model/model.onnx`` into the context's folder.

    Parameters
    ----------
    candidate : Candidate
        Holds a `TorchModel`.
    plan : Plan
    examples : sequence of Example
        Calibration texts; a plan that is dynamic and smooths nothing needs none.
    force : bool
        Keep what gives no answers.
    embedding_bits : int
        8: one scale for each row of a table; 4: one for each `embedding_block` values of a row.

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
        from edgecompress.quantization.inc_work import Source

        source = Source(candidate, context, examples, embedding_bits, embedding_block, force)
        model, decisions = source.quantize(plan, context.folder / "model" / "model.onnx")
    measured = {"answers": decisions.pop("answers")}
    return candidate.with_model(model, measured=measured, **decisions)


def check_excluded(names: Sequence[str], known: Sequence[str]) -> None:
    """Check that all `names` are linear layers of the model.

    Raises
    ------
    StageError
        Naming the first that is not, and the nearest that is.
    """
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise StageError(f"the model has no linear layer called {name!r}{hint}")


def import_inc() -> dict[str, Any]:
    """Give what is used of Neural Compressor.

    Raises
    ------
    MissingExtraError
        When it is not installed.
    """
    try:
        from neural_compressor.torch.export import export
        from neural_compressor.torch.quantization import (
            DynamicQuantConfig,
            StaticQuantConfig,
            TuningConfig,
            autotune,
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
        "autotune": autotune,
        "tuning": TuningConfig,
    }


def step(what: str, run: Callable[[], Any]) -> Any:
    """Run a library's export step; its many kinds of errors become one sentence."""
    try:
        return run()
    except (EdgeCompressError, MemoryError):
        raise
    except (RuntimeError, ValueError, TypeError, NotImplementedError, AssertionError) as error:
        first: BaseException = error  # an exporter's own error says little; what caused it, more
        while first.__cause__ is not None:
            first = first.__cause__
        cause = " ".join(str(first).split())[:300]
        raise StageError(f"{what} ({type(first).__name__}: {cause})") from error
