"""Images and their labels: folders, tables that name files, tables that hold them."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
from pictures import COLOURS, write_folder

from edgecompress.conformance import check_reader
from edgecompress.data import data_config
from edgecompress.data.base import DataConfig
from edgecompress.errors import DataError
from edgecompress.processors.pictures import red_green_blue
from edgecompress.tasks import task, wanted


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "train", 3)


def described(**fields: object) -> DataConfig:
    return data_config(fields).for_task(wanted(task("image-classification")))


def test_folders_of_classes(tmp_path: Path, folder: Path) -> None:
    data = described(format="images", root=tmp_path, train="train")
    check_reader(data)
    found = data.read("train")
    assert [one.target for one in found] == [label for label in COLOURS for _ in range(3)]
    assert found[0].inputs == {"image": folder / "blue" / "0.png"}
    assert found[4].id == "green/1.jpg"
    before = data.digest("train")
    (folder / "blue" / "0.png").write_bytes((folder / "red" / "0.png").read_bytes())
    assert data.digest("train") != before
    assert data.locate("train", "red") == (folder / "red", None)


def test_what_lies_beside_images_is_told_and_what_is_hidden_is_not(folder: Path) -> None:
    (folder / "red" / "notes.txt").write_text("x")
    (folder / "red" / ".DS_Store").write_text("x")
    (folder / ".cache").mkdir()
    data = described(format="images", root=folder, train=".")
    assert len(data.read("train")) == 9
    assert data.facts()["left out"] == "1 files that are no images, such as notes.txt"


def test_splits_are_drawn(folder: Path) -> None:
    data = described(
        format="images", root=folder, train=".", split={"validation": 0.34, "test": 0.33}
    )
    splits = [data.read(split) for split in ("train", "validation", "test")]
    assert sum(map(len, splits)) == 9
    names = [{one.id for one in split} for split in splits]
    assert not names[0] & names[1] and not names[1] & names[2] and not names[0] & names[2]


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (None, "there is no such folder of images"),
        ("a.png", "holds no folder of a class"),
        ("empty/", r"empty: holds no image \(.png"),
        ("cat/a.png", "a.png: not an image that can be read"),
    ],
)
def test_folders_that_are_none(tmp_path: Path, made: str | None, said: str) -> None:
    place = tmp_path / "train"
    if made is not None:
        file = place / made
        (file if made.endswith("/") else file.parent).mkdir(parents=True)
        if not made.endswith("/"):
            file.write_bytes(b"x")
    with pytest.raises(DataError, match=said):
        described(format="images", root=tmp_path, train="train").read("train")


def test_a_name_that_results_cannot_hold_is_refused(tmp_path: Path, folder: Path) -> None:
    (folder / "red" / "0.png").rename(folder / "red" / os.fsdecode(b"caf\xe9.png"))  # Latin-1
    data = described(format="images", root=folder.parent, train=folder.name)
    for asked in (data.read, data.digest):
        with pytest.raises(DataError, match="results cannot hold this name"):
            asked("train")


def names_in(folder: Path) -> list[tuple[str, str]]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return [(file.relative_to(folder.parent).as_posix(), file.parent.name) for file in files]


def test_tables_that_name_files(tmp_path: Path, folder: Path) -> None:
    """A path is relative to the table, and the digest covers what it names."""
    rows = names_in(folder)
    with (tmp_path / "a.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("file_name", "label"), *rows])
    (tmp_path / "a.jsonl").write_text(
        "\n".join(json.dumps({"image": name, "label": label}) for name, label in rows)
    )
    for name in ("csv", "jsonl"):
        data = described(format=name, root=tmp_path, train=f"a.{name}")
        check_reader(data)
        found = data.read("train")
        assert [(one.inputs["image"], one.target) for one in found] == [
            (tmp_path / name, label) for name, label in rows
        ]
        before = data.digest("train")
        image = folder / "red" / "0.png"
        content = image.read_bytes()
        image.write_bytes((folder / "blue" / "0.png").read_bytes())
        assert data.digest("train") != before
        image.write_bytes(content)
    (folder / "green" / "1.jpg").unlink()
    with pytest.raises(DataError, match=r"a\.csv:6: train/green/1.jpg: there is no such file"):
        described(format="csv", root=tmp_path, train="a.csv").read("train")


def test_tables_that_hold_files(tmp_path: Path, folder: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = names_in(folder)
    contents = [(tmp_path / name).read_bytes() for name, _ in rows]
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(COLOURS))}
    )
    columns = {
        "image": [{"bytes": content, "path": None} for content in contents],
        "label": [COLOURS.index(label) for _, label in rows],
    }
    made = datasets.Dataset.from_dict(columns, features)
    made.to_parquet(tmp_path / "a.parquet")
    made.save_to_disk(tmp_path / "saved")
    for fields in (
        {"format": "parquet", "root": tmp_path, "train": "a.parquet"},
        {"format": "datasets", "root": tmp_path / "saved"},
    ):
        data = described(**fields)
        check_reader(data)
        found = data.read("train")
        assert [one.inputs["image"] for one in found] == contents
        assert [one.target for one in found] == [label for _, label in rows]


def test_a_question_is_a_path_bytes_an_array_or_an_image(folder: Path) -> None:
    from PIL import Image

    asked = task("image-classification")
    file = folder / "red" / "0.png"
    with Image.open(file) as image:
        image.load()
    assert asked.ask(str(file)).inputs["image"] == file
    assert asked.ask({"image": file.read_bytes()}).inputs["image"] == file.read_bytes()
    array = asked.ask(image).inputs["image"]
    assert np.array_equal(array, asked.ask(np.asarray(image)).inputs["image"])
    for wrong, said in (
        (np.zeros((3, 4)), "uint8 of height × width × 3"),
        (b"x", "not an image"),
        ("", "empty path"),
        (3, "takes images, not int"),
        ({"image": {"bytes": 3}}, "image must be an image"),
    ):
        with pytest.raises(DataError, match=said):
            asked.ask(wrong)


def test_an_image_of_pillows_is_that_of_its_file(tmp_path: Path) -> None:
    from PIL import Image

    turned, deep, cut = (tmp_path / name for name in ("turned.jpg", "deep.png", "cut.jpg"))
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    random = np.random.default_rng(0)
    Image.fromarray(random.integers(0, 256, (8, 12, 3), np.uint8)).save(turned, exif=exif)
    Image.fromarray(np.full((3, 4), 40_000, np.uint16)).save(deep)
    for file in (turned, deep):
        with Image.open(file) as image:
            array = task("image-classification").ask({"image": image}).inputs["image"]
        assert np.array_equal(array, np.asarray(red_green_blue(file)))
    cut.write_bytes(turned.read_bytes()[:-40])
    with Image.open(cut) as image, pytest.raises(DataError, match="not an image that can be read"):
        task("image-classification").ask({"image": image})
