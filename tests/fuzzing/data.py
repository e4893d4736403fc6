"""Labelled data, tables of texts and a power meter's readings, spoilt."""

from __future__ import annotations

import random
from pathlib import Path

from fuzzing.case import Case
from fuzzing.mutation import misplaced, spoilt
from fuzzing.recipes import DATA, TASKS, TEACHER, write
from fuzzing.stock import JSONL, POWER, TEXT, Stock

ROWS = (
    b"\t\t\t\n", b"a\n", b"\xff\xfe\n", b"a\tb\tc\td\n", b"word B-\n", b"word Z-PER\n",
    b"a\0b O\n", b"x\ty\tnew label\n", b"  \n", "é\u2028x O\n".encode(), b'1,"unclosed\n',
    b"x B-UNSEEN\n", b"x\ttext here\t\n", b"9" * 20_000 + b" O\n", b"\r\r\r", b"\xed\xa0\x80 O\n",
    b'{"tokens": ["a"], "ner_tags": [7]}\n', b'{"tokens": null}\n', b"[1]\n", b"{\n",
    b'1;"a""";b\n',
    b",".join([b"a"] * 5000) + b"\n", b'"' + b"a" * 200_000 + b'"\n', b"nan,nan\n", b"1e400,3\n",
)  # fmt: skip


def _text_spoilt(chance: random.Random, file: Path) -> str:
    """Damage a file of lines: a line put in, or its bytes, or its place."""
    if chance.random() < 0.4:
        lines = file.read_bytes().splitlines(keepends=True)
        row = chance.choice(ROWS)
        lines.insert(chance.choice((0, chance.randrange(len(lines) + 1))), row)
        file.write_bytes(b"".join(lines))
        return f"a line {row[:20]!r}"
    return spoilt(chance, file)


def labelled(chance: random.Random, folder: Path, stock: Stock) -> Case:
    """A recipe whose data are spoilt: CoNLL, TSV, plain text, CSV, JSON lines, CLDR."""
    stock.data(folder / "data")
    which = chance.randrange(6)
    if which == 5:
        told = str(_cldr := _locales(chance))[:100]
        data, task = {"format": "cldr", **_cldr}, "text-classification"
    else:
        data, task = dict(DATA[which]), TASKS[which]
        end = ("conll", "tsv", "txt", "csv", "jsonl")[which]
        file = folder / "data" / f"{chance.choice(('train', 'dev', 'test'))}.{end}"
        told = f"{file.name}: {_text_spoilt(chance, file)}"
    document = {"name": "tried", "task": task, "teacher": TEACHER, "data": data,
                "stages": ["export", "quantize.dynamic"]}  # fmt: skip
    write(chance, document, folder / "recipe.yaml")
    names = ("recipe.yaml", "train.", "dev.", "test.", "data.", "CLDR")
    return Case(("check", "recipe.yaml"), names, told)


def _locales(chance: random.Random) -> dict[str, object]:
    return {
        "locales": chance.choice((["sw", "en"], ["sw", "../en"], ["sw", "a\0b"], ["sw", ""], [],
                                  ["sw", "sw"], ["sw", "x" * 5000], ["sw", "en_GB"], ["sw", 3],
                                  ["sw", "root"], ["sw", "EN"], ["/etc/passwd", "sw"],
                                  ["sw", "\ud800"], ["sw", "zz"])),
        "max_strings": chance.choice((1200, 1, 0, -1, 10**30, 2)),
        "min_strings": chance.choice((1, 10, 10**30, -1)),
    }  # fmt: skip


def tables(chance: random.Random, folder: Path, stock: Stock) -> Case:
    """Texts to calibrate on: lines, or a table's column."""
    end = chance.choice(("txt", "csv", "tsv", "jsonl"))
    file = folder / f"given.{end}"
    if end == "txt":
        file.write_text(TEXT, encoding="utf-8")
    elif end == "jsonl":
        file.write_text(JSONL, encoding="utf-8")
    else:
        between = "," if end == "csv" else "\t"
        rows = [f"{n}{between}sokoni {n} leo{between}good" for n in range(9)]
        head = between.join(("id", "text", "label"))
        file.write_text("\n".join((head, *rows)) + "\n", encoding="utf-8")
    told = _text_spoilt(chance, file)
    command = chance.choice((_quantize, _sensitivity))
    return Case(command(stock.texts, file, stock.tokenizer), (file.name,), told)


def _quantize(model: Path, file: Path, tokenizer: Path) -> tuple[str, ...]:
    return ("quantize", str(model), "--scheme", "static", "--data", file.name, "--tokenizer",
            str(tokenizer), "-o", "out")  # fmt: skip


def _sensitivity(model: Path, file: Path, tokenizer: Path) -> tuple[str, ...]:
    return ("sensitivity", str(model), "--data", file.name, "--tokenizer", str(tokenizer),
            "--parts", "layers", "--samples", "2")  # fmt: skip


def corpora(chance: random.Random, folder: Path, stock: Stock) -> Case:
    """Texts that say which word pieces are kept."""
    stock.data(folder / "data")
    form = chance.choice(("conll", "tsv", "text", "csv", "jsonl"))
    file = folder / "data" / f"test.{ {'text': 'txt'}.get(form, form) }"
    told = _text_spoilt(chance, file)
    entry = {"file": f"data/{file.name}", "format": form}
    stages = [{"vocabulary.trim": {"corpus": [entry], "keep": 90}}, "export"]
    document = {"name": "tried", "task": TASKS[1], "teacher": TEACHER, "stages": stages}
    if form != "tsv":
        document["data"] = DATA[1]
    else:
        document["data"] = {**DATA[1], "test": ["other.tsv"]}
        (folder / "data" / "other.tsv").write_bytes((folder / "data" / "dev.tsv").read_bytes())
    write(chance, document, folder / "recipe.yaml")
    return Case(("check", "recipe.yaml"), (file.name, "recipe.yaml"), told)


def meters(chance: random.Random, folder: Path, stock: Stock) -> Case:
    """A power meter's file beside a target of this machine."""
    file = folder / "power.csv"
    file.write_text(POWER, encoding="utf-8")
    told = misplaced(chance, file) if chance.random() < 0.3 else _text_spoilt(chance, file)
    (folder / "fleet.yaml").write_text(
        "here: {url: local, any_governor: true, meter: power.csv}\n", encoding="utf-8"
    )
    arguments = ("profile", str(stock.numbers), "--targets", "fleet.yaml", "--target", "here",
                 "--min-duration", "1ms")  # fmt: skip
    return Case(arguments, ("power.csv",), told)


GENERATORS = {"data": labelled, "tables": tables, "corpora": corpora, "meters": meters}
