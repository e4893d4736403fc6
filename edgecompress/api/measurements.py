"""What measuring gives: measurements of models, laid out as tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from edgecompress.all_metrics import is_failure
from edgecompress.api.paged import Paged
from edgecompress.api.shown import Section, Shown
from edgecompress.choose import show
from edgecompress.engine.floor import Standing
from edgecompress.errors import EdgeCompressError, TargetError
from edgecompress.report import blocks
from edgecompress.report.blocks import Page
from edgecompress.report.document import measurement_lines
from edgecompress.report.profile_page import profile_page
from edgecompress.report.sensitivity import sensitivity_page
from edgecompress.values import Json, Measurement


def measurement_table(found: Iterable[Measurement], title: str = "") -> Section:
    """Lay measurements out as a table; why some are invalid stands below it."""
    lines, reasons = [], []
    for m in found:
        interval = f"{show(m.interval[0], m)} … {show(m.interval[1], m)}" if m.interval else ""
        value = show(m.value, m)
        if m.invalid:
            reasons.append(f"invalid: {m.metric}: {m.invalid}")
            value += " (invalid)"
        where = m.target or m.split or ""
        lines.append((m.metric, m.slice or "", where, value, interval, str(m.samples)))
    heads = ("metric", "of", "where", "value", "95 % interval", "samples")
    return Section(title, heads, tuple(lines), (), 3, tuple(dict.fromkeys(reasons)))


@dataclass(frozen=True, slots=True, repr=False)
class Evaluation(Shown):
    """A model's accuracy, in all and per label and file.

    Attributes
    ----------
    model : str
    split : str
        ``validation`` or ``test``.
    measurements : tuple of Measurement
    floor : Standing or None
        What answering everything alike scores; None where that means nothing.
    """

    model: str
    split: str
    measurements: tuple[Measurement, ...]
    floor: Standing | None = None

    def sections(self) -> Iterator[Section]:
        """Lay out the measurements, and what they must beat."""
        yield measurement_table(self.measurements)
        yield from self._beaten()

    def to_json_lines(self) -> str:
        """Write a JSON object a line for each measurement."""
        return measurement_lines(self.measurements)

    def _beaten(self) -> Iterator[Section]:
        """Say what answering everything alike scores, and where the model is no better."""
        lead = next((m for m in self.measurements if m.metric.endswith("_over_floor")), None)
        if lead is None or self.floor is None:
            return  # no target answered
        metric = lead.metric.removesuffix("_over_floor")
        row, note = self.floor.row, self.floor.note
        value = next(one.value for one in row.measurements if one.metric == metric)
        text = (
            f"«{row.name}» ({note['answers']}, counted in {note['from']}) has "
            f"{value * 100:.2f} points of {metric}"
        )
        alarm = "the model does not beat that for certain; fine-tune it, or ask more examples"
        unsure = lead.interval is not None and lead.interval[0] <= 0
        yield Section("", notes=(text,), warnings=(alarm,) * unsure)


@dataclass(frozen=True, slots=True, repr=False)
class ModelProfile(Paged):
    """What was measured of one model, or the `error` that says why nothing could be.

    `reference` is the model that it was interleaved with.
    """

    model: str
    measurements: tuple[Measurement, ...]
    error: EdgeCompressError | None = None
    reference: str | None = None

    @property
    def exit_code(self) -> int:
        """0, or that of the error, or of a target that did not answer."""
        if self.error is not None:
            return self.error.exit_code
        return TargetError.exit_code if any(is_failure(one) for one in self.measurements) else 0

    def page(self) -> Page:
        """Lay out the measurements, or say why there are none."""
        if self.error is None:
            return profile_page(self.model, self.measurements, self.reference)
        said = (blocks.Paragraph(str(self.error)),)
        section = blocks.Section(self.model, said)
        return blocks.Page(self.model, blocks.Head(self.model), (), (section,))

    def to_json_lines(self) -> str:
        """Write a JSON object a line for each measurement."""
        return measurement_lines(self.measurements, model=self.model)


@dataclass(frozen=True, slots=True, repr=False)
class Profile(Paged):
    """What was measured of each of `models`."""

    models: tuple[ModelProfile, ...]

    @property
    def measurements(self) -> tuple[Measurement, ...]:
        """Those of all models."""
        return tuple(one for model in self.models for one in model.measurements)

    @property
    def exit_code(self) -> int:
        """The greatest of the models'."""
        return max(model.exit_code for model in self.models)

    def page(self) -> Page:
        """Lay out the measurements of each."""
        pages = [model.page() for model in self.models]
        title = ", ".join(page.title for page in pages)
        sections = tuple(section for page in pages for section in page.sections)
        return blocks.Page(title, blocks.Head(title), (), sections)


@dataclass(frozen=True, slots=True, repr=False)
class Sensitivity(Paged):
    """What quantizing each layer costs, or where two models differ.

    Attributes
    ----------
    document : dict
        All that was measured, as ``sensitivity.json`` holds it.
    top : int
        Lines of the table that are printed.
    """

    document: Json
    top: int = 20

    @property
    def culprits(self) -> tuple[str, ...]:
        """The layers that cost far more than others."""
        return tuple(self.document.get("culprits", ()))

    def page(self) -> Page:
        """Lay out the costs, the worst first (of a comparison: in the graph's order)."""
        return sensitivity_page(self.document, self.top)
