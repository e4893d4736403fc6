"""The frozen values that all rooms share: models, candidates, measurements, budgets, verdicts.

Nothing here imports torch, onnx or onnxruntime; a model is a place on disk and what is known of it.

A candidate's directory::

    candidate.json    task, labels, session settings, steps taken (written by `Candidate.save`)
    model/            torch: config.json, model.safetensors, surgery.json (only after surgery)
                      ONNX: model.onnx and, for large models, its external data beside it
    preprocessor/     tokenizer.json, tokenizer_config.json, special_tokens_map.json, …
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from edgecompress.errors import DataError
from edgecompress.reading import naming, open_regular, read_json, reading

if TYPE_CHECKING:
    import numpy as np

Json = dict[str, Any]
Feed: TypeAlias = "dict[str, np.ndarray[Any, Any]]"
"""One value for each input of a model, batch axis included; outputs are given in the same form."""


@dataclass(frozen=True, slots=True)
class Example:
    """One input with its answer, as a reader gives it and a task understands it.

    Attributes
    ----------
    inputs : mapping of str to object
        By the names that the task uses: ``text``, ``words``, arrays, files …
    target : object
        The right answer in the task's own form (a label, a tuple of tags, numbers); None where
        nobody has said it.
    source : str
        The data file that it came from (``hau`` for ``hau/test.txt``), so that results can be shown
        per file and so per language.
    id : str
        What the data call it, where they do.
    """

    inputs: Mapping[str, Any]
    target: Any = None
    source: str = ""
    id: str = ""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, dtype and shape of a graph's input or output; a dynamic size is a string."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


class Runner(Protocol):
    """A model that can be asked, whatever it is; `edgecompress.models.runner` opens them."""

    @property
    def specs(self) -> tuple[TensorSpec, ...]:
        """What it takes; dtypes are numpy's names, empty where the model does not say."""
        ...

    def __call__(self, feed: Mapping[str, np.ndarray[Any, Any]], /) -> Feed:
        """Run one batch: give the outputs by name. Inputs that it does not know are left out.

        Raises
        ------
        StageError
            When it cannot run on these inputs.
        """
        ...


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """How ONNX Runtime must open a model; part of the artifact, applied by agent and runtime.

    Source: `onnxruntime.SessionOptions` and the `disabled_optimizers` of `InferenceSession`.
    """

    graph_optimization_level: Literal["disable", "basic", "extended", "all"] = "all"
    disabled_optimizers: tuple[str, ...] = ()
    config_entries: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class TorchModel:
    """A PyTorch model on disk: `directory` holds config.json, model.safetensors, surgery.json."""

    directory: Path


@dataclass(frozen=True, slots=True)
class OnnxModel:
    """An ONNX model on disk, external data beside it, and the session it wants.

    Attributes
    ----------
    path : Path
        The graph; of a model of several parts the first part's.
    session : SessionSettings
    parts : tuple of (str, OnnxModel)
        The graphs that belong together, such as ``encoder`` and ``decoder``; empty for one graph.
    """

    path: Path
    session: SessionSettings = SessionSettings()
    parts: tuple[tuple[str, OnnxModel], ...] = ()

    @classmethod
    def of(cls, parts: Mapping[str, OnnxModel]) -> OnnxModel:
        """Make one model of several graphs."""
        first = next(iter(parts.values()))
        return cls(first.path, first.session, tuple(parts.items()))

    @property
    def graphs(self) -> dict[str, OnnxModel]:
        """Each graph by its name; the only one is ``model``."""
        return dict(self.parts) or {"model": self}

    @property
    def directory(self) -> Path:
        """The folder of the model's files, those of all parts."""
        return Path(os.path.commonpath([one.path.parent for one in self.graphs.values()]))


Model = TorchModel | OnnxModel


@dataclass(frozen=True, slots=True)
class Step:
    """A stage that was applied: its name, its parameters and what it decided (replayable data).

    `decisions` is JSON: heads kept, fusions kept, quantization exceptions with reasons, parity …
    `key` is the store's key of its result, empty where no store made it. `seconds` and `measured`
    (JSON: the timings by which it decided) differ from one time to the next, so that they stand in
    no bundle's core and in no key.
    """

    stage: str
    parameters: Json = field(default_factory=dict)
    decisions: Json = field(default_factory=dict)
    seconds: float = 0.0
    key: str = ""
    measured: Json = field(default_factory=dict)


