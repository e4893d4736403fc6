"""Unlabelled news for a transfer set: articles as lines, without those of the held-out texts.

Run ``python benchmarks/news_text.py --news DIR --held-out DIR --held-out DIR -o DIR``. ``--news``
is the folder ``data`` of MasakhaNEWS (github.com/masakhane-io/masakhane-news), whose articles are
read and whose topics are not. An article with a sentence that shares six words in a row with a
validation or test text below ``--held-out`` (``hau/dev.txt``, ``hau.test.txt`` and so on, a word
and its tag a line) is left out whole, as its other sentences tell of the same people; so is a
sentence that came before. Lines hold neighbouring sentences, at most 50 words.
"""

from __future__ import annotations

import csv
import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from edgecompress.data.overlap import word_runs
from edgecompress.textfiles import conll_sentences

LONGEST = 50
"""Most words of a line."""

SHORTEST = 4
"""Fewest words of a line."""

SENTENCE_END = re.compile(r"(?<=[.!?])[\"”’']?\s+(?=[\"“‘']?[A-Z0-9])")


def words(text: str) -> tuple[str, ...]:
    """Give the words that are compared, without case and punctuation."""
    return tuple(re.findall(r"\w+", text.casefold()))


def runs(text: str) -> set[int]:
    """Give all runs of six words, or the one shorter text."""
    spelt = words(text)
    return {*word_runs(text)} or ({hash(spelt)} if spelt else set())


def held_runs(roots: tuple[Path, ...]) -> set[int]:
    """Give the runs of every validation and test text below the folders."""
    held: set[int] = set()
    for root in roots:
        files = [p for p in root.rglob("*.txt") if p.stem.split(".")[-1] in ("dev", "test")]
        if not files:
            raise click.ClickException(f"{root}: no dev.txt or test.txt in it or below")
        for file in files:
            for spelt, _ in conll_sentences(file):
                held |= runs(" ".join(spelt))
    return held


def articles(folder: Path) -> Iterator[list[list[str]]]:
    """Give headline and body of each article, each as its sentences."""
    csv.field_size_limit(sys.maxsize)
    for split in ("train", "dev", "test"):
        file = folder / f"{split}.tsv"
        if not file.exists() or not file.stat().st_size:
            continue
        with file.open(encoding="utf-8", newline="") as rows:
            for row in csv.DictReader(rows, delimiter="\t"):
                body = (row.get("text") or "").replace('""', '"').replace("\xa0", " ")
                found = SENTENCE_END.split(body.strip().strip('"'))
                yield [[row.get("headline") or ""], [s for s in found if s.strip()]]


def lines(folder: Path, held: set[int]) -> Iterator[str]:
    """Give the texts of a language: sentences that stand side by side, as many as a line holds."""
    seen: set[tuple[str, ...]] = set()
    for article in articles(folder):
        if any(runs(sentence) & held for part in article for sentence in part):
            continue
        for part in article:
            line: list[str] = []
            for sentence in part:
                spelt, found = sentence.split(), words(sentence)
                if not spelt or found in seen:
                    continue
                seen.add(found)
                if len(line) + len(spelt) > LONGEST:
                    yield " ".join(line)
                    line = []
                line += spelt
            yield " ".join(line)


@click.command()
@click.option(
    "--news", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True
)
@click.option(
    "--held-out",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    multiple=True,
    required=True,
    help="A folder of validation and test texts; may be given again.",
)
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), required=True)
@click.option(
    "--take",
    default="pcm=20000,eng=6500,hau=4000,swa=4000",
    show_default=True,
    help="Languages, and the most lines of each.",
)
def main(news: Path, held_out: tuple[Path, ...], output: Path, take: str) -> None:
    """Write a file of lines for each language."""
    held = held_runs(held_out)
    output.mkdir(parents=True, exist_ok=True)
    for language, most in (part.split("=") for part in take.split(",")):
        texts = [line for line in lines(news / language, held) if len(line.split()) >= SHORTEST]
        if not texts:
            raise click.ClickException(f"{news / language}: no article in train, dev or test.tsv")
        if len(texts) > int(most):
            chosen = random.Random(0).sample(range(len(texts)), int(most))
            texts = [texts[i] for i in sorted(chosen)]
        file = output / f"news-{language}.txt"
        file.write_text("\n".join(texts) + "\n", encoding="utf-8")
        click.echo(f"{file}: {len(texts):,} lines, {sum(len(t.split()) for t in texts):,} words")


if __name__ == "__main__":
    main()
