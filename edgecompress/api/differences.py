"""What differs between two bundles, and between their answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgecompress.api.arguments import StrPath, StrPaths, reporting, several
from edgecompress.api.difference_sections import answer_sections, sections
from edgecompress.api.shown import Section, Shown
from edgecompress.bundle.packing import opened
from edgecompress.comparison.differences import Differences, compare
from edgecompress.comparison.flips import AnswerChanges, ask, compare_answers, read_examples
from edgecompress.comparison.side import read_side
from edgecompress.errors import DataError, MissingExtraError
from edgecompress.progress import Reporter
from edgecompress.runtime import load
from edgecompress.values import Example, Json

if TYPE_CHECKING:
    from edgecompress.yamlfile import Settings


@dataclass(frozen=True, slots=True, repr=False)
class BundleDifferences(Shown):
    """What differs between two bundles and, where they were asked, between their answers.

    `shown` is how many flipped answers are listed when it is printed.
    """

    differences: Differences
    flips: AnswerChanges | None = None
    shown: int = 20

    @property
    def same_core(self) -> bool:
        """Whether all that deploys is the same, to the byte."""
        return self.differences.same_core

    def to_json(self) -> Json:
        """Give all of it as JSON."""
        answers = self.flips.to_json() if self.flips else None
        return {**self.differences.to_json(), "answers": answers}

    def sections(self) -> Iterator[Section]:
        """Lay out what differs."""
        yield from sections(self.differences)
        if self.flips:
            yield from answer_sections(self.flips, max(0, self.shown))


def diff_bundles(
    old: StrPath,
    new: StrPath,
    *,
    data: StrPaths = (),
    format: str | None = None,
    columns: Mapping[str, str] | None = None,
    recipe: StrPath | None = None,
    settings: Settings = (),
    split: str = "validation",
    show: int = 20,
    threads: int | None = None,
    verify: bool = True,
    progress: bool | Reporter = True,
) -> BundleDifferences:
    """Say what differs between two bundles, `old` and `new`, directories or archives.

    Compared are model and labels, recipe, code and libraries, data, stages with what they decided,
    files, and the numbers beside the bundles with their intervals. With `data` or `recipe` both
    answer the same texts, one at a time on this machine, and every answer that flips is counted;
    where the data has labels, also whether it got better or worse.

    Parameters
    ----------
    old, new : path
        A bundle's directory, or its .tar.zst.
    data : path or sequence of paths
        Ask both bundles the texts of this file: CoNLL, one text a line, or columns (.csv, .tsv,
        .jsonl, .parquet).
    format : {"conll", "text", "csv", "tsv", "jsonl", "parquet"}, optional
        What the files of `data` are. Left out, each file tells it.
    columns : mapping of str to str, optional
        What a file of `data` calls its text, words, label or tags. Left out, common names are
        looked for.
    recipe : path, optional
        Ask both bundles the examples of this recipe's data.
    settings : mapping of str to object
        Set a field of `recipe`, such as data.root=DIR.
    split : {"train", "validation", "test"}
        Which split of `recipe`. Do not choose between bundles by test: it would be none any more.
    show : int
        How many flipped answers to list.
    threads : int, optional
        Threads to answer with.
    verify : bool
        Compare both bundles with their digests first.
    progress : bool or Reporter
        Whether to show how far the work is; a `Reporter` is told.

    Raises
    ------
    EdgeCompressError
        When a bundle is damaged, the bundles do different tasks, or the data are at fault.
    """
    with opened(Path(old)) as before, opened(Path(new)) as after:
        places = ((before, Path(old)), (after, Path(new)))
        found = compare(*(read_side(at, verify=verify, place=name) for at, name in places))
        flips = None
        files = [Path(one) for one in several(data)]
        if files or recipe:
            task = _task(found)
            examples = tuple(read_examples(files, task, format, columns))
            examples += _of_recipe(Path(recipe), settings, split) if recipe else ()
            with reporting(progress) as reporter:
                flips = _ask(task, places, examples, threads, reporter)
    return BundleDifferences(found, flips, show)


def _task(found: Differences) -> str:
    tasks = {found.old.manifest.task, found.new.manifest.task}
    if len(tasks) > 1:
        names = " and ".join(sorted(str(one) for one in tasks))
        raise DataError(f"the bundles do different tasks ({names}); leave out --data")
    return str(next(iter(tasks)))


def _of_recipe(recipe: Path, settings: Settings, split: str) -> tuple[Example, ...]:
    try:
        from edgecompress.engine.recipe import load_recipe
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "pydantic") from None
    loaded = load_recipe(recipe, settings)
    if loaded.data is None:
        raise DataError("the recipe names no data; give --data FILE", file=recipe)
    return tuple(loaded.data.read(split))  # type: ignore[arg-type]  # it says what there is


def _ask(
    task: str,
    bundles: Sequence[tuple[Path, Path]],
    examples: Sequence[Example],
    threads: int | None,
    reporter: Reporter,
) -> AnswerChanges:
    """Ask one bundle after the other, so that only one model is in memory."""
    answers = []
    for folder, name in bundles:
        reporter.begin(f"asking {name}")
        predictor = load(folder, threads=threads, verify=False)  # verified when it was read
        mine = []
        for answer in ask(predictor, examples):
            mine.append(answer)
            reporter.advance(len(mine), len(examples), "")
        answers.append(mine)
        reporter.end(f"{len(examples)} examples")
        del predictor
    return compare_answers(task, examples, *answers)
