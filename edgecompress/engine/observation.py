"""Observers on every target: boards at the same time, and what became of one that fell silent.

A target that fails is no failure of the candidate: in place of its numbers stands one measurement
named after the observer, invalid, with the reason. It is not kept in the store, so that the same
command measures only what is missing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from edgecompress.all_metrics import is_failure, metric, metrics
from edgecompress.engine.recipe import Recipe
from edgecompress.errors import RecipeError, TargetError
from edgecompress.parts import part_of
from edgecompress.progress import Reporter, Silent
from edgecompress.report import words
from edgecompress.targets import Target, open_target
from edgecompress.values import Json, Measurement

Ask = Callable[[str, Reporter], tuple[Measurement, ...]]


@dataclass(frozen=True, slots=True)
class Labelled(Silent):
    """Passes progress on with the target's name before it."""

    reporter: Reporter
    name: str

    def advance(self, done: float, total: float, what: str = "") -> None:
        """Say how far the work on this target is."""
        self.reporter.advance(done, total, f"{self.name} {what}")


def open_targets(recipe: Recipe) -> dict[str, Target]:
    """Open the targets of a recipe, by name; nothing is connected to yet.

    Raises
    ------
    RecipeError
        When there is no such target, or a budget bounds what one cannot measure.
    """
    targets: dict[str, Target] = {}
    for name in recipe.fields.targets:
        try:
            targets[name] = open_target(recipe.fleet.find(name))
        except RecipeError as error:
            raise recipe.source.error(error.message, ("targets",)) from None
    for limit in recipe.budget:
        needs = metric(limit.metric).needs
        if limit.target and needs and needs not in targets[limit.target].metrics:
            raise recipe.source.error(
                f"{limit.target} cannot measure {limit.metric}; bound it at another target",
                ("budget", limit.name),
            )
    return targets


def failure(observer: str, target: str, reason: str, split: str | None = None) -> Measurement:
    """Give the measurement that stands for all that `observer` could not measure on `target`."""
    return Measurement(
        observer, math.nan, "count", target, split, samples=0, invalid=reason
    )  # fmt: skip


def on_all(
    targets: Mapping[str, Target],
    observer: str,
    ask: Ask,
    reporter: Reporter,
    *,
    split: str | None = None,
    title: str | None = None,
) -> tuple[Measurement, ...]:
    """Ask every target; those that share this machine one by one, boards at the same time.

    Parameters
    ----------
    targets : mapping of str to Target
    observer : str
        Name of what is asked: that of the measurement which stands for a failure.
    ask : callable
        Given a target's name and a reporter, measures there; raises `TargetError`.
    reporter : Reporter
    split : str, optional
        Of the measurement that stands for a failure.
    title : str, optional
        For progress, else the observer's name.

    Returns
    -------
    tuple of Measurement
        In the order of `targets`.
    """

    def answer(name: str, tell: Reporter) -> tuple[Measurement, ...]:
        try:
            return ask(name, tell)
        except TargetError as error:
            return (failure(observer, name, str(error), split),)

    what = title or observer
    found: dict[str, tuple[Measurement, ...]] = {}
    boards = [name for name, target in targets.items() if not target.on_host]
    for name in targets:
        if name not in boards:
            reporter.begin(what if len(targets) == 1 else f"{what} on {name}")
            found[name] = answer(name, reporter)
            reporter.end(_note(found[name]))
    if boards:
        reporter.begin(f"{what} on {', '.join(boards)}")
        pool = ThreadPoolExecutor(len(boards), thread_name_prefix="board")
        try:
            asked = {name: pool.submit(answer, name, Labelled(reporter, name)) for name in boards}
            found |= {name: future.result() for name, future in asked.items()}
        except BaseException:
            for name in boards:  # what waits for a board ends when its connection does
                targets[name].close()
            raise
        finally:
            pool.shutdown(cancel_futures=True)
        reporter.end("; ".join(_note(found[name], name) for name in boards))
    return tuple(measurement for name in targets for measurement in found[name])


def _note(found: tuple[Measurement, ...], name: str | None = None) -> str:
    """Say in a few words what was measured, with the target's name where several were asked."""
    failed = [one for one in found if is_failure(one)]
    if failed:
        return f"failed: {failed[0].invalid}"
    whole = {one.metric: one for one in found if one.slice is None}
    lost = [metric(name) for name in whole if metric(name).lost]
    told = [*(one.of for one in lost), *(one.name for one in lost)]  # the task's own score
    told += [one.name for one in metrics().values() if one.headline]
    told = [name for name in dict.fromkeys(told) if name in whole] or list(whole)[:1]
    said = ", ".join(_words(whole[metric]) for metric in told)
    split = next((one.split for one in found if one.split), None)
    parts = dict.fromkeys(part for one in found if (part := part_of(one)) is not None)
    nothing = f"measured {', '.join(parts)}" if parts else "nothing could be measured"
    said = f"{said or nothing}{f' on {split}' if split and said else ''}"
    reasons = dict.fromkeys(str(whole[one].invalid) for one in told if whole[one].invalid)
    said = "; ".join([said, *map(words.plain, reasons)])
    return f"{name}: {said}" if name else said


def _words(found: Measurement) -> str:
    value = words.measured(found)
    kind = metric(found.metric)
    text = f"{words.label(found.metric)} {value}"
    if kind.lost:
        change = words.with_unit(abs(found.value), found.unit)
        # A loss is positive where the model is worse: where less is better, that is more.
        under = (found.value >= 0) == metric(kind.of).higher_is_better
        text = f"{change} {'under' if under else 'above'} the {kind.against}"
    elif kind.phrase:
        text = kind.phrase.format(value=value, reference="onnx-fp32")
    return f"{text} (not valid)" if found.invalid else text


def descriptions(targets: Mapping[str, Target]) -> Json:
    """Say what each target is; one that cannot be reached is described by its failure."""
    found: Json = {}
    for name, target in targets.items():
        try:
            found[name] = target.describe()
        except TargetError as error:
            found[name] = {"error": str(error)}
    return found
