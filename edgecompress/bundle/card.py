"""A model card: what a bundle is, for whom, how good and how sure, from its measurements alone.

`render_card` is pure: a manifest and a run's result in, Markdown out. Its front matter has the keys
of Hugging Face's model cards, as far as the run knows their values; nothing is asked of a hub.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgecompress.bundle.manifest import Manifest
from edgecompress.errors import MissingExtraError
from edgecompress.report import blocks, evidence, words
from edgecompress.report.blocks import Block, Items, Paragraph, Section, name
from edgecompress.report.details import Slices, slices
from edgecompress.report.facts import (
    HERE,
    Facts,
    display_name,
    gather,
    quantized,
    scored,
    size_ratio,
)
from edgecompress.report.floor import floor_and_overlaps
from edgecompress.report.headline import headline
from edgecompress.report.languages import LABEL, Languages, languages
from edgecompress.report.limits import FEW, limits
from edgecompress.report.markdown import render_markdown
from edgecompress.report.table import Cell, Column, table_of
from edgecompress.report.targets import describe_targets, target_blocks
from edgecompress.results import Row, RunResult
from edgecompress.tasks import needed_extra, sample_question, task, task_names
from edgecompress.telling import in_words
from edgecompress.values import Json, Step, find
from edgecompress.words import listed

CARD = "README.md"
"""The card's name in the evidence: what file browsers and hubs show first."""

WRITTEN = (
    "Every figure and every limit here was written by edgecompress from what was measured; nothing "
    "was added by hand."
)
_USES = {
    "train": "learning and calibration",
    "validation": "choosing and stopping",
    "test": "the figures below, read once at the end",
}
_TAGS = {"quantize.": "int8", "prune.": "pruned", "distil": "distilled"}
_SPDX = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]*")


def write_card(folder: Path, manifest: Manifest, result: RunResult) -> str:
    """Give the card of the bundle in `folder`, whose core is written already.

    Raises
    ------
    DataError
        When the bundle's tokenizer cannot be read.
    MissingExtraError
        When PyYAML or Babel is not installed.
    """
    longest = None
    if manifest.preprocessor and manifest.task:
        from edgecompress.tasks import load_processor

        processor = load_processor(manifest.task, folder / manifest.preprocessor)
        longest = getattr(processor, "max_length", None)
    return render_card(manifest, result, longest=longest)


def render_card(manifest: Manifest, result: RunResult, *, longest: int | None = None) -> str:
    """Write the card of the model that `result` chose.

    Parameters
    ----------
    manifest : Manifest
        Of the bundle.
    result : RunResult
        The run that made it.
    longest : int, optional
        Pieces of its tokenizer that the model reads at once.

    Returns
    -------
    str
        Markdown under a front matter in YAML. Text from outside (names, reasons) is escaped.

    Raises
    ------
    MissingExtraError
        When PyYAML or Babel is not installed.
    """
    facts = gather(result)
    row = facts.winner or Row(manifest.name, "candidate")
    row = replace(row, steps=_steps(manifest, row))
    base = facts.teacher or facts.reference
    spoken = languages(result, row)
    parts = slices(replace(facts, teacher=base), row)
    parts = tuple(_named(one, spoken) for one in parts)
    told = limits(result, facts, row, manifest.labels, parts, spoken, longest)
    found = headline(result, facts)
    lead = f"It is {found.detail}." if found.detail else ""
    verdict = blocks.Head(found.sentence, lead, found.badge)
    uneven = [block for one in parts for block in _uneven(one, display_name(base) if base else "")]
    alone = Paragraph("The figures were not taken apart: the data has one part only, or none.")
    missing = tuple(evidence.missing(facts, row))
    whole = Paragraph("Everything that this run measures is there and valid.")
    page = blocks.Page(
        manifest.name,
        verdict if facts.winner else blocks.Head(manifest.name),
        (Paragraph(WRITTEN),),
        (
            Section("What it is", tuple(_about(manifest, facts, row))),
            Section("For whom", (Paragraph(_purpose(manifest, facts, spoken)),)),
            Section("Data", tuple(_data(manifest, result))),
            Section(
                "How it was measured",
                (
                    Items(tuple(evidence.method(result, facts, row))),
                    *target_blocks(describe_targets(result, facts)),
                ),
            ),
            Section("The numbers", tuple(_numbers(result, facts, row))),
            Section("Differences between parts of the data", tuple(uneven) or (alone,)),
            Section("Answers on other processors", (Items(tuple(evidence.elsewhere(facts, row))),)),
            Section("Not measured, or not valid", (Items(missing) if missing else whole,)),
            Section("Limits", (Items(told),)),
            Section("How to run it", tuple(_use(result))),
        ),
    )
    front = front_matter(manifest, facts, row, spoken, result.recipe.get("data"))
    return f"---\n{front}---\n\n{render_markdown(page, titled=True)}"


