"""What each field of ``results.json`` means: the JSON Schema and docs/results.md both read this."""

from __future__ import annotations

DESCRIPTIONS: dict[str, dict[str, str]] = {
    "RunResult": {
        "name": "The recipe's name.",
        "task": "`token-classification`, `text-classification`, or null where there is none.",
        "recipe": "The recipe as it was run; local folders are shortened to their last part.",
        "rows": "One row per candidate and per reference.",
        "winner": "Name of the chosen row; null when no candidate keeps the budget.",
        "verdict": "The budget's verdict: the winner's, or that of the nearest candidate.",
        "minimize": "What was minimized within the budget: a metric, perhaps `metric@target`.",
        "budget": "The limits that a candidate had to keep; empty when none was set.",
        "environment": "CPU with its flags, memory, operating system and library versions of the "
        "machine that ran the recipe; `targets` describes each target in the same way, or holds "
        "an `error` that says why it could not be described.",
        "data": "Examples per split, and digests of every split and of the teacher; `floor`: what "
        "it answers and the split that was counted for it; `overlaps`: for every two splits how "
        "many texts of one stand in the other, `exact` and `normalised`; `quoted`: how many texts "
        "of validation and test share six words in a row with a corpus; `columns`: which columns "
        "of the files were read; `splits drawn`: how splits were drawn from train.",
        "command": "The command that made this result.",
        "format": "Number of this format, 1. A larger number cannot be read by this version.",
        "floor": "Name of the row that answers every example alike, such as «always the most "
        "frequent class»; null where nothing was scored.",
        "started": "When the run began, ISO 8601 in UTC; empty where that is not known.",
        "seconds": "How long the run took, in seconds; what came from the store took no time.",
        "answers": "What the chosen model (or the nearest) and the teacher answered where which "
        "class was right: `split`, `counted` (`words` or `examples`), `classes`, and `rows`: by "
        "name a matrix of counts, a line per right class. Of tagged words the classes are the "
        "types of entities. Empty where there is nothing to count.",
    },
    "Row": {
        "name": "Unique name. References: `teacher`, `onnx-fp32`, `onnx-fp32-tuned`, and the one "
        "that `floor` of the result names.",
        "kind": "`candidate` or `reference`.",
        "chain": "The stages of its chain, in order.",
        "steps": "What each stage did, replayable.",
        "measurements": "All that was measured of the finished model.",
        "error": "Why its chain failed; null when it was finished.",
        "verdicts": "One verdict per limit of the budget, on validation; and one of the limit "
        "`floor` where the row, or the teacher behind it, does not beat the floor.",
        "pareto": "Whether no other candidate beats it on size, p50 latency and accuracy together.",
        "lost": "Why it was not chosen; null for the winner and for references.",
        "tried": "Whether its chain was run to its end; false where the time was over.",
        "stages": "What was measured after each stage: `stage`, `seconds`, `size` (bytes), "
        "`latency_p50` (ms), `speedup` and the task's scores on validation; each may be absent.",
    },
    "Step": {
        "stage": "The stage's name, such as `quantize.static`.",
        "parameters": "Its hyper-parameters, defaults filled in.",
        "decisions": "What it decided by measuring: heads kept, fusions kept, exceptions …",
        "seconds": "How long it took, in seconds (0 when that was not recorded).",
        "key": "The store's key of its result: SHA-256 over all that it depends on; may be empty.",
        "measured": "The timings by which it decided: those of `fuse`'s variants, by name.",
    },
    "Measurement": {
        "metric": "What was measured; see the metrics below.",
        "value": "In `unit`; null when it was not a finite number, and then `invalid` says why.",
        "unit": "`fraction` (0–1), `ms`, `bytes`, `x` (a ratio), `count`, `1/s`, `mJ` or `°C`.",
        "target": "Where it was measured: a name of the fleet, `local`, `ssh://…`, `emulated://…`; "
        "null where that does not matter.",
        "split": "`validation` (what chose) or `test` (read once); null without data.",
        "slice": "null for all data and the main settings, else the part: `label:NAME`, "
        "`file:NAME`, `threads:4`, `arena:off`, `batch:8`, `operator:MatMul`, `kind:fma`.",
        "samples": "How many readings (inferences, examples) stand behind the value.",
        "interval": "95 % confidence interval `[low, high]` in `unit`, or null.",
        "invalid": "Why the number must not be trusted and what to do; null when it is sound.",
        "conditions": "What one must know to repeat it: threads, batch size, reference of a ratio.",
    },
    "Verdict": {
        "limit": "The limit's name, such as `latency_p50@local` or `f1 by file`, or `budget` for "
        "all of them.",
        "state": "`pass`, `fail`, or `undecided` (a measurement is missing or invalid).",
        "reason": "Why, in words.",
        "miss": "How far beyond the bound, as a share of the bound; 0 when it passes; null when "
        "there is nothing to compare.",
    },
    "Limit": {
        "metric": "The metric that is bounded.",
        "target": "Where, for metrics that depend on it; null elsewhere.",
        "max": "Largest value allowed, in the metric's unit.",
        "min": "Smallest value allowed, in the metric's unit.",
        "max_drop": "How much worse than the teacher's the value may be, in the metric's unit: "
        "under it where higher is better, else over it.",
        "max_ratio": "Largest value allowed as a multiple of the teacher's.",
        "min_ratio": "Smallest value allowed as a multiple of the teacher's.",
        "each": "`file` or `label` where the bounds hold for every data file, or label, by itself; "
        "null where they hold for all together.",
    },
}
NULLABLE = {("Measurement", "value"), ("Verdict", "miss")}
"""Numbers that are null in the file when they are not finite."""
