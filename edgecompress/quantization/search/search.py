"""Find the fastest assignment of forms that keeps a budget, by trying and timing real models.

Everything int8 comes first. Where that loses too much, layers go back to fp32 in the order of what
they cost for what they save, as few as possible: their number is doubled until the budget is kept
and then halved, and at the end each of them is tried in 8 bits once more. Then what is left to
gain: tables in 4 bits, and other forms for layers that were measured to be faster in them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from edgecompress.quantization.plan.scheme import LEAST_TABLE
from edgecompress.quantization.search.sensitivity import Item, whole_layers
from edgecompress.quantization.search.trials import LEAST_GAIN, OutOfTimeError, Timed, Trials, Tried
from edgecompress.quantization.search.units import Assignment, Form, Unit
from edgecompress.values import Json

LEAST_PRICE = 1e-3
"""Of what int8 saves in all; a layer that saves less is treated as if it saved so much."""
NO_WORSE = 1 / LEAST_GAIN
"""4-bit tables may be this much slower, which is not told apart from equally fast."""


@dataclass
class Outcome:
    """What a search ended with.

    Attributes
    ----------
    best : Tried
        The fastest found that passes; where none does, the nearest.
    reasons : dict of str to str
        Why units stay fp32.
    notes : list of str
        What was left out and why, such as the time limit.
    sensitivity : list of dict
        The layers' costs, where they were asked for, the worst first.
    """

    best: Tried
    reasons: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    sensitivity: list[Json] = field(default_factory=list)


class Search:
    """One search.

    Parameters
    ----------
    trials : Trials
    units : sequence of Unit
        That may be quantized.
    starts : mapping of form to Assignment
        Everything int8, by the form of the linear layers.
    ask : callable
        Gives the sensitivity of all layers in a form.
    most_fp32 : int
        How many linear layers may go back to fp32.
    four_bits : bool
        Whether tables may have 4 bits.
    """

    def __init__(
        self,
        trials: Trials,
        units: Sequence[Unit],
        starts: Mapping[Form, Assignment],
        ask: Callable[[Form], list[Item]],
        most_fp32: int,
        *,
        four_bits: bool,
    ) -> None:
        self.trials, self.units, self.starts = trials, units, dict(starts)
        self.ask, self.most_fp32, self.four_bits = ask, most_fp32, four_bits
        self.outcome: Outcome | None = None
        self.passing: Tried | None = None
        self.items: dict[str, Item] = {}
        self.ms: dict[str, float] = {}

    def run(self) -> Outcome:
        """Search until nothing is left to try or the time is over."""
        tried = {
            form: self.trials.attempt(start, f"all int8, {form}", must=index == 0)
            for index, (form, start) in enumerate(self.starts.items())
            if index == 0 or not self.trials.ended
        }
        forms = list(tried)
        self.outcome = Outcome(min(tried.values(), key=lambda one: one.miss))
        try:
            times = self.trials.time([None, *(self.starts[form] for form in forms)])
            speed = dict(zip(forms, times[1:], strict=True))
            self._start(tried, speed)
            if self.outcome.best.passes:
                self._shrink_tables()
                self._change_forms(forms)
        except OutOfTimeError:
            self.outcome.notes.append(
                f"the time limit of {self.trials.seconds:g} s ended the search"
            )
        return self.outcome

    def _start(self, tried: Mapping[Form, Tried], speed: Mapping[Form, Timed | None]) -> None:
        """Take the fastest form that passes; repair those that would be faster and do not."""
        outcome = self._known
        order = sorted(tried, key=lambda form: -(found.gain if (found := speed[form]) else 0.0))
        self.passing = next((tried[form] for form in order if tried[form].passes), None)
        if self.passing is not None:
            outcome.best = self.passing
        for form in order:
            if tried[form].passes:
                outcome.best = tried[form]
                return
            repaired = self._repair(form, list(tried))
            if repaired is None:
                continue
            if self.passing is not None:
                times = self.trials.time([self.passing.assignment, repaired.assignment])
                if times[1] is None or times[1].surely <= 1:
                    continue
            self.passing = None
            self._say_repaired(repaired, self.items)
            return

    @property
    def _known(self) -> Outcome:
        if self.outcome is None:
            raise RuntimeError("the search has not begun")
        return self.outcome

    def _repair(self, form: Form, forms: Sequence[Form]) -> Tried | None:
        """Put as few layers back to fp32 as the budget needs; None where it cannot be kept."""
        start = self.starts[form]
        items = self.items = {item.layer: item for item in whole_layers(self.ask(form))}
        if self.trials.ended:
            raise OutOfTimeError
        prices = self._prices(start)
        inside = [unit for unit in self.units if start.forms[unit.name] != "fp32"]
        ranked = sorted(
            (unit for unit in inside if unit.name in items),
            key=lambda unit: -items[unit.name].cost.error / prices[unit.name],
        )
        names = [unit.name for unit in ranked]
        self._known.sensitivity = [items[name].to_json() for name in names]
        limit = min(self._most(ranked), len(names))
        found, count = None, 0
        low, size = 0, 1
        while found is None and low < limit:
            count = min(size, limit)
            one = self._attempt(start.put(names[:count], "fp32"), f"{count} layers in fp32")
            if one.passes:
                found = one
            else:
                low, size = count, size * 2
        if found is None:
            self._known.notes.append(
                f"{form}: the budget is not kept with the {limit} layers in fp32 that cost most"
            )
            return None
        self._say_repaired(found, items)
        high = count
        while high - low > 1:
            middle = (low + high) // 2
            one = self._attempt(start.put(names[:middle], "fp32"), f"{middle} layers in fp32")
            if one.passes:
                found, high = one, middle
                self._say_repaired(found, items)
            else:
                low = middle
        # The last that was put back made the difference; perhaps without some before it.
        for name in sorted(names[:high], key=lambda one: items[one].cost.error):
            table = start.forms[name] in ("int8", "int4")
            for other in (start.forms[name],) if table else (form, *forms):
                if start.forms[name] == "fp32" or (high == 1 and other == form):
                    continue
                one = self._attempt(found.assignment.put([name], other), f"{name} in {other}")
                if one.passes:
                    found = one
                    self._say_repaired(found, items)
                    break
        return found

    def _attempt(self, assignment: Assignment, why: str) -> Tried:
        """Try a model and remember it where it is the nearest so far."""
        one = self.trials.attempt(assignment, why)
        if one.miss < self._known.best.miss:
            self._known.best = one
        return one

    def _most(self, ranked: Sequence[Unit]) -> int:
        """How far down the ranking one may go with at most `most_fp32` linear layers."""
        linears = 0
        for place, unit in enumerate(ranked):
            linears += not unit.is_table
            if linears > self.most_fp32:
                return place
        return len(ranked)

    def _say_repaired(self, found: Tried, items: Mapping[str, Item]) -> None:
        outcome = self._known
        if self.passing is not None:
            return  # whether this is faster is not known yet
        outcome.best = found
        outcome.reasons = {
            name: f"int8 costs too much: alone it makes an output error of "
            f"{items[name].cost.error:.3g}"
            for name in found.assignment.having("fp32")
            if name in items
        }

    def _prices(self, start: Assignment) -> dict[str, float]:
        """Give what each unit's int8 saves: its share of all time or of all bytes saved."""
        inside = [unit for unit in self.units if start.forms[unit.name] != "fp32"]
        groups = layer_groups(inside)
        times = self.trials.time([start, *(start.put(names, "fp32") for names in groups)])
        weight = {unit.name: unit.values for unit in inside}
        if times[0] is not None:
            for names, timed in zip(groups, times[1:], strict=True):
                if timed is not None:
                    gain = max(timed.ms - times[0].ms, 0.0)
                    total = sum(weight[name] for name in names)
                    self.ms |= {name: gain * weight[name] / total for name in names}
        saved = {u.name: u.bytes_in("fp32") - u.bytes_in(start.forms[u.name]) for u in inside}
        all_bytes = max(sum(saved.values()), 1)
        all_ms = sum(self.ms.get(name, 0.0) for name in saved)
        return {
            name: max(
                self.ms.get(name, 0.0) / all_ms if all_ms > 0 else 0.0,
                count / all_bytes,
                LEAST_PRICE,
            )
            for name, count in saved.items()
        }

    def _shrink_tables(self) -> None:
        """Store tables in 4 bits where the budget allows it and the model gets no slower."""
        if not self.four_bits:
            return
        outcome, block = self._known, self.trials.scheme.embedding_block
        least = LEAST_TABLE * sum(unit.values for unit in self.units if unit.is_table)
        tables = [
            unit
            for unit in sorted(self.units, key=lambda one: -one.values)
            if unit.takes_int4(block)
            and unit.values >= least
            and outcome.best.assignment.forms[unit.name] == "int8"
        ]
        together = [unit.name for unit in tables]
        for names in [together, *([name] for name in together if len(together) > 1)]:
            if not names:
                return
            one = self.trials.attempt(
                outcome.best.assignment.put(names, "int4"), f"4 bits for {', '.join(names)}"
            )
            if not one.passes:
                continue
            timed = self.trials.time([outcome.best.assignment, one.assignment])[1]
            if timed is None or timed.gain < NO_WORSE:
                outcome.notes.append(f"{', '.join(names)}: 4 bits are slower or were not timed")
                continue
            outcome.best = one
            if names is together:
                return

    def _change_forms(self, forms: Sequence[Form]) -> None:
        """Give layers the form in which they were measured to be faster, fp32 among them."""
        outcome = self._known
        best = outcome.best.assignment
        inside = [u for u in self.units if best.forms[u.name] in ("dynamic", "static")]
        options: list[tuple[list[str], Form]] = []
        for names in layer_groups(inside):
            now = {best.forms[name] for name in names}
            others: list[Form] = [f for f in (*forms, "fp32") if {f} != now]
            options += [(names, form) for form in others]
        times = self.trials.time([best, *(best.put(names, form) for names, form in options)])
        faster = [
            (timed.gain, names, form)
            for timed, (names, form) in zip(times[1:], options, strict=True)
            if timed is not None and timed.surely > 1 and timed.gain >= LEAST_GAIN
        ]
        changed: set[str] = set()
        for _, names, form in sorted(faster, key=lambda one: -one[0]):
            if not changed.isdisjoint(names):
                continue
            wanted = outcome.best.assignment.put(names, form)
            one = self.trials.attempt(wanted, f"{len(names)} layers in {form}, which is faster")
            timed = self.trials.time([outcome.best.assignment, wanted])[1]
            if not one.passes or timed is None or timed.surely <= 1:
                continue
            outcome.best = one
            changed |= set(names)
            if form == "fp32":
                outcome.reasons |= dict.fromkeys(names, "measured to be faster in fp32")


def layer_groups(units: Sequence[Unit]) -> list[list[str]]:
    """Group linear layers of one kind and shape: they are equally fast, and timed together."""
    groups: dict[tuple[object, ...], list[str]] = {}
    for unit in units:
        if not unit.is_table:
            key = (unit.layers[0].kind, unit.shape, len(unit.layers))
            groups.setdefault(key, []).append(unit.name)
    return list(groups.values())