CANDIDATE_BYTES = 64 * 2**20
"""Of a ``candidate.json``: what steps decided can name every layer and weight of a model."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model with all that it needs to be used, and the steps that made it.

    Attributes
    ----------
    model : TorchModel or OnnxModel
    preprocessor : Path or None
        Folder with the tokenizer's files; None where the model has none.
    task : str or None
        ``token-classification``, ``text-classification`` or None (unknown ONNX file).
    labels : tuple of str
        Class names by id.
    steps : tuple of Step
        What was done to the teacher, in order.
    ranges : mapping of str to (float, float)
        Lowest and highest input of linear layers that quantization-aware training has learned: by
        module path for a `TorchModel`, by tensor for an `OnnxModel`.
    """

    model: Model
    preprocessor: Path | None = None
    task: str | None = None
    labels: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def save(self, directory: Path) -> None:
        """Write ``candidate.json`` into `directory`, which already holds the files."""
        onnx = self.model if isinstance(self.model, OnnxModel) else None
        session = asdict(onnx.session) if onnx is not None else None
        parts = {
            name: {"file": part.path.name, "session": asdict(part.session)}
            for name, part in (onnx.parts if onnx is not None else ())
        }
        document = {
            "kind": "onnx" if isinstance(self.model, OnnxModel) else "torch",
            "file": self.model.path.name if isinstance(self.model, OnnxModel) else None,
            "preprocessor": self.preprocessor is not None,
            "task": self.task,
            "labels": list(self.labels),
            "session": session,
            **({"parts": parts} if parts else {}),
            "steps": [asdict(step) for step in self.steps],
            **({"ranges": {k: list(v) for k, v in self.ranges.items()}} if self.ranges else {}),
        }
        text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
        (directory / "candidate.json").write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, directory: Path) -> Candidate:
        """Read a candidate back from its directory.

        Raises
        ------
        DataError
            When ``candidate.json`` is missing or damaged.
        """
        file = directory / "candidate.json"
        if not file.exists():
            raise DataError("not a candidate's directory: the file is missing", file=file)
        faults = (ValueError, KeyError, TypeError, AttributeError)
        with reading(file, "damaged candidate description", faults):
            document = read_json(file, CANDIDATE_BYTES)
            model: Model
            if document["kind"] == "onnx":
                session = session_from_json(document["session"])
                model = OnnxModel(directory / "model" / Path(document["file"]).name, session)
                if document.get("parts"):
                    model = OnnxModel.of(_parts(directory / "model", document["parts"]))
            else:
                model = TorchModel(directory / "model")
            steps = tuple(Step(**step) for step in document["steps"])
            preprocessor = directory / "preprocessor" if document["preprocessor"] else None
            ranges = {
                str(name): (float(low), float(high))
                for name, (low, high) in document.get("ranges", {}).items()
            }
            labels = tuple(document["labels"])
            return cls(model, preprocessor, document["task"], labels, steps, ranges)

    def with_model(
        self,
        model: Model,
        *,
        measured: Json | None = None,
        learned_ranges: Mapping[str, tuple[float, float]] | None = None,
        **decisions: Any,
    ) -> Candidate:
        """Give the same candidate with another model; the rest goes to the step in the making.

        Learned ranges are those of one model: a stage that does not give them drops them.
        """
        made = Step(stage="", decisions=decisions, measured=measured or {})
        return replace(
            self, model=model, steps=(*self.steps, made), ranges=dict(learned_ranges or {})
        )


def _parts(folder: Path, document: Mapping[str, Any]) -> dict[str, OnnxModel]:
    """Rebuild the parts of a model; each lies in a folder of its name."""
    for name in document:
        if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            raise ValueError(f"{name!r} is no name of a part")
    return {
        name: OnnxModel(folder / name / Path(part["file"]).name, session_from_json(part["session"]))
        for name, part in document.items()
    }


def session_from_json(document: Mapping[str, Any] | None) -> SessionSettings:
    """Rebuild `SessionSettings` from JSON, where tuples have become lists."""
    if not document:
        return SessionSettings()
    return SessionSettings(
        graph_optimization_level=document["graph_optimization_level"],
        disabled_optimizers=tuple(document["disabled_optimizers"]),
        config_entries=tuple((str(k), str(v)) for k, v in document["config_entries"]),
    )


@dataclass(frozen=True, slots=True)
class Measurement:
    """One number with all that is needed to trust it, or not to.

    Attributes
    ----------
    metric : str
        ``f1``, ``accuracy``, ``size``, ``download_size``, ``latency_p50``, ``peak_memory``,
        ``speedup`` …
    value : float
        In `unit`: fractions for accuracy, ``ms`` for times, ``bytes`` for sizes, ``x`` for ratios.
    unit : str
        ``fraction``, ``ms``, ``bytes``, ``x``, ``count``, ``1/s``, ``mJ`` or ``°C``.
    target : str or None
        Where it was measured; None where the target does not matter (size).
    split : str or None
        ``validation`` or ``test`` for what depends on data.
    slice : str or None
        None for all data and the main settings, else ``label:PER``, ``threads:4``, ``batch:8`` …
    samples : int
        How many readings (inferences, examples) stand behind the value.
    interval : tuple of float or None
        95 % confidence interval, in `unit`.
    invalid : str or None
        Why the number must not be trusted and what to do; None when it is sound.
    conditions : dict
        Threads, batch size, reference of a ratio: what one must know to repeat it.
    """

    metric: str
    value: float
    unit: str
    target: str | None = None
    split: str | None = None
    slice: str | None = None
    samples: int = 1
    interval: tuple[float, float] | None = None
    invalid: str | None = None
    conditions: Json = field(default_factory=dict)


def find(
    measurements: Iterable[Measurement],
    metric: str,
    *,
    target: str | None = None,
    split: str | None = None,
    slice: str | None = None,
) -> Measurement | None:
    """Find the measurement of `metric`; a None for `target` or `split` matches any."""
    for found in measurements:
        if (
            found.metric == metric
            and found.slice == slice
            and (target is None or found.target in (None, target))
            and (split is None or found.split in (None, split))
        ):
            return found
    return None


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal; OSError where it is no regular file."""
    with open_regular(path) as stream, naming(path):
        return hashlib.file_digest(stream, "sha256").hexdigest()


def directory_digests(directory: Path) -> dict[str, str]:
    """SHA-256 of every file below `directory`, by its POSIX path relative to it, sorted."""
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): file_digest(path) for path in files}


def json_digest(document: Any) -> str:
    """SHA-256 of a JSON document in canonical form (sorted keys, no blanks)."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