def _about(manifest: Manifest, facts: Facts, row: Row) -> Iterator[Block]:
    known = _facts(manifest, facts, row)
    yield Items(tuple(f"{title}: {text}" for title, text in known if text))
    if row.steps:
        yield Paragraph("How it was made, with what each step decided:")
        steps = (f"{name(step.stage)}: {in_words(step)}" for step in row.steps)
        yield Items(tuple(steps), ordered=True)


def _numbers(result: RunResult, facts: Facts, row: Row) -> Iterator[Block]:
    tables = [*evidence.tables(result, facts, row)]
    for table in tables:
        yield from (blocks.Heading(table.caption), table)
    if not tables:
        yield Paragraph("Nothing was measured of this model.")


def _uneven(slices: Slices, base: str) -> Iterator[Block]:
    lines = []
    for one in slices.lines:
        samples, *figures = one.cells
        few = "*" * (one.after.samples < FEW)
        lines.append((one.name, (replace(samples, text=f"{samples.text}{few}"), *figures)))
    heads = ("examples", base, "this model", "difference")
    columns = (Column(head, head) for head in heads)
    yield table_of(slices.heading, slices.heading, columns, lines)
    note = f"{slices.metric} on {slices.split}, in points; "
    if all(one.lost and one.lost.interval for one in slices.lines):
        note += "small figures are the 95 % interval of a difference, and one that holds 0 may be "
        note += "chance."
    else:
        note += "these differences have no interval, and small ones may be chance."
    if any(one.after.samples < FEW for one in slices.lines):
        note += f" * Fewer than {FEW} examples: chance alone can move the figure by 10 points and "
        note += "more."
    yield Paragraph(note)


def _use(result: RunResult) -> Iterator[Block]:
    extra = needed_extra(result.task)
    asked = sample_question(result.task)
    beside = f", with the extra {extra}" if extra else ""
    yield Paragraph(
        "Where edgecompress is installed (its base install: onnxruntime, tokenizers, numpy and "
        f"click; no torch{beside}), from the bundle's folder:"
    )
    shell = f'edgecompress bundle verify .\nedgecompress predict . "{asked}"'
    yield blocks.Code(shell, language="sh")
    python = f'import edgecompress\n\nedgecompress.load(".").predict("{asked}")'
    yield blocks.Code(python, language="python")
    made = f" Made by {name(result.command)}." if result.command else ""
    yield Paragraph(
        f"Beside this card lie {name('measurements.json')}, every number with its conditions, and "
        f"{name('report.html')}, where one was drawn. {name('manifest.json')} in the folder above "
        f"holds the recipe, the decisions and all digests.{made}"
    )


def front_matter(
    manifest: Manifest, facts: Facts, row: Row, spoken: Languages, data: object = None
) -> str:
    """Give the YAML of a model card, with only what is known; `data` is the recipe's.

    Source: the keys of huggingface_hub's `ModelCardData`.
    """
    document: Json = {}
    if spoken.known:
        codes = sorted(one.code for one in spoken.known)
        document["language"] = codes[0] if len(codes) == 1 else codes
    licence = manifest.licences.get("model")
    if isinstance(licence, str) and licence:
        named = bool(_SPDX.fullmatch(licence))
        document["license"] = licence.lower() if named else "other"
        if not named:
            document["license_name"] = words.plain(licence)
    document["library_name"] = "onnx"
    if manifest.task:
        document["pipeline_tag"] = manifest.task
    tags = [name for prefix, name in _TAGS.items() if any(
        step.stage.startswith(prefix) for step in row.steps)]  # fmt: skip
    document["tags"] = ["onnx", "onnxruntime", "edgecompress", *tags]
    if results := _results(manifest, facts, row, data):
        document["metrics"] = [metric["type"] for metric in results["metrics"]]
        document["model-index"] = [{"name": manifest.name, "results": [results]}]
    try:
        import yaml
    except ImportError:
        raise MissingExtraError("pyyaml") from None
    return str(yaml.safe_dump(document, sort_keys=False, allow_unicode=True))


