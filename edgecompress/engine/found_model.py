"""A model looked at, for a person who has named nothing else.

What is guessed is what its files say themselves; what they do not say is asked for by the name of
an option.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgecompress.checkpoint import check_folder, find_weights, has_tokenizer, read_object
from edgecompress.engine.single import guess_task
from edgecompress.errors import DataError
from edgecompress.hub import model_folder
from edgecompress.onnx_folders import onnx_model_at
from edgecompress.processors import TextProcessor, processor_class
from edgecompress.reading import at_home
from edgecompress.surgery.families import family_names
from edgecompress.tasks import task as find_task
from edgecompress.tasks import task_names
from edgecompress.training.heads import class_names, renamed, untrained
from edgecompress.values import Candidate, Json, OnnxModel


@dataclass(frozen=True, slots=True)
class FoundModel:
    """What a model is, as far as its files say.

    Attributes
    ----------
    named : str
        As a recipe names it: an absolute path, or a hub id.
    onnx : bool
        Whether only ONNX schemes can be tried.
    task : str or None
        None of a graph of which nobody knows what it answers.
    labels : tuple of str
        Its classes; empty for a task without.
    config : dict
        Its config.json; empty where it has none.
    fresh : str
        Why its head is to be trained first; empty where it is trained.
    tokenizer : str or None
        Folder with the tokenizer of a graph without a task.
    fetched : str
        What of it came from the hub; empty for a folder of this machine.
    """

    named: str
    onnx: bool
    task: str | None
    labels: tuple[str, ...] = ()
    config: Json = field(repr=False, default_factory=dict)
    fresh: str = ""
    tokenizer: str | None = None
    fetched: str = ""

    @property
    def cuttable(self) -> bool:
        """Whether its parts are known, so that smaller shapes can be made of it."""
        return not self.onnx and self.config.get("model_type") in family_names()

    @property
    def reads_text(self) -> bool:
        """Whether it is asked in texts, as far as is known."""
        if self.task is None:
            return True
        return issubclass(processor_class(find_task(self.task).processor), TextProcessor)

    @property
    def words(self) -> str:
        """Say it in a line."""
        family = str(self.config.get("model_type") or "")
        form = "ONNX" if self.onnx else "PyTorch"
        classes = f", {len(self.labels)} classes: {some(self.labels)}" if self.labels else ""
        new = "; its head is new and is fine-tuned first" if self.fresh else ""
        answers = self.task or "no task that is known, so that nothing is scored"
        whole = not (self.onnx or self.cuttable)
        kept = "; nobody describes its parts, so that only its numbers get smaller" if whole else ""
        which = ", ".join(filter(None, (f"{family} {form}".strip(), self.fetched)))
        return f"{which}, {answers}{classes}{new}{kept}"


def look_at_model(model: str, task: str | None, labels: Mapping[str, str]) -> FoundModel:
    """Find out what a model answers.

    Parameters
    ----------
    model : str
        A Hugging Face, Optimum, candidate's or bundle's directory, or a hub id.
    task : str or None
        Where a person says it.
    labels : mapping of str to str
        Names for its classes.

    Raises
    ------
    DataError
        When there is no such model, or its files do not say what it answers.
    """
    place = at_home(model)
    if place.exists():
        return _look(place, str(place.absolute()), task, labels)
    folder = model_folder(model)
    return replace(_look(folder, model, task, labels), fetched=_of_the_hub(folder))


def _look(folder: Path, named: str, task: str | None, labels: Mapping[str, str]) -> FoundModel:
    if folder.is_file():
        if task is not None or labels:
            what = "name the folder in which config.json and the tokenizer lie beside the graph"
            raise DataError(f"a graph alone has no task; {what}", file=folder)
        return FoundModel(named, True, None)
    known = task or guess_task(folder)
    if known is None and onnx_model_at(folder) is not None:
        config = read_object(folder / "config.json")
        tokenizer = str(folder.absolute()) if (folder / "tokenizer.json").is_file() else None
        return FoundModel(named, True, None, config=config, tokenizer=tokenizer)
    if known is None and not (folder / "config.json").is_file():
        raise DataError(_no_model(folder), file=folder)
    if known is None:
        said = ", ".join(map(str, _listed(folder))) or "nothing of a head"
        raise DataError(
            f"its files say {said}, and not what it answers; say it with --task "
            f"({', '.join(task_names())})",
            file=folder,
        )
    kind = find_task(known)
    if (folder / "candidate.json").is_file():
        found = Candidate.load(folder)
        onnx = isinstance(found.model, OnnxModel)
        config = {} if onnx else read_object(found.model.directory / "config.json")
        return FoundModel(named, onnx, known, renamed(found.labels, labels or None), config)
    if (folder / "manifest.json").is_file():
        what = "a bundle is compressed already; name the model that it was made of"
        raise DataError(what, file=folder)
    onnx = onnx_model_at(folder) is not None
    config = read_object(folder / "config.json") if onnx else check_folder(folder)
    shapes = None if onnx else find_weights(folder).shapes
    texts = issubclass(processor_class(kind.processor), TextProcessor)
    # Of a foreign graph its own program knows the head; a person says what it answers.
    described = onnx and not texts and not config.get("architectures")
    fresh = "" if described else untrained(config, known, shapes, folder) or ""
    if onnx and fresh:
        raise DataError(f"{fresh}, and an ONNX graph cannot be trained", file=folder)
    if onnx and texts and not has_tokenizer(folder):
        what = "no tokenizer lies beside the graph, without which it takes no text"
        raise DataError(f"{what}; copy tokenizer.json there", file=folder)
    names = renamed(class_names(config), labels or None) if kind.labelled and not fresh else ()
    return FoundModel(named, onnx, known, names, config, fresh)


def some(names: Sequence[str], most: int = 10) -> str:
    """List names for a sentence; of many the first."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _no_model(folder: Path) -> str:
    """Say that a folder is no model's, and what in it may be meant."""
    inside = (*folder.glob("*/config.json"), *folder.glob("*/candidate.json"))
    meant = [*sorted(path.parent for path in inside), *sorted(folder.glob("*.onnx"))]
    advice = f"; did you mean {meant[0]}?" if meant else ""
    return f"no model's folder, as no config.json lies in it{advice}"


def _of_the_hub(folder: Path) -> str:
    """Say what was fetched of a model of the hub."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return f"of the hub, {len(sizes)} files of {sum(sizes) / 1e6:.1f} MB in its cache"


def _listed(folder: Path) -> Sequence[Any]:
    if not (folder / "config.json").is_file():
        return ()
    named = read_object(folder / "config.json").get("architectures")
    return named if isinstance(named, list) else ()
