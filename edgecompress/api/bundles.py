"""Looking after bundles: verify, show, pack, unpack and compare them, on the base install."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgecompress.api.arguments import Place, Places, reporting, several
from edgecompress.api.bundled import (
    BundleDifferences,
    BundleSummary,
    PackedBundle,
    UnpackedBundle,
    VerifiedBundle,
)
from edgecompress.api.signing import verify_with_key
from edgecompress.bundle.directory import load_manifest
from edgecompress.bundle.packing import is_core, opened
from edgecompress.bundle.packing import pack_bundle as pack_directory
from edgecompress.bundle.packing import unpack_bundle as unpack_archive
from edgecompress.comparison.differences import Differences, compare
from edgecompress.comparison.flips import Flips, ask, compare_answers, read_examples
from edgecompress.comparison.side import read_side
from edgecompress.errors import DataError, MissingExtraError
from edgecompress.progress import Reporter
from edgecompress.runtime import load
from edgecompress.values import Example

if TYPE_CHECKING:
    from edgecompress.yamlfile import Settings


def verify_bundle(
    bundle: Place, *, core_only: bool = False, key: Place | None = None
) -> VerifiedBundle:
    """Compare every byte of a bundle, a directory or a .tar.zst, with its digests.

    Parameters
    ----------
    bundle : path
    core_only : bool
        Leave the evidence out; it may be missing.
    key : path, optional
        Public key: check the signatures as well.

    Raises
    ------
    BundleError
        Naming the file that was changed, added or lost.
    """
    with opened(Path(bundle)) as directory:
        # An archive of the core alone is whole; in a directory the evidence may have been lost.
        core_only = core_only or (directory != Path(bundle) and is_core(directory))
        manifest = verify_with_key(directory, key, evidence=not core_only)
    signed = key is not None
    return VerifiedBundle(str(bundle), manifest, bool(manifest.evidence) and not core_only, signed)


def show_bundle(bundle: Place) -> BundleSummary:
    """Say what a bundle, a directory or a .tar.zst, holds: task, labels, size, steps, versions.

    The digests of a directory are not checked.

    Raises
    ------
    BundleError
        When it is no bundle.
    """
    with opened(Path(bundle)) as directory:
        return BundleSummary.of(directory, load_manifest(directory))


def pack_bundle(bundle: Place, output: Place | None = None, *, core: bool = False) -> PackedBundle:
    """Verify the directory of a bundle and write it as one file, NAME.tar.zst.

    Equal bundles give equal files. `tar --zstd -xf` reads them, too.

    Parameters
    ----------
    bundle : path
    output : path, optional
        File to write.
    core : bool
        Leave the evidence out: what a device needs.

    Raises
    ------
    BundleError
        When the bundle is damaged.
    """
    written = pack_directory(Path(bundle), Path(output) if output else None, core=core)
    return PackedBundle(written, written.stat().st_size, core)


def unpack_bundle(
    file: Place, output: Place | None = None, *, max_size: float = 4.0, key: Place | None = None
) -> UnpackedBundle:
    """Unpack an archive, verify it and put it into place, whole or not at all.

    Parameters
    ----------
    file : path
    output : path, optional
        Directory to make.
    max_size : float
        Gigabytes; an archive that holds more is refused.
    key : path, optional
        Public key: refuse a bundle that was not signed with it.

    Raises
    ------
    BundleError
        When the archive is damaged, too large or not signed.
    """
    check = None if key is None else functools.partial(verify_with_key, key=key)
    place = Path(output) if output else None
    made = unpack_archive(Path(file), place, most_bytes=int(max_size * 1e9), check=check)
    return UnpackedBundle(made, is_core(made), key is not None)


def diff_bundles(
    old: Place,
    new: Place,
    *,
    data: Places = (),
    format: str | None = None,
    text_column: str = "text",
    label_column: str = "label",
    recipe: Place | None = None,
    settings: Settings = (),
    split: str = "validation",
    show: int = 20,
    threads: int | None = None,
    verify: bool = True,
    progress: bool | Reporter = True,
) -> BundleDifferences:
    """Say what differs between two bundles, directories or archives, and in their answers.

    Parameters
    ----------
    old, new : path
    data : path or sequence of paths
        Ask both bundles the texts of these files: CoNLL, TSV, or one text a line.
    format : {"conll", "tsv", "text"}, optional
        What the files of `data` are; else told from each file.
    text_column, label_column : str
        Of a TSV file.
    recipe : path, optional
        Ask both bundles the examples of this recipe's data.
    settings : mapping of str to object
        Laid over the recipe.
    split : {"train", "validation", "test"}
        Which split of the recipe. Who chooses between bundles by test has no test any more.
    show : int
        How many flipped answers are listed when the result is printed.
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
            examples = tuple(read_examples(files, task, format, text_column, label_column))
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
) -> Flips:
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
