"""The examples of a recipe, read and checked before anything is made of them."""

from __future__ import annotations

from dataclasses import dataclass

from edgecompress.data import Split
from edgecompress.data.overlap import Overlap
from edgecompress.engine.recipe import Recipe
from edgecompress.errors import DataError
from edgecompress.tasks import task as find_task
from edgecompress.values import Example


@dataclass(frozen=True, slots=True)
class Splits:
    """The examples that stages may see, with a digest of each split.

    `overlaps` says which texts stand in two splits, test among them.
    """

    train: tuple[Example, ...] = ()
    validation: tuple[Example, ...] = ()
    digests: tuple[tuple[str, str], ...] = ()
    overlaps: tuple[Overlap, ...] = ()


def read_splits(recipe: Recipe) -> tuple[Splits, tuple[Example, ...]]:
    """Read and check all three splits; give train and validation, and test apart.

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
    from edgecompress.data.overlap import check_overlaps, overlaps

    train, validation, test = (
        recipe.data.read("train"),
        recipe.data.read("validation"),
        recipe.data.read("test"),
    )
    splits: dict[Split, tuple[Example, ...]]
    splits = {"train": train, "validation": validation, "test": test}
    check_labels(recipe.data, splits)
    for split in ("validation", "test") if recipe.fields.task else ():
        try:
            find_task(str(recipe.fields.task)).check_judged(splits[split])
        except DataError as error:
            raise DataError(f"{split}: {error}") from None
    shared = overlaps(splits)
    if recipe.data.seen_test == "refuse":
        try:
            check_overlaps(shared)
        except DataError as error:
            raise recipe.source.error(str(error), ("data", "test")) from None
    digests = tuple((split, recipe.data.digest(split)) for split in ("train", "validation"))
    return Splits(train, validation, digests, shared), test