def _dataset(manifest: Manifest, data: object) -> str:
    """Name the data: the folder that it lies in, or its test files."""
    known = data if isinstance(data, Mapping) else {}
    if known.get("format") == "cldr":
        return "Unicode CLDR"
    recorded = manifest.inputs.get("data")
    test = recorded.get("test") if isinstance(recorded, Mapping) else None
    files = _file_names(test.get("files") if isinstance(test, Mapping) else None)
    name = words.plain(known.get("root") or "").rpartition("/")[2].strip(".")
    return name or (files if files != words.MISSING else "unnamed")


def _results(manifest: Manifest, facts: Facts, row: Row, data: object) -> Json | None:
    """Give the scores on test as an entry of a model index; None where there is none."""
    if manifest.task not in task_names():
        return None
    names = [one.name for one in task(str(manifest.task)).metrics]
    found = [(name, scored(row, name, facts, "test")) for name in names]
    metrics = [
        {"type": one.metric, "value": round(one.value, 4), "name": words.title(name)}
        for name, one in found
        if one is not None and not one.invalid
    ]
    if not metrics:
        return None
    name = _dataset(manifest, data)
    return {
        "task": {"type": manifest.task},
        # A hub wants an identifier as the type; a format's name could be another set's there.
        "dataset": {"name": name, "type": name, "split": "test"},
        "metrics": metrics,
    }


def _steps(manifest: Manifest, row: Row) -> tuple[Step, ...]:
    """Give the bundle's steps; the run's own, which hold timings too, where they are the same."""
    same = [one.stage for one in row.steps] == [one.stage for one in manifest.steps]
    return row.steps if same else manifest.steps


def _named(table: Slices, spoken: Languages) -> Slices:
    """Name the lines of a table by the languages that they are."""
    prefix = LABEL if table.heading == "Label" else "file:"
    if prefix != spoken.prefix:
        made = table.heading == "Data file" and spoken.prefix == LABEL  # CLDR's have no files
        return replace(table, heading="Kind of text") if made else table
    lines = tuple(replace(one, name=spoken.name(one.name, prefix)) for one in table.lines)
    return replace(table, heading="Language", lines=lines)


def _facts(manifest: Manifest, facts: Facts, row: Row) -> Iterator[tuple[str, str]]:
    """Give names and texts (Markdown) of what stands first; an empty text is left out."""
    yield "Task", _does(manifest) or manifest.task or "not known"
    labels = [name(one) for one in manifest.labels]
    yield f"Labels ({len(labels)})", listed(labels, 40)
    size = find(row.measurements, "size")
    ratio = size_ratio(row, facts.reference)
    smaller = f", {words.times(ratio)}× smaller than the fp32 export" if ratio else ""
    yield "Size", f"{words.measured(size)} of model files{smaller}" if size else ""
    yield "Teacher", _teacher(manifest, facts)
    yield "Arithmetic", "8-bit integers where the steps below say so" * quantized(row.steps)
    session = manifest.session
    off = f", without {', '.join(session.disabled_optimizers)}" * bool(session.disabled_optimizers)
    entries = "".join(f", {key}={value}" for key, value in session.config_entries)
    level = f"graph optimization {session.graph_optimization_level}"
    yield "Runs in", f"ONNX Runtime on a CPU ({level}{off}{entries})"
    version = manifest.code.get("version") or manifest.versions.get("edgecompress")
    digest = manifest.code.get("digest")
    source = f", source {name(_short(digest))}" if isinstance(digest, str) else ""
    yield "Made by", f"edgecompress {version}{source}" if version else ""
    licence = manifest.licences.get("model")
    unknown = "not recorded; the recipe's `licences.model` is where to say it"
    yield "Licence", str(licence) if licence else unknown


def _does(manifest: Manifest) -> str:
    """Say what models of the bundle's task do; empty where that is not known."""
    return task(str(manifest.task)).does if manifest.task in task_names() else ""


