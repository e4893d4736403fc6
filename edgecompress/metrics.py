"""What a metric is. Tasks declare those of answers, `edgecompress.machine_metrics` all others.

Choosing, budgets, intervals and reports know of a metric what stands here and nothing else;
`edgecompress.all_metrics` finds every metric by its name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import ArrayLike, NDArray

ANSWERS = "answers"
"""What a target must be able to give for a metric of answers (see `Metric.needs`)."""


@dataclass(frozen=True)
class Metric:
    """One kind of number: what it is called, its unit, and which way is better.

    Attributes
    ----------
    name : str
        As measurements and budgets name it, such as ``latency_p50``.
    title : str
        As a heading names it.
    meaning : str
        What it says, in one sentence or less.
    unit : str
        ``fraction``, ``ms``, ``bytes``, ``x``, ``count``, ``1/s``, ``mJ``, ``°C`` or another that
        is shown as it is.
    higher_is_better : bool
    needs : str or None
        What a target must be able to measure for it (`Target.metrics`); None where none is needed.
    short : str
        As a narrow column is headed; the title where it is empty.
    best : str
        What the model is that is best by it, such as ``fastest``.
    phrase : str
        How it is said in running text, with ``{value}`` and ``{reference}``.
    caution : str
        What a reader of its value is warned of, a sentence with ``{value}`` and ``{split}``.
    bounded : bool
        Whether a budget may name it: whether it is measured of a model as a whole.
    headline : bool
        Whether a line of progress tells it.
    compared : bool
        Whether the runs of a matrix are compared by it.
    optional : bool
        Whether some models of its task have nothing of it, and it is left out for these.
    machine : bool
        Whether it says something of the machine alone: models are not compared by it.
    by_file : bool
        Whether it is given for every data file, too.
    counts : callable or None
        Gives, of one `Answer` and its `Example`, float64 (k,): what the metric sums up.
    together : bool
        Whether `counts` takes all answers and examples at once and gives float64 (examples, k): of
        an example that is judged beside the others, as what is searched among them.
    value : callable or None
        Gives the metric, float (…), from sums of `counts`, float (…, k).
    whole : callable or None
        For a metric that is no sum: gives it from the answers, the examples and the classes, with
        the number of answers behind it. It is resampled by example.
    weighed : callable or None
        Beside `whole`, where that is slow: does once what resamples have in common, and gives what
        makes the metric of how often each example counts, int (examples,).
    of, against : str
        Of a difference (`Metric.differences`): the metric that it is of, and to whom: ``teacher``,
        ``host`` or ``floor``.
    """

    name: str
    title: str
    meaning: str
    unit: str = "fraction"
    higher_is_better: bool = False
    needs: str | None = None
    short: str = ""
    best: str = ""
    phrase: str = ""
    caution: str = ""
    bounded: bool = True
    headline: bool = False
    compared: bool = False
    optional: bool = False
    machine: bool = False
    by_file: bool = True
    counts: Callable[[Any, Any], ArrayLike] | None = None
    value: Callable[[NDArray[Any]], NDArray[Any]] | None = None
    together: bool = False
    whole: Callable[[Any, Sequence[Any], Sequence[str]], tuple[float, int]] | None = None
    weighed: (
        Callable[[Any, Sequence[Any], Sequence[str]], Callable[[NDArray[Any]], float]] | None
    ) = None
    of: str = ""
    against: str = ""

    @property
    def observer(self) -> str:
        """Name of the observer that measures it on a target."""
        return "evaluate" if self.needs == ANSWERS else "profile"

    @property
    def lost(self) -> bool:
        """Whether it is a loss: positive where the model is worse than what it is compared with."""
        return self.against in ("teacher", "host")

    def worse_by(self, value: float, reference: float) -> float:
        """How much worse `value` is than `reference`; negative where it is better."""
        return reference - value if self.higher_is_better else value - reference

    def difference(self, against: str) -> Metric:
        """Give what is measured of it against the ``teacher``, the ``host`` or the ``floor``."""
        suffix, title, meaning = DIFFERENCES[against]
        return Metric(
            self.name + suffix,
            title.format(self.title),
            meaning,
            self.unit,
            higher_is_better=against == "floor",
            needs=self.needs,
            bounded=self.bounded and against != "floor",
            of=self.name,
            against=against,
        )


DIFFERENCES = {
    "host": (
        "_host_drop",
        "{} lost against the host",
        "how much worse the target's answers are than those of the machine that ran the recipe, to "
        "the same examples",
    ),
    "floor": (
        "_over_floor",
        "{} above the floor",
        "how much better it is than what answers every example alike, with a paired bootstrap "
        "interval",
    ),
    "teacher": (
        "_drop",
        "{} lost",
        "how much worse it is than the teacher (positive: lost), with a paired bootstrap interval",
    ),
}
"""What a task's first metric is compared with: the suffix of the name, the title, the meaning."""


def undeclared(name: str) -> Metric:
    """Make a metric that nothing declares (of a plug-in that is not installed) from its name."""
    for against, (suffix, _, _) in DIFFERENCES.items():
        if name.endswith(suffix) and name != suffix:
            return undeclared(name.removesuffix(suffix)).difference(against)
    words = name.replace("_", " ")
    return Metric(name, words[:1].upper() + words[1:], "", bounded=False)
