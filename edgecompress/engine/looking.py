"""A model and a file of data looked at, for a person who has named nothing else.

What is guessed is what config.json and the file say themselves; where they leave a choice, one
sentence names the option that makes it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from edgecompress.checkpoint import check_folder, find_weights, read_object
from edgecompress.data import DataConfig, data_config
from edgecompress.data.tabular import ColumnsData
from edgecompress.engine.single import guess_task
from edgecompress.errors import ArgumentError, DataError
from edgecompress.hub import model_folder
from edgecompress.onnx_folders import onnx_model_at
from edgecompress.reading import at_home
from edgecompress.tables import Table, take_columns
from edgecompress.tasks import task as find_task
from edgecompress.tasks import task_names, wanted
from edgecompress.texts import label_of, tags_of
from edgecompress.training.heads import class_names, renamed, untrained
from edgecompress.values import Candidate, Example, Json, OnnxModel

FORMAT_OF = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".conll": "conll",
    ".conllu": "conll",
}
COLUMNS = "--columns {}=COLUMN"
"""How the command line names the column of a role."""
FEWEST = 20
"""Examples below which three splits say nothing."""
FEW = 500
"""Examples below which validation and test get a larger share."""


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
    """

    named: str
    onnx: bool
    task: str | None
    labels: tuple[str, ...] = ()
    config: Json = field(repr=False, default_factory=dict)
    fresh: str = ""
    tokenizer: str | None = None

    @property
    def words(self) -> str:
        """Say it in a line."""
        family = str(self.config.get("model_type") or "")
        form = "ONNX" if self.onnx else "PyTorch"
        classes = f", {len(self.labels)} classes: {_some(self.labels)}" if self.labels else ""
        new = "; its head is new and is fine-tuned first" if self.fresh else ""
        answers = self.task or "no task that is known, so that nothing is scored"
        return f"{' '.join(filter(None, (family, form)))}, {answers}{classes}{new}"


@dataclass(frozen=True, slots=True)
class FoundData:
    """What a file of data is.

    Attributes
    ----------
    place : Path
    document : dict
        The `data` of a recipe; empty for a graph without a task, which is run on it as it is.
    examples : tuple of Example
        Of the file itself, before splits are drawn.
    labelled : bool
        Whether the file says the right answers, or the task needs none.
    taken : str
        Which columns are read.
    """

    place: Path
    document: Json = field(default_factory=dict)
    examples: tuple[Example, ...] = field(repr=False, default=())
    labelled: bool = True
    taken: str = ""

    @property
    def words(self) -> str:
        """Say it in a line."""
        if not self.document:
            return f"{self.place.name}, on which forms are calibrated and compared"
        known = Counter(label for one in self.examples for label in _labels(one))
        shown = [f"{label} ({count:,})" for label, count in known.most_common()]
        labels = f"{len(known)} labels: {_some(shown)}" if known else ""
        unlabelled = "" if self.labelled else "no labels"
        said = (f"{len(self.examples):,} examples", self.taken, labels, unlabelled)
        return f"{self.document['format']}, {'; '.join(filter(None, said))}"


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
    folder = place if place.exists() else model_folder(model)
    named = str(place.absolute()) if place.exists() else model
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
        return FoundModel(named, onnx, known, renamed(found.labels, labels or None))
    if (folder / "manifest.json").is_file():
        what = "a bundle is compressed already; name the model that it was made of"
        raise DataError(what, file=folder)
    onnx = onnx_model_at(folder) is not None
    config = read_object(folder / "config.json") if onnx else check_folder(folder)
    shapes = None if onnx else find_weights(folder).shapes
    fresh = untrained(config, known, shapes) or ""
    if onnx and fresh:
        raise DataError(f"{fresh}, and an ONNX graph cannot be trained", file=folder)
    names = renamed(class_names(config), labels or None) if kind.labelled and not fresh else ()
    return FoundModel(named, onnx, known, names, config, fresh)


