"""What was done to a model, in plain words: a step's parameters and decisions as a sentence; pure.

A stage of a third party, or one whose decisions are not as expected, is told by its parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edgecompress.data.calibration import few_examples
from edgecompress.report import words
from edgecompress.values import Json, Step

SHOWN = 3
"""Exceptions that a sentence names; how many more there are is said."""
TRAINS = ("finetune", "distil")
"""Stages whose result depends on the seed."""


def in_words(step: Step) -> str:
    """Tell one step: what was done, with what, and what was decided.

    >>> in_words(Step("prune.layers", {}, {"kept": [0, 2], "dropped": []}))
    'Kept 2 of its layers (0 and 2, counted from 0) and removed the others.'
    """
    tell = _TOLD.get(step.stage)
    return (tell(step) if tell else "") or _anything(step)


def trained(steps: Sequence[Step]) -> bool:
    """Whether a step's result depends on the seed: another one would give another model."""
    return any(step.stage in TRAINS or "epochs" in step.parameters for step in steps)


def quantized(steps: Sequence[Step]) -> bool:
    """Whether the model computes with 8 bits, which processors do in different ways."""
    return any(step.stage.startswith("quantize.") for step in steps)


def _teacher(step: Step) -> str:
    source = words.plain(step.parameters.get("from") or "")
    if source == "new":
        return "Began with a new model with random weights."
    return f"Began with the model {source}." if source else ""


def _finetune(step: Step) -> str:
    return f"Trained on the training split{_epochs(step)}.{_gradual(step)}{_qat(step)}"


def _distil(step: Step) -> str:
    from_labels = step.parameters.get("label_weight")
    and_labels = " and the labels" if from_labels else ""
    pairs = _list(step.decisions.get("layer_pairs"))
    inner = f", {_count(len(pairs), 'layer')} compared with the teacher's" if pairs else ""
    how = f"{and_labels}{_epochs(step)}{inner}"
    return f"Trained towards the teacher's answers{how}.{_gradual(step)}{_qat(step)}"


def _epochs(step: Step) -> str:
    epochs, best = step.parameters.get("epochs"), step.decisions.get("best_epoch")
    scores = _list(step.decisions.get("scores"))
    text = f" for {_count(epochs, 'epoch')}" if isinstance(epochs, int) else ""
    if isinstance(best, int):
        score = ""
        if 0 < best <= len(scores) and isinstance(scores[best - 1], int | float):
            score = f" ({words.number(scores[best - 1], 'fraction')} on validation)"
        text += f"; kept the weights of epoch {best}{score}"
    return text


def _structured(step: Step) -> str:
    kept, before = _list(step.decisions.get("heads")), _list(step.decisions.get("heads_before"))
    neurons, all_neurons = (_list(step.decisions.get(key)) for key in ("neurons", "neurons_before"))
    parts = []
    heads = [len(layer) for layer in kept if isinstance(layer, list | tuple)]
    for now, then, name in ((heads, before, "attention heads"), (neurons, all_neurons, "neurons")):
        if _whole(now) and _whole(then) and sum(then) > sum(now):
            layers = " + ".join(map(str, now)) if name != "neurons" else ""
            by_layer = f", by layer {layers}" if layers else ""
            gone = f"{sum(then) - sum(now):,} of {sum(then):,} {name}"
            parts.append(f"{gone} ({sum(now):,} left{by_layer})")
    wide, narrow = step.decisions.get("hidden_before"), step.decisions.get("hidden")
    if isinstance(wide, int) and isinstance(narrow, int):
        parts.append(f"{wide - narrow:,} of {wide:,} hidden channels ({narrow:,} left)")
    if not parts:
        return ""
    how = {
        "fisher": "whose absence was estimated to change the answers least",
        "taylor": "whose absence was estimated to cost least",
        "magnitude": "with the smallest weights",
    }.get(str(step.parameters.get("importance")), "")
    fitted = (
        " The rest was fitted to the whole model." if step.parameters.get("reconstruct") else ""
    )
    return f"Removed {' and '.join(parts)}{': those ' + how if how else ''}.{fitted}"


def _magnitude(step: Step) -> str:
    told = _zeros(step.decisions)
    if not told:
        return ""
    return (
        f"Set the smallest weights to zero: {told}. No inference gets faster by that; the "
        "compressed download gets smaller."
    )


