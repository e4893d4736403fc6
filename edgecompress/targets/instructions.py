"""Instructions per inference on an emulated processor. Counts are not cycles."""

from __future__ import annotations

from collections.abc import Sequence

from edgecompress.targets.base import Job, JobModel, Progress, Target
from edgecompress.targets.inputs import InputSettings, timing_feeds
from edgecompress.values import Candidate, Example, Json, Measurement
from edgecompress.writing import temporary

INPUTS = 8  # lengths spread over the data's; counts of one input do not vary
KINDS = ("dot_product", "fma", "multiply_add", "load_store")


def instruction_measurements(
    candidate: Candidate,
    examples: Sequence[Example],
    target: Target,
    inputs: InputSettings | None = None,
    progress: Progress | None = None,
) -> tuple[Measurement, ...]:
    """Count the instructions of an inference, on one thread.

    Parameters
    ----------
    candidate : Candidate
        An ONNX model.
    examples : sequence of Example
        Where the lengths come from.
    target : Target
        One that measures ``instructions``.
    inputs : InputSettings, optional
        For a graph that no examples fit.
    progress : callable, optional

    Returns
    -------
    tuple of Measurement
        ``instructions`` per inference: all of them, and by kind (slices ``kind:dot_product``:
        integer dot products, ``kind:fma``, ``kind:multiply_add``: integer without dot product,
        ``kind:load_store``) as far as the emulator tells them apart. What the harness itself
        takes is counted with a model that does nothing, and left out.

    Raises
    ------
    TargetError
        When the target cannot be prepared, or the model cannot be loaded or run there.
    """
    settings = inputs or InputSettings()
    feeds, texts = timing_feeds([candidate], examples, INPUTS, settings)
    job = Job("instructions", (JobModel(candidate.model), JobModel(None)), tuple(feeds))
    with temporary() as folder:
        own, null = target.run(job, folder, progress).instructions
    count = int(own["inferences"])
    conditions: Json = {
        "threads": 1,
        "inputs": count,
        "source": settings.source(texts),
        "harness": round(null["all"] / max(int(null["inferences"]), 1)),
    }
    found = []
    for kind in ("all", *KINDS):
        if own.get(kind) is not None:
            value = (own[kind] - (null.get(kind) or 0)) / max(count, 1)
            found.append(
                Measurement(
                    "instructions",
                    float(round(value)),
                    "count",
                    target.name,
                    slice=None if kind == "all" else f"kind:{kind}",
                    samples=count,
                    conditions=conditions,
                )
            )
    return tuple(found)
