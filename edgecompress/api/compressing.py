"""Compressing a model with nothing but the model and a file of data."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from edgecompress.api.arguments import StrPath, StrPaths, reporting, several
from edgecompress.api.running import Run
from edgecompress.engine.found_data import look_at_data
from edgecompress.engine.found_model import look_at_model
from edgecompress.engine.proposal import answered, checked, proposed, write_recipe
from edgecompress.engine.run import run as run_recipe
from edgecompress.engine.run_directory import prepare_output
from edgecompress.errors import ArgumentError
from edgecompress.progress import Reporter
from edgecompress.store import Store, default_store
from edgecompress.writing import writing_into
from edgecompress.yamlfile import Settings, apply_settings

RECIPE, ANSWERS = "recipe.yaml", "answered.jsonl"
SECONDS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def compress(
    model: StrPath,
    output: StrPath,
    *,
    data: StrPath,
    task: str | None = None,
    format: str | None = None,
    columns: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    validation: StrPaths = (),
    test: StrPaths = (),
    max_drop: str = "1%",
    max_size: str | None = None,
    max_latency: str | None = None,
    time: str | None = None,
    settings: Settings = (),
    store: StrPath | None = None,
    progress: bool | Reporter = True,
) -> Run:
    """Make `model` as small as it gets on your data, without a recipe of your own.

    The model and the file say what the task, the labels and the columns are; what they leave open
    is asked for. The recipe is written to OUTPUT/recipe.yaml and run: int8 first, then pruning
    without training, then smaller students that are taught. Ctrl-C, and the end of `time`, choose
    among what is done. Exit codes are those of `edgecompress run`.

    Parameters
    ----------
    model : path or str
        A Hugging Face directory or hub id, or a directory with an ONNX file beside config.json and
        a tokenizer, of which int8 and 4-bit forms are tried. Of an ONNX file alone, and of a graph
        whose task is not known, only size and speed are judged.
    output : path
        Directory to write: recipe.yaml, report.html, bundle/ and all that a run writes.
    data : path
        A file of examples (.csv, .tsv, .jsonl, .parquet, .conll, .txt), or the directory of a data
        set. Without labels the model's own answers count. For a graph without a task: inputs, as
        `edgecompress quantize` takes them.
    task : str, optional
        What the model answers, such as text-classification; else what config.json says.
    format : str, optional
        Of the file, where its name does not say it: csv, tsv, jsonl, parquet, conll, text.
    columns : mapping of str to str, optional
        What the file calls the text, label, words or tags, such as text=headline.
    labels : mapping of str to str, optional
        What the data call a class of the model, such as LABEL_0=negative.
    validation, test : path or sequence of paths, optional
        Files of these splits; else they are drawn from the examples.
    max_drop : str
        How much of the task's first metric may be lost.
    max_size : str, optional
        How large the model may be, such as 25MB.
    max_latency : str, optional
        How long an answer may take, such as 20ms, or 20ms@pi5 on a target of the fleet.
    time : str, optional
        After so long no further candidate is tried, once one stands: 90s, 30m, 2h.
    settings : mapping of str to object, optional
        Set any field of the recipe that is written, such as profile.threads=4.
    store : path, optional
        Where results are kept between runs; the user's cache folder when left out.
    progress : bool or Reporter
        Whether to show how far the work is; a `Reporter` is told.

    Returns
    -------
    Run

    Raises
    ------
    EdgeCompressError
        When the model, the data, an option or the output is at fault, or something that cannot be
        guessed must be said.
    """
    limit = None if time is None else _seconds(time)
    files = {"validation": [*map(Path, several(validation))], "test": [*map(Path, several(test))]}
    found = look_at_model(os.fspath(model), task, labels or {})
    seen = look_at_data(
        Path(data), found, form=format, columns=columns, splits=files, settings=settings
    )
    wishes = {"max_drop": max_drop, "max_size": max_size, "max_latency": max_latency}
    lines = (f"model: {found.words}", f"data: {seen.words}")
    document = proposed(found, seen, **wishes)  # type: ignore[arg-type]
    if labels:
        (document if found.onnx else document["teacher"])["labels"] = dict(labels)
    document = apply_settings(document, settings)
    if seen.labelled:
        checked(document)
    folder = prepare_output(Path(output))
    command = shlex.join(["edgecompress", "compress", os.fspath(model), "--data", os.fspath(data)])
    with reporting(progress) as reporter:
        for line in lines:
            what, _, said = line.partition(": ")
            reporter.begin(what)
            reporter.end(said)
        with writing_into(folder):
            if not seen.labelled:
                place = Store(Path(store) if store else default_store())
                seen = answered(document, seen, folder / ANSWERS, place, reporter)
                document["data"] = seen.document
                checked(document)
            write_recipe(document, folder / RECIPE, lines)
        result = run_recipe(
            folder / RECIPE,
            folder,
            store=Path(store) if store else None,
            reporter=reporter,
            command=f"{command} -o {shlex.quote(os.fspath(output))}",
            time_limit_s=limit,
            best_so_far=True,
        )
    return Run(result, folder)


def _seconds(written: str) -> float:
    match = re.fullmatch(r"(\d+\.?\d*|\.\d+) *(s|min|m|h)", written.strip())
    if match is None:
        raise ArgumentError(f"{written!r} is no time with its unit, such as 90s, 30m or 2h (time)")
    return float(match[1]) * SECONDS[match[2]]
