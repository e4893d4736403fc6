"""docs/data.md: its examples are read as they stand, and its table says what they show."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pictures import write_folder
from squares import write_coco, write_voc, write_yolo
from tones import write_folder as write_sounds

from edgecompress.conformance import check_reader
from edgecompress.data import SPLITS, data_config, data_formats
from edgecompress.errors import DataError
from edgecompress.tables.columns import NAMES
from edgecompress.tasks import task, wanted

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```yaml\n# (\S+)\n(.*?)```", PAGE, re.DOTALL)
TASKS = ("text-classification", "token-classification", "masked-lm")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("data")
    for name, text in re.findall(r"`([\w.]+)`:\n\n```\w+\n(.*?)```", PAGE, re.DOTALL):
        (made / name).write_text(text, encoding="utf-8")
    write_folder(made / "photos", 6)
    write_sounds(made / "words", 6)
    write_yolo(made / "yard", {"train": 8})
    write_coco(made / "street", 8)
    write_voc(made / "blood", 8)
    return made


@pytest.fixture(scope="module")
def library(folder: Path) -> None:
    pytest.importorskip("datasets")
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        exec(compile(block, "docs/data.md", "exec"), {})


def test_every_format_has_its_row_and_its_example() -> None:
    rows = re.findall(r"^\| `(\w+)` \|(.*)\|$", PAGE, re.MULTILINE)
    assert sorted(name for name, _ in rows) == list(data_formats())
    shown = {yaml.safe_load(text)["format"] for _, text in EXAMPLES}
    assert shown == set(data_formats())
    for name in (name for names in NAMES.values() for name in names):
        assert f"`{name}`" in PAGE


@pytest.mark.parametrize(("name", "text"), EXAMPLES)
def test_examples(name: str, text: str, folder: Path, request: pytest.FixtureRequest) -> None:
    fields: dict[str, Any] = yaml.safe_load(text)
    if fields["format"] in ("parquet", "datasets"):
        request.getfixturevalue("library")
    if fields["format"] not in ("cldr", "digits"):
        fields["root"] = folder / fields.get("root", "")
    data = data_config(fields).for_task(wanted(task(name)))
    drawn = [split for split in SPLITS if split in fields.get("split", {})]
    for split in {"train", *drawn}:
        examples = data.read(split)
        assert task(name).label_names(examples) or not task(name).labelled
    if fields["format"] != "datasets":  # its library's dictionary names more files than it reads
        check_reader(data_config(fields))


def test_the_table_says_what_can_be_read(folder: Path, library: None) -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \|(.*)\|$", PAGE, re.MULTILINE))
    texts = {"csv": "words,tags,text,label\na,O,a,b\n", "text": "a\n", "conll": "a O\n"}
    texts["tsv"] = texts["csv"].replace(",", "\t")
    texts["jsonl"] = '{"words": ["a"], "tags": ["O"], "text": "a", "label": "b"}'
    for name, content in texts.items():
        (folder / f"all.{name}").write_text(content)
        for asked, cell in zip(TASKS, rows[name].split("|"), strict=False):
            data = data_config({"format": name, "root": folder, "train": f"all.{name}"})
            examples = data.for_task(wanted(task(asked))).read("train")
            if cell.strip().startswith("yes"):
                assert examples
                assert task(asked).label_names(examples) is not None
            else:
                with pytest.raises(DataError):
                    task(asked).label_names(examples)
