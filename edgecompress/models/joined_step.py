"""The body of the loop in a joined graph: the decoder, and what takes the token it gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from edgecompress.modules.decoding import Decoding

DECODER = "decoder"
CACHE, NEXT = "past_key_values.", "present."
TIMES = "timestamps"
"""Input of a graph that may write times, false where it is left out: whether it does."""
INFINITE = np.float32(-np.inf)
WHOLE, YES, REAL = TensorProto.INT64, TensorProto.BOOL, TensorProto.FLOAT


@dataclass
class Making:
    """Nodes and weights in the making; `constant` and `node` give the names of what they make."""

    nodes: list[NodeProto] = field(default_factory=list)
    weights: list[TensorProto] = field(default_factory=list)

    def constant(self, name: str, value: Any, dtype: Any = np.int64) -> str:
        """Put a weight there."""
        self.weights.append(numpy_helper.from_array(np.array(value, dtype), name))
        return name

    def node(self, kind: str, inputs: Sequence[str], output: str, **given: Any) -> str:
        """Put a node there that makes one value."""
        self.nodes.append(helper.make_node(kind, list(inputs), [output], f"/{output}", **given))
        return output


def after(state: Any) -> str:
    """Give the output that a state is fed from."""
    return str(state.name).replace(CACHE, NEXT)


def write_masks(main: Making, how: Decoding, pieces: int) -> None:
    """Make what is added to the logits at each step: float (steps, pieces), 0 or minus infinity."""
    shape = main.constant("pieces", [pieces])

    def filled(name: str, value: np.float32) -> str:
        tensor = numpy_helper.from_array(np.array([value], np.float32))
        return main.node("ConstantOfShape", [shape], name, value=tensor)

    def changed(base: str, tokens: Sequence[int], value: np.float32, name: str) -> str:
        ids = main.constant(f"{name}_ids", tokens)
        values = main.constant(f"{name}_values", [value] * len(tokens), np.float32)
        return main.node("ScatterElements", [base, ids, values], name, axis=0)

    rows = []
    if how.forced:
        closed = filled("closed", INFINITE)
        for number, allowed in enumerate(how.forced):
            rows.append(changed(closed, allowed, np.float32(0), f"forced_{number}"))
    usual = changed(filled("open", np.float32(0)), how.suppressed, INFINITE, "usual")
    rows += [changed(usual, how.first_suppressed, INFINITE, "first"), usual]
    axis = main.constant("first_axis", [0])
    main.constant("last_row", len(rows) - 1)
    each = [main.node("Unsqueeze", [row, axis], f"{row}_row") for row in rows]
    main.node("Concat", each, "masks", axis=0)


def write_times(main: Making, how: Decoding, pieces: int) -> None:
    """Make what the rules of times read at each step: which tokens are times, bool (pieces,)."""
    main.constant(TIMES, False, bool)
    main.constant("time_step", len(how.forced) - 1)
    main.constant("first_time", how.times)
    numbers = [main.constant(f"time_{name}", value) for name, value in
               (("from", 0), ("to", pieces), ("by", 1))]  # fmt: skip
    main.node("Range", numbers, "every_token")
    main.node("GreaterOrEqual", ["every_token", "first_time"], "is_time")
    main.node("Not", ["is_time"], "no_time")
    main.node("Less", ["every_token", "end"], "is_words")
    main.constant("untimed", how.untimed)
    main.node("Equal", ["every_token", "untimed"], "is_untimed")
    last = pieces if how.latest_first is None else (how.times or 0) + how.latest_first
    main.node("Greater", ["every_token", main.constant("latest_first", last)], "is_late")
    main.node("Or", ["no_time", "is_late"], "not_first")
    main.constant("no_chance", 0, np.float32)
    main.constant("impossible", INFINITE, np.float32)


def write_beginning(main: Making, how: Decoding, states: Sequence[Any], batch: str) -> list[str]:
    """Make what the first step is given: the token before all others, and empty caches."""
    one = main.constant("one", [1])
    column = main.node("Concat", [batch, one], "column", axis=0)
    carried = [
        main.node("Expand", [main.constant("start", [[how.start]]), column], "starts"),
        main.node("Expand", [main.constant("no", False, bool), batch], "not_done"),
    ]
    if how.times is not None:
        none = main.constant("no_times", how.times - 1)
        carried += ["not_done", "not_done", main.node("Expand", [none, batch], "no_time_yet")]
    empty: dict[tuple[int, ...], str] = {}
    for state in states:
        sizes = tuple(one.dim_value for one in state.type.tensor_type.shape.dim[1:])
        if sizes not in empty:  # the one open axis becomes 0
            number = len(empty)
            shape = [batch, main.constant(f"cache_{number}_sizes", sizes)]
            whole = main.node("Concat", shape, f"cache_{number}_shape", axis=0)
            kind = helper.tensor_dtype_to_np_dtype(state.type.tensor_type.elem_type)
            zero = numpy_helper.from_array(np.zeros(1, kind))
            empty[sizes] = main.node("ConstantOfShape", [whole], f"cache_{number}", value=zero)
        carried.append(empty[sizes])
    return carried


def step_body(decoder: GraphProto, states: Sequence[Any], how: Decoding) -> GraphProto:
    """Make the step: the decoder, and what takes the likeliest token that is allowed."""
    body = Making(list(decoder.node))
    logits = body.node("Squeeze", [f"{DECODER}logits", "one"], "step_logits")
    logits = body.node("Cast", [logits], "step_floats", to=REAL)
    timed = how.times is not None
    body.node("Min", [_timed_row(body) if timed else "step", "last_row"], "row")
    body.node("Gather", ["masks", "row"], "mask", axis=0)
    body.node("Add", [logits, "mask"], "masked" if timed else "allowed")
    if timed:
        _timed(body)
    body.node("ArgMax", ["allowed"], "best", axis=1, keepdims=0)
    body.node("Where", ["done", "end", "best"], "token")
    if timed:
        body.node("GreaterOrEqual", ["token", "first_time"], "was_time_now")
        body.node("Or", ["was_time", "time_first"], "two_before_now")
        body.node("Where", ["was_time_now", "token", "last_time"], "last_time_now")
    body.node("LogSoftmax", ["allowed"], "likely", axis=1)
    body.node("ReduceMax", ["likely", "one"], "score", keepdims=0)
    body.node("Equal", ["token", "end"], "ended")
    body.node("Or", ["done", "ended"], "done_now")
    body.node("Cast", ["done_now"], "done_numbers", to=TensorProto.INT32)
    body.node("ReduceMin", ["done_numbers"], "all_done", keepdims=0)
    body.node("Cast", ["all_done"], "stop", to=YES)
    body.node("Not", ["stop"], "go_on")
    body.node("Unsqueeze", ["token", "one"], "tokens_now")
    value = helper.make_tensor_value_info
    inputs = [
        value("step", WHOLE, []), value("going_on", YES, []),
        value(f"{DECODER}input_ids", WHOLE, ["batch_size", 1]), value("done", YES, ["batch_size"]),
    ]  # fmt: skip
    outputs = [
        value("go_on", YES, []),
        value("tokens_now", WHOLE, ["batch_size", 1]), value("done_now", YES, ["batch_size"]),
    ]  # fmt: skip
    for name, kind in (("was_time", YES), ("two_before", YES), ("last_time", WHOLE)):
        if timed:
            inputs.append(value(name, kind, ["batch_size"]))
            outputs.append(value(f"{name}_now", kind, ["batch_size"]))
    for state in states:
        kind, shape = state.type.tensor_type.elem_type, state.type.tensor_type.shape.dim
        sizes = [one.dim_value or one.dim_param for one in shape]
        later = [one.dim_value or (one.dim_param if not axis else "read")
                 for axis, one in enumerate(shape)]  # fmt: skip
        inputs.append(value(f"{DECODER}{state.name}", kind, sizes))
        outputs.append(value(f"{DECODER}{after(state)}", kind, later))
    outputs += [value("token", WHOLE, ["batch_size"]), value("score", REAL, ["batch_size"])]
    return helper.make_graph(body.nodes, "step", inputs, outputs)


def _timed_row(body: Making) -> str:
    """Leave the step out at which it is forced that no times are written, where they are."""
    body.node("GreaterOrEqual", ["step", "time_step"], "past_forced")
    body.node("And", ["past_forced", TIMES], "timing")
    body.node("Cast", ["timing"], "skipped", to=WHOLE)
    return body.node("Add", ["step", "skipped"], "timed_step")


def _timed(body: Making) -> None:
    """Close what the rules of times forbid: they come in pairs, rise, and come where they are due.

    Source: Radford et al., 2022, "Robust Speech Recognition via Large-Scale Weak Supervision",
    `ApplyTimestampRules` of the code beside it; transformers' `WhisperTimeStampLogitsProcessor`.
    """
    body.node("Equal", ["step", "time_step"], "time_first")
    rules = Making()
    column = {name: rules.node("Unsqueeze", [name, "one"], f"{name}_column")
              for name in ("was_time", "two_before", "last_time")}  # fmt: skip
    rules.node("Not", [column["two_before"]], "before_was_words")
    # Behind a pair come words; behind a single one, which ends a segment, the next or the end.
    rules.node("And", [column["was_time"], column["two_before"]], "paired")
    rules.node("And", [column["was_time"], "before_was_words"], "single")
    rules.node("And", ["paired", "is_time"], "third")
    rules.node("And", ["single", "is_words"], "words_between")
    # A segment may begin where the one before it ends, and has some length.
    rules.node("Cast", ["single"], "may_equal", to=WHOLE)
    rules.node("Sub", [column["last_time"], "may_equal"], "latest")
    rules.node("LessOrEqual", ["every_token", "latest"], "not_later")
    rules.node("And", ["not_later", "is_time"], "back")
    rules.node("And", ["time_first", "not_first"], "wrong_first")
    closed = "is_untimed"
    for number, one in enumerate(("third", "words_between", "back", "wrong_first")):
        closed = rules.node("Or", [one, closed], f"forbidden_{number}")
    rules.node("Where", [closed, "impossible", "masked"], "ruled")
    # Where a time is likelier than any word, whichever time it is, one is taken.
    rules.node("Softmax", ["ruled"], "chances", axis=1)
    rules.node("Where", ["is_time", "chances", "no_chance"], "times_chances")
    rules.node("Where", ["is_time", "no_chance", "chances"], "words_chances")
    rules.node("ReduceSum", ["times_chances", "one"], "any_time", keepdims=1)
    rules.node("ReduceMax", ["words_chances", "one"], "any_word", keepdims=1)
    rules.node("Greater", ["any_time", "any_word"], "due")
    rules.node("And", ["due", "no_time"], "late_words")
    rules.node("Where", ["late_words", "impossible", "ruled"], "timed_allowed")
    value = helper.make_tensor_value_info
    sizes = ["batch_size", "pieces"]
    plain = Making()
    plain.node("Identity", ["masked"], "plain_allowed")
    branches = {
        "then_branch": helper.make_graph(
            rules.nodes, "with_times", [], [value("timed_allowed", REAL, sizes)]
        ),
        "else_branch": helper.make_graph(
            plain.nodes, "without_times", [], [value("plain_allowed", REAL, sizes)]
        ),
    }
    body.node("If", ["timing"], "allowed", **branches)