def _teacher(manifest: Manifest, facts: Facts) -> str:
    given = manifest.recipe.get("teacher")
    known = given if isinstance(given, Mapping) else {}
    made = manifest.inputs.get("teacher")
    digest = made.get("digest") if isinstance(made, Mapping) else None
    model = known.get("model") or known.get("bundle")
    parts = [name(model) if model else "a new model, trained by this recipe" * ("new" in known)]
    if known.get("finetune") is not None and model:
        parts.append("fine-tuned by this recipe")
    size = find(facts.teacher.measurements, "size") if facts.teacher else None
    parts.append(words.measured(size) if size else "")
    parts.append(f"SHA-256 {name(_short(digest))}" if isinstance(digest, str) else "")
    return ", ".join(filter(None, parts))


def _purpose(manifest: Manifest, facts: Facts, spoken: Languages) -> str:
    """Say what it can be used for, no further than it was measured."""
    does = _does(manifest) or "gives numbers for numbers: its task is not known"
    tongues = f" in {listed([one.name for one in spoken.known], 30)}" if spoken.known else ""
    here = "the machine that ran the recipe"
    where = listed([here if one == HERE else words.plain(one) for one in facts.targets], 8)
    asked = f" It was measured on {where}." if where else ""
    return (
        f"For programs that run on a CPU without a network and need what this model does: it "
        f"{does}{tongues}, for texts like those it was tested on.{asked} Whether it is good enough "
        "for a purpose is for the tables below and your own data to say."
    )


def _splits(manifest: Manifest, result: RunResult) -> Iterator[Block]:
    recorded = manifest.inputs.get("data")
    known = recorded if isinstance(recorded, Mapping) else {}
    lines = []
    for split, use in _USES.items():
        one = known.get(split)
        entry: Mapping[str, Any] = one if isinstance(one, Mapping) else {}
        count = entry.get("examples") or (result.data.get("splits") or {}).get(split)
        digest = entry.get("digest") or (result.data.get("digests") or {}).get(split)
        if count or digest:
            examples = f"{count:,}" if isinstance(count, int) else words.MISSING
            short = name(_short(digest)) if isinstance(digest, str) else words.MISSING
            texts = (use, examples, _file_names(entry.get("files")), short)
            lines.append((split, map(Cell, texts)))
    if lines:
        columns = (
            Column("use", "used for", kind="words"),
            Column("examples", "examples"),
            Column("files", "files", kind="words"),
            Column("digest", "SHA-256", kind="words"),
        )
        yield table_of("Data", "split", columns, lines)


def _file_names(files: object) -> str:
    if not isinstance(files, list | tuple) or not files:
        return words.MISSING
    return listed([words.plain(one.get("name")) for one in files if isinstance(one, Mapping)], 6)


def _data(manifest: Manifest, result: RunResult) -> Iterator[Block]:
    yield from _splits(manifest, result)
    yield Items((*_sources(manifest, result), *floor_and_overlaps(result)))


def _sources(manifest: Manifest, result: RunResult) -> Iterator[str]:
    data = manifest.recipe.get("data")
    form = data.get("format") if isinstance(data, Mapping) else None
    if form == "cldr":
        yield (
            "Strings of Unicode's CLDR, as the package Babel carries them: names of countries, "
            "languages, currencies and the like, each labelled with its language."
        )
    elif form:
        yield f"Format: {words.plain(form)}."
    for what in ("columns", "splits drawn"):
        if said := result.data.get(what):
            yield f"{what.capitalize()}: {words.plain(said)}."
    if not result.data and not data:
        yield "None: the model was measured on inputs made from its signature."
    licence = manifest.licences.get("data")
    yield f"Licence of the data: {words.plain(licence) if licence else 'not recorded'}."
    sets = manifest.inputs.get("calibration")
    for one in [sets] if isinstance(sets, Mapping) else sets if isinstance(sets, list) else ():
        if isinstance(one, Mapping):
            parts = [f"{key} {_short(str(value))}" for key, value in one.items() if key != "name"]
            yield f"Calibration set {words.plain(one.get('name'))}: {', '.join(parts)}."


def _short(digest: str) -> str:
    """Shorten a digest; the manifest holds it whole."""
    return f"{digest[:16]}…" if re.fullmatch(r"[0-9a-f]{40,}", digest) else digest