def _zeros(found: Mapping[str, Any]) -> str:
    zeros, weights, tensors = found.get("zeros"), found.get("weights"), found.get("tensors")
    if not (isinstance(zeros, int) and isinstance(weights, int) and isinstance(tensors, Mapping)):
        return ""
    matrices = "1 matrix" if len(tensors) == 1 else f"{len(tensors)} matrices"
    return f"{zeros:,} of the {weights:,} in {matrices}"


def _gradual(step: Step) -> str:
    """Tell what went while a stage trained."""
    found = step.decisions.get("gradual")
    if not isinstance(found, Mapping):
        return ""
    if told := _zeros(found):
        return f" On the way the smallest weights became zero: {told}."
    told = _structured(Step(step.stage, {}, dict(found)))
    return f" On the way: {told[:1].lower()}{told[1:]}" if told else ""


def _qat(step: Step) -> str:
    return " It was rounded as in 8 bits meanwhile." if "qat" in step.decisions else ""


def _layers(step: Step) -> str:
    kept, dropped = _list(step.decisions.get("kept")), _list(step.decisions.get("dropped"))
    if not _whole(kept) or not kept:
        return ""
    total = f"{len(kept) + len(dropped)}" if dropped else "its"
    names = " and ".join(filter(None, (", ".join(map(str, kept[:-1])), str(kept[-1]))))
    how = ", one by one the layer that was missed least" if dropped else ""
    return (
        f"Kept {len(kept)} of {total} layers ({names}, counted from 0) and removed the others{how}."
    )


def _trim(step: Step) -> str:
    pieces, held_out = _list(step.decisions.get("pieces")), step.decisions.get("held_out")
    if len(pieces) != 2 or not _whole(pieces):
        return ""
    otherwise = held_out.get("words_split_otherwise") if isinstance(held_out, Mapping) else None
    told = ""
    if isinstance(otherwise, int | float) and not isinstance(otherwise, bool):
        told = (
            f"; {words.number(otherwise, 'fraction')} % of the words on validation fall into others"
        )
    return f"Kept {pieces[1]:,} of {pieces[0]:,} word pieces{told}."


def _share(step: Step) -> str:
    rows, read = _list(step.decisions.get("rows")), step.decisions.get("held_out_shared")
    if len(rows) != 2 or not _whole(rows):
        return ""
    told = ""
    if isinstance(read, int | float) and not isinstance(read, bool):
        told = f" ({words.number(read, 'fraction')} % of the pieces on validation)"
    return (
        f"Kept {rows[1]:,} of {rows[0]:,} rows of the word embedding; the other pieces{told} are "
        "read as the most similar one that kept its row."
    )


def _factorize(step: Step) -> str:
    ranks, parameters = step.decisions.get("ranks"), step.decisions.get("parameters")
    if not isinstance(ranks, Mapping) or not isinstance(parameters, Mapping):
        return ""
    before, after = parameters.get("before"), parameters.get("after")
    if not isinstance(before, int) or not isinstance(after, int):
        return ""
    matrices = "1 matrix" if len(ranks) == 1 else f"{len(ranks)} matrices"
    return f"Wrote {matrices} as low-rank products: {before:,} weights became {after:,}."


def _export(step: Step) -> str:
    opset = step.decisions.get("opset", step.parameters.get("opset"))
    which = f", operator set {opset}" if isinstance(opset, int) else ""
    return f"Written as ONNX{which}{_parity(step.decisions)}."


def _parity(decisions: Json) -> str:
    parity = decisions.get("parity")
    worst = parity.get("max_abs_difference") if isinstance(parity, Mapping) else parity
    if isinstance(worst, bool) or not isinstance(worst, int | float):
        return ""
    return f"; its outputs differ from PyTorch's by {worst:.1g} at most"


def _fuse(step: Step) -> str:
    chosen = step.decisions.get("chosen")
    if not isinstance(chosen, str):
        return ""
    # In a bundle's manifest there are none: they are timings, and stand with the evidence.
    measured = getattr(step, "measured", {}).get("variants")
    variants = measured or step.decisions.get("variants")
    tried = len(variants) if isinstance(variants, Mapping) else 0
    of = f", the fastest of {tried} variants that were measured" if tried > 1 else ""
    if chosen == "none":
        return "Left the graph as it was: no fusion that was tried made it faster."
    fusions = [words.plain(one).replace("_", " ") for one in _list(step.decisions.get("fusions"))]
    off = [words.plain(one) for one in _list(step.decisions.get("disabled_optimizers"))]
    parts = [f"fused {' and '.join(fusions)}"] if fusions else []
    parts += [f"switched {' and '.join(off)} off in ONNX Runtime"] if off else []
    text = " and ".join(parts) or f"chose {words.plain(chosen)}"
    return f"{text[:1].upper()}{text[1:]}{of}."


