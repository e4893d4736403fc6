"""What `edgecompress compress` makes of a folder of images and a model of them, before it runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from every_kind import KINDS
from pictures import COLOURS, write_folder, write_graph

from edgecompress.engine.found_data import FoundData, look_at_data
from edgecompress.engine.found_model import FoundModel, look_at_model
from edgecompress.engine.proposal import checked, proposed
from edgecompress.errors import DataError
from edgecompress.values import Json

TASK = "image-classification"


def found(model: Path, data: Path, task: str | None = None) -> tuple[FoundModel, FoundData, Json]:
    seen = look_at_model(str(model), task, {})
    looked = look_at_data(data, seen)
    document = proposed(seen, looked, max_drop="1%")
    checked(document)  # as any recipe
    return seen, looked, document


def stages(document: Json) -> list[list[str]]:
    def name(one: Any) -> str:
        return one if isinstance(one, str) else next(iter(one))

    return [[name(one) for one in chain] for chain in document["stages"][0]["any"]]


def test_a_vision_transformer_and_folders_of_classes(tmp_path: Path) -> None:
    KINDS[TASK].write(tmp_path / "vit")
    for seed, split in enumerate(("train", "val", "test")):
        write_folder(tmp_path / "photos" / split, 8, seed)
    model, data, document = found(tmp_path / "vit", tmp_path / "photos")
    assert (model.task, model.labels, model.cuttable) == (TASK, COLOURS, True)
    assert len(data.examples) == 24 and data.words.startswith("images, 24 examples")
    folders = {split: Path(str(np.ravel(document["data"][key])[0])).name for split, key in
               (("train", "train"), ("dev", "validation"), ("test", "test"))}  # fmt: skip
    assert folders == {"train": "train", "dev": "val", "test": "test"}
    assert "split" not in document["data"]
    tried = stages(document)
    assert ["export", "quantize.static"] in tried
    assert ["prune.structured", "distil", "export", "quantize.static"] in tried
    assert "augment" not in json.dumps(document)  # of words


def test_splits_are_drawn_from_one_folder(tmp_path: Path) -> None:
    KINDS[TASK].write(tmp_path / "vit")
    write_folder(tmp_path / "photos", 8)
    document = found(tmp_path / "vit", tmp_path / "photos")[2]
    assert document["data"]["split"] == {"validation": 0.2, "test": 0.2}


def test_a_graph_of_another_program(tmp_path: Path) -> None:
    place = tmp_path / "graph"
    place.mkdir()
    write_graph(place / "model.onnx")
    write_folder(tmp_path / "photos", 8)
    with pytest.raises(DataError, match=r"config\.json"):
        look_at_model(str(place), TASK, {})
    names = {str(number): label for number, label in enumerate(COLOURS)}
    (place / "config.json").write_text(json.dumps({"id2label": names}))
    model, _, document = found(place, tmp_path / "photos", TASK)
    assert (model.onnx, model.labels) == (True, COLOURS)
    assert document["model"] == str(place) and document["budget"] == {
        "accuracy": {"max_drop": "1%"}
    }
    assert stages(document) == [
        ["quantize.dynamic"],
        ["quantize.static"],
        ["quantize.static"],
        ["quantize.half"],
    ]
    assert found(place, tmp_path / "photos")[0].task is None  # nothing is scored
