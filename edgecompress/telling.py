"""What was done to a model, in plain words: a step's stage tells it, from parameters and decisions.

What several stages say alike stands here. A step of a stage that is not installed, of one that says
nothing, or with decisions that are not as expected, is told by its parameters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from edgecompress.data.calibration import few_examples
from edgecompress.parts import by_part
from edgecompress.report import words
from edgecompress.stage import Transform, stage_class
from edgecompress.values import Json, Step

SHOWN = 3
"""Exceptions that a sentence names; how many more there are is said."""
ONNX_RUNTIME, NEURAL_COMPRESSOR = "in ONNX Runtime's operators", "by Intel Neural Compressor"
AT_RUN_TIME = "activation ranges found anew for every input"


def in_words(step: Step) -> str:
    """Tell one step: what was done, with what, and what was decided.

    >>> in_words(Step("prune.layers", {}, {"kept": [0, 2], "dropped": []}))
    'Kept 2 of its layers (0 and 2, counted from 0) and removed the others.'
    """
    try:
        stage = stage_class(step.stage)
        told = _told(stage, step) if issubclass(stage, Transform) else ""
    except Exception:  # noqa: BLE001 - no such stage, or whatever another's class raises
        told = _teacher(step) if step.stage == "teacher" else ""
    return told or _by_parameters(step)


def _told(stage: type[Transform], step: Step) -> str:
    """Let a stage tell its step; of a model of several graphs part by part."""
    parts = by_part(step.decisions)
    if "" in parts:
        return stage.tell(step)
    told = {name: stage.tell(replace(step, decisions=found)) for name, found in parts.items()}
    return " ".join(
        f"{words.plain(name).capitalize()}: {text}" for name, text in told.items() if text
    )


def _teacher(step: Step) -> str:
    source = words.plain(step.parameters.get("from") or "")
    if source == "new":
        return "Began with a new model with random weights."
    return f"Began with the model {source}." if source else ""


def _by_parameters(step: Step) -> str:
    parts = [f"{words.plain(key)} {words.plain(one)}" for key, one in step.parameters.items()]
    told = f" with {', '.join(parts)}" if parts else ""
    decided = ", ".join(words.plain(key) for key in step.decisions)
    return f"Ran{told}." + (f" The manifest holds what it decided: {decided}." if decided else "")


def epochs(step: Step) -> str:
    """Say how long a stage trained, and which epoch's weights were kept."""
    number, best = step.parameters.get("epochs"), step.decisions.get("best_epoch")
    scores = items(step.decisions.get("scores"))
    text = f" for {counted(number, 'epoch')}" if isinstance(number, int) else ""
    if isinstance(best, int):
        score = ""
        if 0 < best <= len(scores) and isinstance(scores[best - 1], int | float):
            score = f" ({words.number(scores[best - 1], 'fraction')} on validation)"
        text += f"; kept the weights of epoch {best}{score}"
    return text


def while_training(step: Step) -> str:
    """Say what went, and what was rounded, while a stage trained."""
    rounded = " It was rounded as in 8 bits meanwhile." if "qat" in step.decisions else ""
    found = step.decisions.get("gradual")
    if not isinstance(found, Mapping):
        return rounded
    if told := zeros(found):
        return f" On the way the smallest weights became zero: {told}.{rounded}"
    told = removed(found)
    return (f" On the way: removed {told}." if told else "") + rounded


def zeros(found: Mapping[str, Any]) -> str:
    """Say how many weights are zero; nothing where that was not recorded."""
    none, weights, tensors = found.get("zeros"), found.get("weights"), found.get("tensors")
    if not (isinstance(none, int) and isinstance(weights, int) and isinstance(tensors, Mapping)):
        return ""
    return f"{none:,} of the {weights:,} in {matrices(tensors)}"


def matrices(found: Mapping[str, Any]) -> str:
    """Say how many matrices there are."""
    return "1 matrix" if len(found) == 1 else f"{len(found)} matrices"


