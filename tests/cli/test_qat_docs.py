"""docs/qat.md: its recipes fit, its table names every field, its commands make an int8 file."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from helpers import tagged_examples, tiny_teacher
from pages import blocks, page, read_block

from edgecompress.cli.main import cli
from edgecompress.texts import tags_of, words_of
from edgecompress.training.qat_fields import Qat
from edgecompress.values import Candidate

PAGE = page("qat.md")


@pytest.mark.parametrize("block", blocks(PAGE, "yaml"))
def test_every_recipe_fits_together(block: str, tmp_path: Path) -> None:
    assert read_block(block, tmp_path, complete=True).chains


def test_every_field_is_there() -> None:
    rows = [row.split("|")[1] for row in PAGE.splitlines() if row.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert named == {info.alias or name for name, info in Qat.model_fields.items()}


def test_the_commands_carry_learned_ranges_into_an_int8_file(tmp_path, monkeypatch) -> None:
    start = tiny_teacher(tmp_path / "MODEL", tagged_examples(60), "token-classification", layers=1)
    start.save(tmp_path / "MODEL")
    for name in ("train", "valid", "test"):
        some = tagged_examples(30, seed=ord(name[0]))
        rows = ["\n".join(map(" ".join, zip(words_of(e), tags_of(e), strict=True))) for e in some]
        (tmp_path / f"{name}.txt").write_text("\n\n".join(rows) + "\n")
    data = {"format": "conll", "root": str(tmp_path), "train": ["train.txt"]}
    data |= {"validation": ["valid.txt"], "test": ["test.txt"], "seen_test": "accept"}
    document = {"name": "page", "task": "token-classification", "model": str(tmp_path / "MODEL")}
    document |= {"data": data, "stages": ["export"]}
    (tmp_path / "RECIPE").write_text(yaml.safe_dump(document))
    monkeypatch.chdir(tmp_path)
    for command in blocks(PAGE, "sh")[0].splitlines():
        made = CliRunner().invoke(cli, [*shlex.split(command)[1:], "--store", "store"])
        assert made.exit_code == 0, made.output
    exported, quantized = Candidate.load(tmp_path / "exported"), Candidate.load(tmp_path / "int8")
    assert exported.ranges and not quantized.ranges
    steps = json.loads((tmp_path / "int8" / "candidate.json").read_text())["steps"]
    assert [step["stage"] for step in steps] == ["finetune", "export", "quantize.static"]
    assert {k: tuple(v) for k, v in steps[-1]["decisions"]["ranges"].items()} == exported.ranges
    assert steps[-1]["decisions"]["stored_in_4_bits"]
