"""A file of data looked at: its format, its columns, its labels, and the splits that it lacks.

What is guessed is what the file says itself; where it leaves a choice, one sentence names the
option that makes it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from edgecompress.data import SPLITS, DataConfig, Split, data_class, data_config, data_formats
from edgecompress.data.class_folders import ClassFolders
from edgecompress.data.tabular import ColumnsData
from edgecompress.engine.found_model import FoundModel, some
from edgecompress.errors import ArgumentError, DataError
from edgecompress.reading import at_home
from edgecompress.tables import FORMATS, Table, format_of, take_columns
from edgecompress.tasks import task as find_task
from edgecompress.tasks import wanted
from edgecompress.textfiles import is_tagged
from edgecompress.texts import labels_in, tags_of
from edgecompress.validation import explain
from edgecompress.values import Example, Json
from edgecompress.yamlfile import Settings, YamlFile, apply_settings

SPLIT_FOLDERS = {
    "train": ("train",),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test",),
}
"""What folders of a data set's splits are called."""
LOOKED_AT = 1000
"""Files of a folder by whose names is said what it holds."""
COLUMNS = "--columns {}=COLUMN"
"""How the command line names the column of a role."""
FEWEST = 20
"""Examples below which three splits say nothing."""
FEW = 500
"""Examples below which validation and test get a larger share."""


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
    left : str
        What is missing where nobody says the right answers, and which columns may hold it.
    """

    place: Path
    document: Json = field(default_factory=dict)
    examples: tuple[Example, ...] = field(repr=False, default=())
    labelled: bool = True
    taken: str = ""
    left: str = ""

    @property
    def words(self) -> str:
        """Say it in a line."""
        if not self.document:
            return f"{self.place.name}, on which forms are calibrated and compared"
        known = Counter(label for one in self.examples for label in _labels(one))
        shown = [f"{label} ({count:,})" for label, count in known.most_common()]
        labels = f"{len(known)} labels: {some(shown)}" if known else ""
        said = (f"{len(self.examples):,} examples", self.taken, labels, self.left)
        return f"{self.document['format']}, {'; '.join(filter(None, said))}"


def look_at_data(
    place: Path,
    model: FoundModel,
    *,
    form: str | None = None,
    columns: Mapping[str, str] | None = None,
    splits: Mapping[str, Sequence[Path]] | None = None,
    settings: Settings = (),
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
    settings : mapping of str to object, or sequence of str
        Of the recipe; those of its ``data.``, such as an encoding, hold already here.

    Raises
    ------
    DataError
        When the file is at fault, or leaves a choice; the text names the option.
    """
    place = at_home(place).absolute()
    if not place.exists():
        raise DataError("there is no such file (--data)", file=place)
    if model.task is None:
        texts = place.suffix.lower() in (".txt", ".conll") or format_of(place) is not None
        if texts and model.tokenizer is None:
            what = "texts, and no tokenizer lies beside the graph"
            which = "name a folder in which config.json and tokenizer.json lie beside it"
            raise DataError(f"{what}; {which}, or give the graph's own inputs (.npz)", file=place)
        return FoundData(place)
    form = form or _format_of(place, model.task)
    document: Json = {"format": form}
    if issubclass(data_class(form), ClassFolders) and place.is_dir():
        document |= _splits_of_folder(place)
    else:
        document["root" if form == "datasets" else "train"] = str(place)
    for split, files in (splits or {}).items():
        if files:
            document[split] = [str(at_home(file).absolute()) for file in files]
    if columns:
        document["columns"] = dict(columns)
    document = apply_settings({"data": document}, _of_data(settings))["data"]
    kind, labelled, taken, where = find_task(model.task), form != "text", "", ""
    try:
        described = data_config(document)
    except ValidationError as error:
        source = YamlFile({"data": document}, None, {})
        raise explain(error, ("data",), source, type_of=data_class(document["format"])) from None
    if isinstance(described, ColumnsData):
        table = next(iter(described.tables("train")))
        found = take_columns(table, columns or {}, wanted(kind, answers="welcome"), COLUMNS)
        labelled = found.target is not None
        taken = ", ".join(f"{role} from {name!r}" for role, name in found.by_role.items())
        others = [name for name in table.columns if name not in found.by_role.values()]
        if others and not labelled:
            where = f" (if they are in {some(others)}: --columns {kind.target}=COLUMN)"
        if labelled and model.labels and _numbered(table, str(found.target)):
            document["classes"] = list(model.labels)
            taken += "; numbers of classes are those of the model's"
    if not kind.labelled and kind.answers is None:
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
    missing = [split for split in SPLITS[1:] if not labelled or not _has(config, split)]
    if missing:
        if len(examples) < FEWEST:
            raise DataError(
                f"{len(examples)} examples are too few to learn from, choose by and test on; "
                f"give {FEWEST} or more",
                file=place,
            )
        share = 0.2 if len(examples) < FEW else 0.1
        document["split"] = dict.fromkeys(missing, share)
    if labelled and kind.labelled:
        said = {label for one in examples for label in _tags(one)}
        check_differ(said, f"all {len(examples):,} examples have the label", place)
    left = "" if labelled else f"no {kind.target.removesuffix('s')}s{where}"
    return FoundData(place, document, examples, labelled, taken, left)


