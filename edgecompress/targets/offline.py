"""The offline scenario: examples in padded batches, as many a second as the machine gives.

The name and the idea are those of MLCommons LoadGen: all queries are there at the start, so that
they may be sorted by length and answered in batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from edgecompress import timing
from edgecompress.disturbance import RULES
from edgecompress.models.graph import signature
from edgecompress.models.sizes import batch_names
from edgecompress.targets.base import Feeds, Job, Readings, feeds_from_rows
from edgecompress.targets.inputs import InputSettings, encoded_feeds, spread, timing_feeds
from edgecompress.targets.probe import Probe, loop_of
from edgecompress.tasks import takes_examples
from edgecompress.values import Candidate, Example, Measurement, OnnxModel

BATCHES = 8  # of different examples, as far as there are so many
LEAST_COUNT = RULES.min_pairs


@dataclass(frozen=True, eq=False)
class Offline(Probe):
    """Measure ``throughput`` (examples a second) in batches of one size, as ``batch:<batch>``.

    Examples are sorted by length before they are put into batches; too few are repeated. Where
    such batches cannot be made, the measurement says why.

    Parameters
    ----------
    batch : int
        Examples of a batch.
    """

    batch: int = field(kw_only=True)

    def measure(self) -> tuple[Measurement, ...]:
        """Ask where such batches can be made, else say why not."""
        reason = _refused(self.candidate, self.batch, self.inputs)
        if reason is None:
            return super().measure()
        part = f"batch:{self.batch}"
        return (timing.not_measured("throughput", "1/s", reason, self.target.name, part),)

    def feeds(self) -> tuple[Feeds, str]:
        """Give batches of examples, or made from the signature."""
        candidate = self.candidate
        if self.examples and takes_examples(candidate) and not self.inputs.given:
            return _padded(candidate, self.examples, self.batch), "examples"
        return _made_up(candidate, self.batch, self.inputs), "signature"

    def job(self, feeds: Feeds) -> Job:
        """Make the job: as many batches as examples are asked for take."""
        count = max(LEAST_COUNT, -(-self.clock.min_count // self.batch))
        return replace(super().job(feeds), min_count=count)

    def read(self, readings: Readings, feeds: Feeds, source: str) -> tuple[Measurement, ...]:
        """Give examples over time."""
        loop = loop_of(readings, self.target.name)
        conditions = {
            "scenario": "offline",
            "threads": self.clock.threads,
            "batch": self.batch,
            "inputs": len(feeds.items),
            "source": source,
            "warmup": readings.warmup,
            "duration_ms": round(loop.duration_ms),
        }
        if "input_ids" in feeds.arrays:
            conditions["tokens"] = sorted({row.shape[-1] for row in feeds.arrays["input_ids"]})
        measured = timing.throughput(
            readings.series[0],
            self.batch,
            loop,
            target=self.target.name,
            conditions=conditions,
            rules=self.rules,
        )
        return (measured,)


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
