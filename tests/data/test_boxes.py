"""Images with boxes from files: COCO's JSON, YOLO's text files, Pascal VOC's XML."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from squares import COLOURS, scenes, write_coco, write_voc, write_yolo

from edgecompress.boxes import Objects
from edgecompress.data import data_config
from edgecompress.errors import DataError
from edgecompress.tasks import task, wanted
from edgecompress.values import Example

FIELDS: dict[str, dict[str, Any]] = {
    "coco": {"train": "boxes.json", "images": "photos"},
    "voc": {"train": "train.txt"},
    "yolo": {"train": "images/train"},
}


def write(form: str, folder: Path, count: int = 4) -> Path:
    """Write the same scenes in a form."""
    if form == "yolo":
        return write_yolo(folder, {"train": count})
    return {"coco": write_coco, "voc": write_voc}[form](folder, count)


def read(form: str, folder: Path, **fields: Any) -> tuple[Example, ...]:
    return data_config({"format": form, "root": folder, **FIELDS[form], **fields}).read("train")


@pytest.mark.parametrize("form", FIELDS)
def test_what_was_written_is_read(form: str, tmp_path: Path) -> None:
    found = read(form, write(form, tmp_path))
    assert len(found) == 4
    for one, right in zip(found, scenes(4), strict=True):
        objects: Objects = one.target
        assert objects.labels == right.target.labels
        assert objects.boxes == pytest.approx(right.target.boxes, abs=1e-3)
        assert one.inputs["image"].is_file()
    ignored = [any(one.target.ignored) for one in found]
    assert any(ignored) == (form != "yolo")  # crowds and difficult ones; YOLO has no such word


@pytest.mark.parametrize("form", FIELDS)
def test_what_decides_the_results_is_in_the_digest(form: str, tmp_path: Path) -> None:
    write(form, tmp_path)
    data = data_config({"format": form, "root": tmp_path, **FIELDS[form]})
    before = data.digest("train")
    file = {"coco": "boxes.json", "voc": "Annotations/0.xml", "yolo": "labels/train/1.txt"}[form]
    text = (tmp_path / file).read_text()
    old = {"coco": '"iscrowd": 0', "voc": "<difficult>0", "yolo": text[:1]}[form]
    new = {"coco": '"iscrowd": 1', "voc": "<difficult>1", "yolo": "1" if old == "0" else "0"}[form]
    assert old in text
    (tmp_path / file).write_text(text.replace(old, new, 1))
    assert data.digest("train") != before


def coco(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        file = folder / "boxes.json"
        document = json.loads(file.read_text())
        change(document)
        file.write_text(json.dumps(document))

    return spoil


def text(name: str, content: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(content) and None


def gone(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


BOX = "<annotation><object><name>{}</name><bndbox>{}</bndbox></object></annotation>"
EDGES = "<xmin>{}</xmin><ymin>2</ymin><xmax>{}</xmax><ymax>9</ymax>"
BROKEN = [
    ("coco", coco(lambda one: one.pop("images")), "no list 'images'"),
    ("coco", coco(lambda one: one["annotations"][0].update(bbox=[1, 2, 3])), "no bbox of four"),
    ("coco", coco(lambda one: one["annotations"][0].update(bbox=[1, 2, 0, 3])),
     r"annotations\[0\]: the box 1, 2, 1, 5 .* has no area; mend it, or say data.faulty"),
    ("coco", coco(lambda one: one["annotations"][1].update(bbox=[1, 2, 90, 3])), "reaches out"),
    ("coco", coco(lambda one: one["annotations"][0].update(category_id=7)), "category 7"),
    ("coco", coco(lambda one: one["annotations"][0].update(image_id=70)), "image 70"),
    ("coco", coco(lambda one: one["annotations"][0].pop("image_id")), "no number 'image_id'"),
    ("coco", gone("photos/2.png"), r"images\[1\] is 2.png, which is not in .*photos"),
    ("coco", text("photos/2.png", "x"), "2.png: not an image"),
    ("voc", gone("Annotations/1.xml"), r"train.txt.*2.*no boxes of 1: .*1.xml is missing"),
    ("voc", gone("JPEGImages/1.jpg"), "there is no image 1"),
    ("voc", text("Annotations/1.xml", "<a>"), "1.xml: is no XML"),
    ("voc", text("Annotations/1.xml", "<!DOCTYPE a><a/>"), "has no document type"),
    ("voc", text("Annotations/1.xml", BOX.format("red", "")), "object 1 has no number xmin"),
    ("voc", text("Annotations/1.xml", BOX.format(" ", "")), "object 1 has no name"),
    ("voc", text("Annotations/1.xml", BOX.format("red", EDGES.format(9, 9))),
     "1.xml: object 1: the box .* has no area"),
    ("voc", text("train.txt", "../1\n"), "must be the name of an image"),
    ("yolo", gone("labels/train/1.txt"), "1.png: has no boxes, as .*1.txt is missing"),
    ("yolo", gone("data.yaml"), "nobody says what the classes are called"),
    ("yolo", text("data.yaml", "names: 3\n"), "holds no names of classes"),
    ("yolo", text("labels/train/1.txt", "0 0.5 0.5 0.1 0.1\n9 0.5 0.5 0.1 0.1\n"),
     "1.txt.*2.*class 9 has no name"),
    ("yolo", text("labels/train/1.txt", "0 0.5 0.5 0.1\n"), "four numbers"),
    ("yolo", text("labels/train/1.txt", "0 0.5 0.5 0.0 0.1\n"), "1.txt.*1.*has no area"),
    ("yolo", text("labels/train/1.txt", "0 0.9 0.5 0.4 0.1\n"), "reaches out"),
]  # fmt: skip


@pytest.mark.parametrize(("form", "spoil", "said"), BROKEN)
def test_what_is_wrong_is_said(
    form: str, spoil: Callable[[Path], None], said: str, tmp_path: Path
) -> None:
    spoil(write(form, tmp_path))
    with pytest.raises(DataError, match=said):
        read(form, tmp_path)


def test_boxes_that_are_none_can_be_left_out(tmp_path: Path) -> None:
    write_yolo(tmp_path, {"train": 2})
    lines = "1 0.5 0.5 0.0 0.1\n0 0.5 0.5 0.2 0.1\n\n1 0.9 0.5 0.4 0.1\n"
    (tmp_path / "labels" / "train" / "1.txt").write_text(lines)
    found = read("yolo", tmp_path, faulty="leave_out")
    assert found[1].target.labels == (COLOURS[0],)


def test_images_without_objects_are_read(tmp_path: Path) -> None:
    write_yolo(tmp_path, {"train": 2})
    (tmp_path / "labels" / "train" / "0.txt").write_text("")
    (tmp_path / "labels" / "train" / "1.txt").unlink()
    found = read("yolo", tmp_path, unlabelled="nothing", names=list(COLOURS))
    assert [one.target for one in found] == [Objects(), Objects()]


def test_a_polygon_is_the_box_around_it(tmp_path: Path) -> None:
    write_yolo(tmp_path, {"train": 1})
    file = tmp_path / "labels" / "train" / "0.txt"
    file.write_text("1 0.25 0.5 0.5 0.25 0.75 0.75\n")
    (one,) = read("yolo", tmp_path)
    assert one.target.corners == ((16.0, 16.0, 48.0, 48.0),)


RECORD = {"label": "red", "box": {"xmin": 1, "ymin": 2, "xmax": 30, "ymax": 40}}
RECORDS = [
    ([RECORD], ("red",), ((1.0, 2.0, 30.0, 40.0),)),
    ([{"label": "red", "box": [1, 2, 30, 40]}], ("red",), ((1.0, 2.0, 30.0, 40.0),)),
    ({"bbox": [[1, 2, 29, 38]], "category": ["red"]}, ("red",), ((1.0, 2.0, 30.0, 40.0),)),
    ([], (), ()),
    ("red", "objects must be a list", None),
    ([{"box": [1, 2, 3, 4]}], "object 1 has no label", None),
    ([RECORD, {"label": "red", "box": [1, 2, 3]}], "object 2 has no box of xmin", None),
    ([{"label": "red", "box": [1, 2, 99, 9]}], "object 1: the box .* reaches out", None),
    ({"bbox": [], "category": ["red"]}, "0 boxes .* 1 classes", None),
]


@pytest.mark.parametrize(("value", "labels", "corners"), RECORDS)
def test_records_of_tables_hold_objects(
    value: Any, labels: Any, corners: Any, tmp_path: Path
) -> None:
    write_coco(tmp_path, 1)
    record = {"image": "photos/1.png", "objects": value}
    (tmp_path / "a.jsonl").write_text(json.dumps(record) + "\n")
    data = data_config({"format": "jsonl", "root": tmp_path, "train": "a.jsonl"})
    asked = data.for_task(wanted(task("object-detection")))
    if corners is None:
        with pytest.raises(DataError, match=labels):
            asked.read("train")
        return
    (one,) = asked.read("train")
    assert (one.target.labels, one.target.corners) == (labels, corners)