def _format_of(place: Path, task: str) -> str:
    if place.is_dir():
        return _format_of_folder(place, task)
    suffix = place.suffix.lower()
    if suffix == ".txt":
        return "conll" if task == "token-classification" and is_tagged(place) else "text"
    if suffix == ".conll":
        return "conll"
    found = format_of(place)
    if found is None:
        known = ", ".join((*FORMATS, "conll", "text"))
        raise DataError(f"its name does not say what it is; say it with --format ({known})",
                        file=place)  # fmt: skip
    return found


def _format_of_folder(place: Path, task: str) -> str:
    """Find whose files lie in a folder: of a reader of folders for each class, or of a data set."""
    if find_task(task).target != "label":
        return "datasets"
    inside = [file.suffix.lower() for file in islice(place.rglob("*"), LOOKED_AT)]
    for name in data_formats():
        kind = data_class(name)
        if issubclass(kind, ClassFolders) and set(inside) & set(kind.suffixes):
            return name
    return "datasets"


def _splits_of_folder(place: Path) -> dict[str, str]:
    """Give the folders of the splits, where they lie apart; else the folder is train's."""
    found = {
        split: next((str(place / one) for one in names if (place / one).is_dir()), "")
        for split, names in SPLIT_FOLDERS.items()
    }
    found = {split: folder for split, folder in found.items() if folder}
    return found if "train" in found else {"train": str(place)}


def _of_data(settings: Settings) -> Settings:
    if isinstance(settings, Mapping):
        return {key: value for key, value in settings.items() if key.startswith("data.")}
    return [one for one in settings if one.strip().startswith("data.")]


def _has(config: DataConfig, split: Split) -> bool:
    """Say whether data names a split of its own."""
    if config.format == "datasets":
        try:
            return bool(config.read(split))
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
    if not others:
        return
    both = f"the model's classes are {some(model.labels)}, and the data's labels {some(seen)}"
    left = [name for name in model.labels if name not in seen]
    if len(others) > len(left):
        raise DataError(
            f"{both}: too many for the model; leave the examples of {some(others)} out, or name a "
            "model that knows them",
            file=place,
        )
    raise DataError(
        f"{both}; say what each class is called there, such as --labels {left[0]}={others[0]}",
        file=place,
    )


def check_differ(labels: Set[str], said: str, place: Path) -> None:
    """Refuse answers that are all the same, by which nothing can be judged.

    Raises
    ------
    DataError
        Which begins with `said`.
    """
    if len(labels) < 2:
        what = f"{said} {', '.join(labels) or 'O'}, so that no form can be told from a worse one"
        raise DataError(f"{what}; give examples of two labels or more", file=place)


def _labels(example: Example) -> set[str]:
    """Give the labels of an example: of tags the kinds of entities."""
    kinds = {tag.partition("-")[2] or tag for tag in tags_of(example)} - {"O"}
    return kinds or labels_in(example) - {"O"}


def _tags(example: Example) -> set[str]:
    return labels_in(example)
