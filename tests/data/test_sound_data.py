"""Sounds and their labels: folders, tables that name files, tables that hold them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from tones import TONES, write_folder

from edgecompress.conformance import check_reader
from edgecompress.data import data_config
from edgecompress.data.base import DataConfig
from edgecompress.errors import DataError
from edgecompress.processors.sounds import read_sound
from edgecompress.tasks import task, wanted


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "train", 3)


def described(**fields: object) -> DataConfig:
    return data_config(fields).for_task(wanted(task("audio-classification")))


def test_folders_of_classes_say_what_is_cut_off_and_what_is_no_sound(
    tmp_path: Path, folder: Path
) -> None:
    data = described(format="sounds", root=tmp_path, train="train")
    check_reader(data)
    found = data.read("train")
    assert [one.target for one in found] == [label for label in TONES for _ in range(3)]
    assert found[4].id == "low/1.wav" and data.facts() == {}
    (folder / "low" / "notes.txt").write_text("x")
    file, before = folder / "low" / "1.wav", data.digest("train")
    file.write_bytes(file.read_bytes()[:-1000])
    assert data.digest("train") != before and len(data.read("train")) == 9
    assert data.facts() == {
        "cut off": "1 sounds, such as 1.wav: what is there of them is read",
        "left out": "1 files that are no sounds, such as notes.txt",
    }
    file.write_bytes(b"RIFF and so on")
    with pytest.raises(DataError, match=r"low/1\.wav: not a sound that can be read"):
        data.read("train")


def test_equal_sounds_stay_in_one_split(folder: Path) -> None:
    twin = (folder / "low" / "0.wav").read_bytes()
    for number in range(3, 9):
        (folder / "low" / f"{number}.wav").write_bytes(twin)
    data = described(format="sounds", root=folder, train=".", split={"test": 0.4})
    same = [{one.inputs["audio"].read_bytes() for one in data.read(split)}
            for split in ("train", "test")]  # fmt: skip
    assert not same[0] & same[1]


def test_tables_that_name_files(tmp_path: Path, folder: Path) -> None:
    """A path is relative to the table, and the digest covers what it names."""
    files = sorted(folder.rglob("*.wav"))
    rows = [(file.relative_to(tmp_path).as_posix(), file.parent.name) for file in files]
    with (tmp_path / "a.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("file_name", "label"), *rows])
    lines = [json.dumps({"audio": name, "label": label}) for name, label in rows]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    for form in ("csv", "jsonl"):
        data = described(format=form, root=tmp_path, train=f"a.{form}")
        found = data.read("train")
        assert [(one.inputs["audio"], one.target) for one in found] == [
            (tmp_path / name, label) for name, label in rows
        ]
        before = data.digest("train")
        files[0].write_bytes(files[0].read_bytes()[:-2])
        assert data.digest("train") != before
    (tmp_path / "b.csv").write_text("audio,label\ntrain/low/0.wav,low\ngone.wav,low\n")
    with pytest.raises(DataError, match=r"b\.csv:3: .*gone\.wav"):
        described(format="csv", root=tmp_path, train="b.csv").read("train")


def test_tables_that_hold_files(tmp_path: Path, folder: Path) -> None:
    datasets = pytest.importorskip("datasets")
    files = sorted(folder.rglob("*.wav"))
    contents = [file.read_bytes() for file in files]
    features = datasets.Features(
        {
            "audio": {"bytes": datasets.Value("binary"), "path": datasets.Value("string")},
            "label": datasets.ClassLabel(names=list(TONES)),
        }
    )
    held = [{"bytes": content, "path": None} for content in contents]
    labels = [TONES.index(file.parent.name) for file in files]
    made = datasets.Dataset.from_dict({"audio": held, "label": labels}, features)
    made.to_parquet(tmp_path / "a.parquet")
    found = described(format="parquet", root=tmp_path, train="a.parquet").read("train")
    assert [one.inputs["audio"] for one in found] == contents
    assert [one.target for one in found] == [file.parent.name for file in files]
    assert len(read_sound(found[0].inputs["audio"]).samples) == 4000
