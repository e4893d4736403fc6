"""The examples of a recipe, read and checked before anything is made of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from edgecompress.checkpoint import read_object
from edgecompress.data import SPLITS, Split
from edgecompress.data.overlap import Overlap, Quoted
from edgecompress.engine.chains import StageUse
from edgecompress.engine.recipe import Recipe, starts_as_onnx
from edgecompress.errors import DataError
from edgecompress.reading import at_home
from edgecompress.tasks import task as find_task
from edgecompress.training.heads import untrained
from edgecompress.values import Candidate, Example, Json


@dataclass(frozen=True, slots=True)
class Splits:
    """The examples that stages may see, with a digest of each split.

    `overlaps` says which texts stand in two splits, test among them, and `quoted` how many texts
    of validation and test share words with the texts without labels that stages read.
    """

    train: tuple[Example, ...] = ()
    validation: tuple[Example, ...] = ()
    digests: tuple[tuple[str, str], ...] = ()
    overlaps: tuple[Overlap, ...] = ()
    quoted: tuple[Quoted, ...] = ()


def read_splits(
    recipe: Recipe, needed: Collection[Split] = SPLITS
) -> tuple[Splits, tuple[Example, ...]]:
    """Read and check the splits; give train and validation, and test apart.

    Parameters
    ----------
    recipe : Recipe
    needed : collection of str
        Splits that must be there; of the others those are read that there are.

    Raises
    ------
    DataError
        When a file is missing or malformed, or a label is in no training example.
    RecipeError
        When the test mostly stands in another split and the recipe does not insist.
    """
    if recipe.data is None:
        return Splits(), ()
    from edgecompress.data import check_labels
    from edgecompress.data.overlap import check_overlaps, overlaps, quoted

    data = recipe.data
    there = [split for split in SPLITS if split in needed or data.offers(split)]
    splits: dict[Split, tuple[Example, ...]]
    splits = {split: data.read(split) if split in there else () for split in SPLITS}
    if "train" in there:
        check_labels(data, splits, _trained(recipe))
    for split in ("validation", "test") if recipe.fields.task else ():
        try:
            if split in there:
                find_task(str(recipe.fields.task)).check_judged(splits[split])
        except DataError as error:
            raise DataError(f"{split}: {error}") from None
    for use in _uses(recipe) if splits["train"] else ():
        try:
            use.stage.check_examples(splits["train"])
        except DataError as error:
            raise recipe.source.error(str(error), use.path) from None
    if "validation" in there and not any(one.source for one in splits["validation"]):
        for limit in recipe.budget:
            if limit.each == "file":
                what = "the validation data does not say which file an example is of"
                raise recipe.source.error(what, ("budget", limit.name))
    shared = overlaps(splits)
    if recipe.data.seen_test == "refuse":
        try:
            check_overlaps(shared)
        except DataError as error:
            raise recipe.source.error(str(error), ("data", "test")) from None
    digests = tuple((one, data.digest(one)) for one in there if one != "test")
    told = quoted(splits, _corpora(recipe))
    return Splits(splits["train"], splits["validation"], digests, shared, told), splits["test"]


def _corpora(recipe: Recipe) -> Iterator[Example]:
    """Give the texts of every corpus that stages read, each file's once."""
    from edgecompress.data.corpus import corpus_files, read_corpus

    known: set[object] = set()
    for use in _uses(recipe):
        files = tuple(file for file in corpus_files(use.stage) if file not in known)
        known.update(files)
        try:
            yield from read_corpus(files, ())
        except DataError as error:
            raise recipe.source.error(str(error), use.path) from None


def _uses(recipe: Recipe) -> Iterator[StageUse]:
    if recipe.teacher_finetune is not None:
        yield recipe.teacher_finetune
    for chain in recipe.chains:
        yield from chain


def _trained(recipe: Recipe) -> tuple[str, ...]:
    """Give the classes that the model to start from has learned already."""
    model, given = recipe.fields.model, recipe.fields.labels
    if model is None:
        return ()
    place, onnx = at_home(model), starts_as_onnx(model)
    if onnx and isinstance(given, tuple):
        return given
    if onnx and (place / "candidate.json").is_file():
        return Candidate.load(place).labels
    file = (place if place.is_dir() else place.parent) / "config.json"
    described = read_object(file) if file.is_file() else {}
    if not onnx and not _answers(described, recipe):
        return ()
    if isinstance(given, tuple):
        return given
    listed = described.get("id2label")
    names = tuple(map(str, listed.values())) if isinstance(listed, dict) else ()
    return tuple(given.get(name, name) if isinstance(given, dict) else name for name in names)


def _answers(described: Json, recipe: Recipe) -> bool:
    """Whether a checkpoint of transformers has a head for the recipe's task that it keeps."""
    task = recipe.fields.task
    return task is not None and recipe.fields.labels != "new" and not untrained(described, task)
