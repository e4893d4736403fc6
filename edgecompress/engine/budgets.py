"""The budget of a recipe: bounds on metrics, for all data together or for every slice of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Tag

from edgecompress.all_metrics import bounded
from edgecompress.engine.quantities import Quantity, check_bound
from edgecompress.metrics import Metric
from edgecompress.results import Limit
from edgecompress.words import meant
from edgecompress.yamlfile import KeyPath, YamlFile


class LimitSpec(BaseModel):
    """Bounds on one metric; give at least one."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    max: Quantity | None = None
    """Largest value allowed (5ms, 10MB, 0.02)."""
    min: Quantity | None = None
    """Smallest value allowed."""
    max_drop: Quantity | None = None
    """Largest allowed loss: the teacher's value minus the candidate's."""
    max_ratio: Quantity | None = None
    """Largest allowed candidate / teacher."""
    min_ratio: Quantity | None = None
    """Smallest allowed candidate / teacher."""
    each: Literal["file", "label"] | None = None
    """Hold the bounds for every data file (`file`), or every label, by itself instead of for all
    of them together."""


Limits = Annotated[
    Annotated[LimitSpec, Tag("one[]")] | Annotated[tuple[LimitSpec, ...], Tag("several[]")],
    Discriminator(lambda given: "several[]" if isinstance(given, list | tuple) else "one[]"),
]
"""The bounds of one key; brackets mark a tag, which messages leave out."""


def limits(
    budget: Mapping[str, Limits], task: str | None, targets: Sequence[str], source: YamlFile
) -> Iterator[Limit]:
    """Check a recipe's budget and give its limits.

    Parameters
    ----------
    budget : mapping of str to LimitSpec or tuple of LimitSpec
        By metric, or metric@target.
    task : str or None
        The recipe's.
    targets : sequence of str
        Names of the recipe's.
    source : YamlFile
        For messages.

    Raises
    ------
    RecipeError
        At the first bound that nothing can be held against.
    """
    written = source.document.get("budget", {})
    for key, given in budget.items():
        metric, _, target = key.partition("@")
        measured = known_metric(metric, source, ("budget", key))
        if target:
            known_target(target, targets, source, ("budget", key))
        at = target or None
        if isinstance(given, LimitSpec):
            yield _limit(measured, at, given, written[key], ("budget", key), task, source)
            continue
        found: dict[str | None, Limit] = {}
        for number, spec in enumerate(given):
            path: KeyPath = ("budget", key, number)
            if spec.each in found:
                what = f"of each {spec.each}" if spec.each else "of all data together"
                raise source.error(f"the bounds {what} stand twice; put them together", path)
            found[spec.each] = _limit(measured, at, spec, written[key][number], path, task, source)
        yield from found.values()


def _limit(
    measured: Metric,
    target: str | None,
    spec: LimitSpec,
    written: Mapping[str, Any],
    path: KeyPath,
    task: str | None,
    source: YamlFile,
) -> Limit:
    if spec.each is not None:
        _check_sliced(measured, spec.each, task, source, (*path, "each"))
    values = spec.model_dump(exclude={"each"})
    if all(value is None for value in values.values()):
        raise source.error("give a bound: max, min, max_drop, max_ratio or min_ratio", path)
    for bound, value in values.items():
        if value is not None:
            try:
                check_bound(measured, bound, written.get(bound), value)
            except ValueError as error:
                raise source.error(str(error), (*path, bound)) from None
    return Limit(measured.name, target, **values, each=spec.each)


def _check_sliced(
    measured: Metric, each: str, name: str | None, source: YamlFile, path: KeyPath
) -> None:
    """Refuse bounds on slices of which nothing is measured."""
    from edgecompress.tasks import task

    kind = task(name) if name is not None else None
    if each == "file":
        sliced = [one.name for one in kind.metrics if one.by_file] if kind else []
    else:
        sliced = [kind.label_metric.name] if kind and kind.label_metric else []
    if measured.name in sliced:
        return
    there = f"what is: {', '.join(sliced)}" if sliced else "nothing is"
    of = f" by {name}" if name else ""
    raise source.error(f"{measured.name} is not measured of each {each}{of}; {there}", path)


def known_metric(name: str, source: YamlFile, path: KeyPath) -> Metric:
    """Find a metric that a budget may name; RecipeError with the nearest one where it is none."""
    known = {one.name: one for one in bounded()}
    if name not in known:
        titles = {one.name: (one.title,) for one in known.values()}
        raise source.error(f"unknown metric {name!r}{meant(name, known, titles)}", path)
    return known[name]


def known_target(name: str, targets: Sequence[str], source: YamlFile, path: KeyPath) -> None:
    """Refuse what is no target of the recipe."""
    if name not in targets:
        raise source.error(f"no target {name!r} in targets{meant(name, targets)}", path)