def look_at_data(
    place: Path,
    model: FoundModel,
    *,
    form: str | None = None,
    columns: Mapping[str, str] | None = None,
    splits: Mapping[str, Sequence[Path]] | None = None,
) -> FoundData:
    """Find out what a file of data is, and what of it the task of `model` reads.

    Parameters
    ----------
    place : Path
        A file, or the folder of a data set.
    model : FoundModel
    form : str, optional
        Its format, where a person says it.
    columns : mapping of str to str, optional
        Columns by the task's names.
    splits : mapping of str to sequence of Path, optional
        Files of validation and test, where they are apart.

    Raises
    ------
    DataError
        When the file is at fault, or leaves a choice; the text names the option.
    """
    place = at_home(place).absolute()
    if not place.exists():
        raise DataError("there is no such file (--data)", file=place)
    if model.task is None:
        return FoundData(place)
    form = form or _format_of(place, model.task)
    document: Json = {"format": form}
    document["root" if form == "datasets" else "train"] = str(place)
    for split, files in (splits or {}).items():
        if files:
            document[split] = [str(at_home(file).absolute()) for file in files]
    if columns:
        document["columns"] = dict(columns)
    kind, labelled, taken = find_task(model.task), form != "text", ""
    described = data_config(document)
    if isinstance(described, ColumnsData):
        table = next(iter(described.tables("train")))
        found = take_columns(table, columns or {}, wanted(kind, answers="welcome"), COLUMNS)
        labelled = found.target is not None
        taken = ", ".join(f"{role} from {name!r}" for role, name in found.by_role.items())
        if labelled and model.labels and _numbered(table, str(found.target)):
            document["classes"] = list(model.labels)
            taken += "; numbers of classes are those of the model's"
    if not kind.labelled:
        labelled = True
    if not labelled and model.fresh:
        raise DataError(
            f"{model.fresh}, and these examples have no labels to train one; give labelled ones",
            file=place,
        )
    if not labelled and any((splits or {}).values()):
        raise ArgumentError(
            "of examples without labels the splits are drawn; leave --validation and --test out"
        )
    asked: Literal["needed", "ignored"] = "needed" if labelled else "ignored"
    config = data_config(document).for_task(wanted(kind, answers=asked))
    examples = config.read("train")
    _check_labels(model, examples, place)
    missing = [split for split in ("validation", "test") if not _has(config, split)]
    if missing:
        if len(examples) < FEWEST:
            raise DataError(
                f"{len(examples)} examples are too few to learn from, choose by and test on; "
                f"give {FEWEST} or more",
                file=place,
            )
        share = 0.2 if len(examples) < FEW else 0.1
        document["split"] = dict.fromkeys(missing, share)
    return FoundData(place, document, examples, labelled, taken)


def _format_of(place: Path, task: str) -> str:
    if place.is_dir():
        return "datasets"
    suffix = place.suffix.lower()
    if suffix == ".txt":
        return "conll" if task == "token-classification" else "text"
    found = FORMAT_OF.get(suffix)
    if found is None:
        known = ", ".join(dict.fromkeys(FORMAT_OF.values()))
        raise DataError(f"its name does not say what it is; say it with --format ({known})",
                        file=place)  # fmt: skip
    return found


def _has(config: DataConfig, split: str) -> bool:
    """Say whether data names a split of its own."""
    if config.format == "datasets":
        try:
            return bool(config.read(split))  # type: ignore[arg-type]
        except DataError:
            return False
    return bool(getattr(config, split))


def _numbered(table: Table, column: str) -> bool:
    """Whether a column holds numbers of classes, which count from 0, and their names are not known.

    Of numbers without a 0 nobody knows where they begin: ratings from 1 to 5 are such.
    """
    if table.classes.get(column):
        return False
    seen: set[str] = set()
    for _, values in table.read((column,)):
        value: Any = values.get(column)
        each = value if isinstance(value, list | tuple) else [value]
        seen |= {str(one).strip() for one in each if one is not None}
        if any(not one.isdecimal() for one in seen):
            return False
    return "0" in seen


def _check_labels(model: FoundModel, examples: Sequence[Example], place: Path) -> None:
    """Refuse labels that the model's head does not have."""
    if not model.labels:
        return
    seen = sorted({label for one in examples for label in _tags(one)})
    others = [label for label in seen if label not in model.labels]
    if others:
        left = next((name for name in model.labels if name not in seen), model.labels[0])
        raise DataError(
            f"the model's classes are {_some(model.labels)}, and the data's labels {_some(seen)}; "
            f"say what each class is called there, such as --labels {left}={others[0]}",
            file=place,
        )


def _labels(example: Example) -> set[str]:
    """Give the labels of an example: of tags the kinds of entities."""
    kinds = {tag.partition("-")[2] or tag for tag in tags_of(example)} - {"O"}
    return kinds | ({label_of(example)} - {""})


def _tags(example: Example) -> set[str]:
    return {*tags_of(example), label_of(example)} - {""}


def _listed(folder: Path) -> Sequence[Any]:
    if not (folder / "config.json").is_file():
        return ()
    named = read_object(folder / "config.json").get("architectures")
    return named if isinstance(named, list) else ()


def _some(names: Sequence[str], most: int = 10) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