def _quantize(step: Step) -> str:
    found = step.decisions
    linears, tables = _list(found.get("int8_linears")), _list(found.get("int8_embeddings"))
    if not linears and not tables:
        return ""
    by = "by Intel Neural Compressor" if ".inc_" in step.stage else "in ONNX Runtime's operators"
    fine = {str(name) for name in _list(found.get("stored_in_4_bits"))}
    parts = [
        f"{_count(len(some), what)}{bits}"
        for names, what in ((linears, "linear layer"), (tables, "embedding table"))
        for some, bits in (
            ([name for name in names if name not in fine], ""),
            ([name for name in names if name in fine], " (4-bit)"),
        )
        if some
    ]
    examples = found.get("calibrated_on")
    if step.parameters.get("ranges") == "qat":
        ranges = "activation ranges learned in training"
    elif "static" in step.stage and isinstance(examples, int):
        chosen = step.parameters.get("calibration")
        named = f" of the calibration set {words.plain(chosen)}" if chosen else ""
        ranges = f"activation ranges from {_count(examples, 'training example')}{named}"
    elif step.stage == "quantize.weights":
        ranges = "activations in floating point"
    elif step.stage == "quantize.auto" and found.get("ranges"):
        ranges = "activation ranges from training examples or found anew, layer by layer"
    else:
        ranges = "activation ranges found anew for every input"
    text = f"Made {' and '.join(parts)} 8-bit {by}, {ranges}{_parity(found)}."
    if fine:
        text = text.replace(" 8-bit ", " of integers (8-bit where nothing else is said) ", 1)
    return text + _exceptions(found.get("exceptions")) + _few(found)


def _few(found: Json) -> str:
    remark = few_examples(found)
    return f" Beware: {remark}." if remark else ""


def _smooth(step: Step) -> str:
    alphas = step.decisions.get("alphas")
    if not isinstance(alphas, Mapping) or not alphas:
        return "Smoothed nothing: no linear layer's input could take a factor."
    inputs = "the input" if len(alphas) == 1 else f"{len(alphas)} inputs"
    return f"Moved the largest values of {inputs} of linear layers into the weights (SmoothQuant)."


def _half(step: Step) -> str:
    kind, compute = step.parameters.get("dtype"), step.parameters.get("compute")
    if not isinstance(kind, str):
        return ""
    how = "and computed in it" if compute == "half" else "and computed in fp32"
    return f"Stored the weights as {words.plain(kind)} {how}."


def _exceptions(found: object) -> str:
    if not isinstance(found, Mapping) or not found:
        return " Nothing of them was left in floating point."
    shown = [f"{words.plain(name)} ({words.plain(why)})" for name, why in found.items()][:SHOWN]
    rest = len(found) - len(shown)
    more = f" and {rest} more" if rest else ""
    return f" Left in floating point: {'; '.join(shown)}{more}."


def _anything(step: Step) -> str:
    parts = [f"{words.plain(key)} {words.plain(one)}" for key, one in step.parameters.items()]
    told = f" with {', '.join(parts)}" if parts else ""
    decided = ", ".join(words.plain(key) for key in step.decisions)
    return f"Ran{told}." + (f" The manifest holds what it decided: {decided}." if decided else "")


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []


def _whole(values: Sequence[object]) -> bool:
    return all(isinstance(one, int) and not isinstance(one, bool) for one in values)


_TOLD: dict[str, Callable[[Step], str]] = {
    "teacher": _teacher,
    "finetune": _finetune,
    "distil": _distil,
    "prune.structured": _structured,
    "prune.layers": _layers,
    "prune.magnitude": _magnitude,
    "vocabulary.trim": _trim,
    "vocabulary.share": _share,
    "factorize": _factorize,
    "quantize.smooth": _smooth,
    "quantize.half": _half,
    "export": _export,
    "fuse": _fuse,
    **dict.fromkeys(
        (
            "quantize.dynamic",
            "quantize.static",
            "quantize.weights",
            "quantize.auto",
            "quantize.inc_dynamic",
            "quantize.inc_static",
            "quantize.inc_auto",
        ),
        _quantize,
    ),
}