def removed(found: Mapping[str, Any]) -> str:
    """Say how many heads, neurons and hidden channels are gone; nothing where none is."""
    kept, before = items(found.get("heads")), items(found.get("heads_before"))
    neurons, all_neurons = (items(found.get(key)) for key in ("neurons", "neurons_before"))
    parts = []
    heads = [len(layer) for layer in kept if isinstance(layer, list | tuple)]
    for now, then, name in ((heads, before, "attention heads"), (neurons, all_neurons, "neurons")):
        if whole(now) and whole(then) and sum(then) > sum(now):
            layers = " + ".join(map(str, now)) if name != "neurons" else ""
            by_layer = f", by layer {layers}" if layers else ""
            gone = f"{sum(then) - sum(now):,} of {sum(then):,} {name}"
            parts.append(f"{gone} ({sum(now):,} left{by_layer})")
    wide, narrow = found.get("hidden_before"), found.get("hidden")
    if isinstance(wide, int) and isinstance(narrow, int):
        parts.append(f"{wide - narrow:,} of {wide:,} hidden channels ({narrow:,} left)")
    return " and ".join(parts)


def doubt(step: Step) -> str:
    """Say that times decided which cannot be trusted; nothing where they can, or none did."""
    tables = (
        step.measured,
        *(each for each in step.measured.values() if isinstance(each, Mapping)),
    )
    invalid = next((each["invalid"] for each in tables if each.get("invalid")), None)
    return (
        f" The times that decided this are not valid ({invalid}): make it again." if invalid else ""
    )


def parity(decisions: Json) -> str:
    """Say how far a file's outputs are from PyTorch's; nothing where that was not recorded."""
    found = decisions.get("parity")
    worst = found.get("max_abs_difference") if isinstance(found, Mapping) else found
    if isinstance(worst, bool) or not isinstance(worst, int | float):
        return ""
    return f"; its outputs differ from PyTorch's by {worst:.1g} at most"


def calibrated(step: Step) -> str:
    """Say what activation ranges were measured on."""
    examples = step.decisions.get("calibrated_on")
    if not isinstance(examples, int):
        return AT_RUN_TIME
    chosen = step.parameters.get("calibration")
    named = f" of the calibration set {words.plain(chosen)}" if chosen else ""
    return f"activation ranges from {counted(examples, 'training example')}{named}"


def integers(step: Step, activations: str, by: str = ONNX_RUNTIME) -> str:
    """Tell what became integers and what did not; nothing where that was not recorded.

    Parameters
    ----------
    step : Step
    activations : str
        How they are computed with.
    by : str
        Whose work it is.
    """
    found = step.decisions
    linears, tables = items(found.get("int8_linears")), items(found.get("int8_embeddings"))
    if not linears and not tables:
        return ""
    fine = {str(name) for name in items(found.get("stored_in_4_bits"))}
    parts = [
        f"{counted(len(some), what)}{bits}"
        for names, what in ((linears, "linear layer"), (tables, "embedding table"))
        for some, bits in (
            ([name for name in names if name not in fine], ""),
            ([name for name in names if name in fine], " (4-bit)"),
        )
        if some
    ]
    eight = "of integers (8-bit where nothing else is said)" if fine else "8-bit"
    remark = few_examples(found)
    return (
        f"Made {' and '.join(parts)} {eight} {by}, {activations}{parity(found)}."
        f"{_exceptions(found.get('exceptions'))}{f' Beware: {remark}.' if remark else ''}"
    )


def _exceptions(found: object) -> str:
    if not isinstance(found, Mapping) or not found:
        return " Nothing of them was left in floating point."
    shown = [f"{words.plain(name)} ({words.plain(why)})" for name, why in found.items()][:SHOWN]
    rest = len(found) - len(shown)
    more = f" and {rest} more" if rest else ""
    return f" Left in floating point: {'; '.join(shown)}{more}."


def counted(number: int, what: str) -> str:
    """Write a number of things: ``1 epoch``, ``4 epochs``."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def items(value: Any) -> list[Any]:
    """Give a list that was recorded; an empty one where something else was."""
    return list(value) if isinstance(value, list | tuple) else []


def whole(values: Sequence[object]) -> bool:
    """Whether all are whole numbers."""
    return all(isinstance(one, int) and not isinstance(one, bool) for one in values)
