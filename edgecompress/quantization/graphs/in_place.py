"""States that a graph's attention writes into the place that it reads them from.

`GroupQueryAttention` does so when past and present are one tensor, and then takes from its lengths
alone how many of its tokens were read. A graph whose states all are of that kind says so in its
metadata, where whoever runs it can see it.
Source: ``docs/ContribOperators.md`` of ONNX Runtime, "past_present_share_buffer".
"""

from __future__ import annotations

from edgecompress.generation.states import IN_PLACE, fed_back
from edgecompress.models.storage import StoredModel

PAST, PRESENT = slice(3, 5), slice(1, 3)
"""Places of keys and values among the kernel's inputs, and among its outputs."""


def mark_states_in_place(model: StoredModel) -> bool:
    """Say in a graph's metadata that its states may lie in one place; give whether they may."""
    graph = model.proto.graph
    inputs = [value.name for value in graph.input]
    states = fed_back(inputs, [value.name for value in graph.output])
    kept = {
        pair
        for node in graph.node
        if node.op_type == "GroupQueryAttention"
        for pair in zip(node.input[PAST], node.output[PRESENT], strict=True)
    }
    found = bool(states) and {*states.items()} == kept
    if found and all(entry.key != IN_PLACE for entry in model.proto.metadata_props):
        model.proto.metadata_props.add(key=IN_PLACE, value="1")
    return found
