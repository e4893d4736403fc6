"""The offline scenario: examples in padded batches, as many a second as the machine gives.

The name and the idea are those of MLCommons LoadGen: all queries are there at the start, so that
they may be sorted by length and answered in batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from edgecompress import timing
from edgecompress.disturbance import RULES, Rules
from edgecompress.errors import TargetError
from edgecompress.models.graph import signature
from edgecompress.models.sizes import batch_names
from edgecompress.targets.base import Clock, Feeds, Job, JobModel, Progress, Target, feeds_from_rows
from edgecompress.targets.inputs import InputSettings, encoded_feeds, spread, timing_feeds
from edgecompress.tasks import takes_examples
from edgecompress.values import Candidate, Example, Measurement, OnnxModel
from edgecompress.writing import temporary

BATCHES = 8  # of different examples, as far as there are so many
LEAST_COUNT = RULES.min_pairs


def offline_measurement(
    candidate: Candidate,
    examples: Sequence[Example],
    batch: int,
    clock: Clock,
    target: Target,
    *,
    inputs: InputSettings | None = None,
    rules: Rules = RULES,
    progress: Progress | None = None,
) -> Measurement:
    """Measure ``throughput`` (examples a second) of a candidate in batches of one size.

    Parameters
    ----------
    candidate : Candidate
    examples : sequence of Example
        Sorted by length before they are put into batches; too few are repeated.
    batch : int
        Examples of a batch.
    clock : Clock
    target : Target
    inputs : InputSettings, optional
        What to feed instead of examples.
    rules : Rules
    progress : callable, optional

    Returns
    -------
    Measurement
        With the slice ``batch:<batch>``; invalid where such batches cannot be made.

    Raises
    ------
    TargetError
        When the model cannot be loaded or run there.
    """
    settings = inputs or InputSettings()
    refused = _refused(candidate, batch, settings)
    if refused is not None:
        return timing.not_measured("throughput", "1/s", refused, target.name, f"batch:{batch}")
    if settings.given or not examples or not takes_examples(candidate):
        feeds, source = _made_up(candidate, batch, settings), "signature"
    else:
        feeds, source = _padded(candidate, examples, batch), "examples"
    count = max(LEAST_COUNT, -(-clock.min_count // batch))
    fields = replace(clock, min_count=count).fields()
    job = Job("time", (JobModel(candidate.model),), (feeds,), **fields)
    with temporary() as folder:
        readings = target.run(job, folder, progress)
    if readings.loop is None:
        raise TargetError(f"{target.name}: the readings hold no timing loop")
    conditions = {
        "scenario": "offline",
        "threads": clock.threads,
        "batch": batch,
        "inputs": len(feeds.items),
        "source": source,
        "warmup": readings.warmup,
        "duration_ms": round(readings.loop.duration_ms),
    }
    if "input_ids" in feeds.arrays:
        conditions["tokens"] = sorted({row.shape[-1] for row in feeds.arrays["input_ids"]})
    return timing.throughput(
        readings.series[0],
        batch,
        readings.loop,
        target=target.name,
        conditions=conditions,
        rules=rules,
    )


def _refused(candidate: Candidate, batch: int, settings: InputSettings) -> str | None:
    if not isinstance(candidate.model, OnnxModel):
        return None
    if settings.file is not None:
        return "batches: the inputs are given as they are; leave batches or the file out"
    if not batch_names(signature(candidate.model)):
        sizes = [spec.shape[0] for spec in signature(candidate.model) if spec.shape]
        fixed = next((size for size in sizes if isinstance(size, int)), 1)
        if fixed != batch:
            return (
                f"batches: the graph's batch is fixed at {fixed}; export it with an open batch "
                f"axis, or leave {batch} out of batches"
            )
    return None


def _made_up(candidate: Candidate, batch: int, settings: InputSettings) -> Feeds:
    if isinstance(candidate.model, OnnxModel):
        symbols = batch_names(signature(candidate.model))
        sizes = {**settings.sizes, **dict.fromkeys(symbols, batch)}
        settings = InputSettings(sizes=sizes, bounds=settings.bounds)
    return timing_feeds([candidate], (), BATCHES, settings)[0][0]


def _padded(candidate: Candidate, examples: Sequence[Example], batch: int) -> Feeds:
    """Put examples of similar length together; the batches' lengths are spread like all."""
    few = len(examples)
    wanted = batch * BATCHES
    if few > wanted:  # evenly over all of them
        examples = [examples[k * few // wanted] for k in range(wanted)]
    _, made, names = encoded_feeds(candidate, examples)
    rows = sorted(range(len(made)), key=lambda row: (made.lengths[row], row))
    if len(rows) < batch:
        rows = sorted(rows * -(-batch // len(rows)), key=rows.index)[:batch]
    groups = [rows[k : k + batch] for k in range(0, len(rows) - batch + 1, batch)]
    batches = [made.batch(group, names) for group in groups]
    lengths = [int(made.lengths[group].max()) for group in groups]
    chosen = [batches[k] for k in spread(lengths, len(batches))]
    return feeds_from_rows(chosen, range(len(batches)))
