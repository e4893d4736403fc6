"""``edgecompress trim``: fewer word pieces, and what that costs on held-out text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgecompress.cli._output import say
from edgecompress.cli._single import apply_stage, stage_options


@click.command(name="trim")
@click.option(
    "--corpus", "corpus", multiple=True, metavar="TEXT",
    help="Text that says which pieces are needed (repeatable): `train`, a file with one text a "
    "line, or conll:FILE or tsv:FILE.  [default: train]",
)  # fmt: skip
@click.option("--keep", type=click.IntRange(min=1), help="How many pieces to keep.")
@click.option(
    "--coverage", type=click.FloatRange(0, 1, min_open=True),
    help="In place of --keep: the share of the corpus' pieces that must be kept.",
)  # fmt: skip
@click.option(
    "--alphabet", type=click.Choice(["all", "scripts", "corpus"]),
    help="Single characters to keep: all, those of the corpus' scripts, or those it uses.",
)  # fmt: skip
@click.option(
    "--rows",
    type=click.IntRange(min=1),
    help="Instead of dropping pieces, let rare ones use the rows of similar ones: how many rows.",
)
@stage_options
def command(
    model: str,
    corpus: tuple[str, ...],
    keep: int | None,
    coverage: float | None,
    alphabet: str | None,
    rows: int | None,
    **options: Any,
) -> None:
    """Remove the word pieces that a corpus does not need from the PyTorch MODEL for good.

    Its tokenizer goes with it; what that costs on validation text is printed. With --rows the
    tokenizer stays as it is, and pieces share rows of the embedding (vocabulary.share).
    """
    from edgecompress.yamlfile import setting

    given = {"keep": keep, "coverage": coverage, "alphabet": alphabet, "rows": rows}
    if rows is not None and any(
        given[name] is not None for name in ("keep", "coverage", "alphabet")
    ):
        raise click.UsageError(
            "--rows keeps all pieces: it goes without --keep, --coverage and --alphabet"
        )
    settings = [f"{name}={value}" for name, value in given.items() if value is not None]
    if corpus:
        settings.append(setting("corpus", [_entry(text) for text in corpus]))
    options["settings"] = (*settings, *options["settings"])
    apply_stage(model, "vocabulary.trim" if rows is None else "vocabulary.share", options)
    _say(options["output"])


def _entry(text: str) -> Any:
    """Read an option's value: ``train``, a path, or a format with a path."""
    form, colon, place = text.partition(":")
    if colon and form in ("conll", "tsv", "text"):
        return {"file": str(Path(place).absolute()), "format": form}
    return text if text == "train" else str(Path(text).absolute())


def _say(output: Path) -> None:
    from edgecompress.values import Candidate

    decided = Candidate.load(output).steps[-1].decisions
    if "pieces" not in decided:
        old, new = decided["rows"]
        say(f"rows: {old} → {new}; the tokenizer is as it was")
        for name, share in (("corpus", "corpus_shared"), ("held-out text", "held_out_shared")):
            if decided[share] is not None:
                say(f"{name}: {decided[share]:.2%} of the pieces use the row of another")
        return
    old, new = decided["pieces"]
    say(f"pieces: {old} → {new} ({decided['used']} for the corpus, {decided['filled']} more)")
    for name, found in (("corpus", decided["corpus"]), ("held-out text", decided["held_out"])):
        if found is None:
            say("held-out text: none; give --validation to see what the smaller one costs")
            continue
        (before, after), unknown = found["pieces_per_word"], found["unknown"]
        say(
            f"{name}: {before:.3f} → {after:.3f} pieces a word, "
            f"{unknown[0]:.2%} → {unknown[1]:.2%} unknown, "
            f"{found['words_split_otherwise']:.2%} of the words split otherwise"
        )
