"""Boxes: average precision beside COCO's own, suppression, agreement, and the way to pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from squares import COLOURS, SIDE, scenes

from edgecompress.boxes import Objects, inside, objects_of
from edgecompress.errors import DataError, StageError
from edgecompress.processors.detection import DetectionProcessor, DetectorSettings
from edgecompress.processors.image_settings import read_settings
from edgecompress.tasks import task
from edgecompress.tasks._precision import MAP, MAP_50, Precision
from edgecompress.tasks._suppression import found_boxes, suppressed
from edgecompress.tasks.answers import Answers
from edgecompress.tasks.compare import paired_bootstrap_drop
from edgecompress.values import Example

KIND = task("object-detection")
CLASSES = ("cat", "dog", "owl")


def boxes_of(random: np.random.Generator, count: int) -> np.ndarray:
    low = random.uniform(0, 60, (count, 2))
    return np.concatenate((low, low + random.uniform(4, 40, (count, 2))), axis=1)


def made_up(
    seed: int, images: int = 12, *, ties: bool = True
) -> tuple[Answers, tuple[Example, ...]]:
    """Objects, and what finds some of them, some twice, some of them elsewhere."""
    random = np.random.default_rng(seed)
    labels, scores, details, examples = [], [], [], []
    for _ in range(images):
        count = int(random.integers(0, 9))
        names = tuple(random.choice(CLASSES, count).tolist())
        right = boxes_of(random, count)
        ignored = tuple((random.random(count) < 0.2).tolist())
        examples.append(
            Example({"image": np.zeros((100, 100, 3), np.uint8)},
                    Objects(names, tuple(map(tuple, right.tolist())), ignored))
        )  # fmt: skip
        near = right.repeat(2, 0) + random.normal(0, 3, (2 * count, 4))
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        found = np.concatenate((near, boxes_of(random, 6)))
        said = [*np.repeat(names, 2).tolist(), *random.choice(CLASSES, 6).tolist()]
        sure = random.integers(1, 30, len(found)) / 30 if ties else random.random(len(found))
        order = np.argsort(-sure, kind="stable")
        labels.append(tuple(said[place] for place in order))
        scores.append(sure[order])
        details.append({"boxes": found[order], "threshold": 0.5})
    return Answers(tuple(labels), tuple(scores), tuple(details)), tuple(examples)


def of_coco(answers: Answers, examples: tuple[Example, ...]) -> tuple[float, float, list[float]]:
    """What pycocotools says of them: both means, and the precision of each class."""
    coco = pytest.importorskip("pycocotools.coco", reason="pycocotools is not installed")
    evaluation = pytest.importorskip("pycocotools.cocoeval")
    truth, found = coco.COCO(), []
    annotations: list[dict[str, Any]] = []
    for image, (example, answer) in enumerate(zip(examples, answers, strict=True), start=1):
        marked = objects_of(example)
        assert marked is not None
        for label, (a, b, c, d), crowd in zip(
            marked.labels, marked.corners, marked.ignored, strict=True
        ):
            annotations.append({
                "id": len(annotations) + 1, "image_id": image, "iscrowd": int(crowd),
                "category_id": CLASSES.index(label) + 1, "bbox": [a, b, c - a, d - b],
                "area": (c - a) * (d - b),
            })  # fmt: skip
        for label, score, (a, b, c, d) in zip(
            answer.labels, answer.confidence, answer.details["boxes"], strict=True
        ):
            found.append({"image_id": image, "category_id": CLASSES.index(label) + 1,
                          "bbox": [a, b, c - a, d - b], "score": float(score)})  # fmt: skip
    truth.dataset = {
        "images": [{"id": n} for n in range(1, len(examples) + 1)],
        "annotations": annotations,
        "categories": [{"id": n, "name": one} for n, one in enumerate(CLASSES, start=1)],
        "info": {},
    }
    truth.createIndex()
    judge = evaluation.COCOeval(truth, truth.loadRes(found), "bbox")
    judge.evaluate()
    judge.accumulate()
    values = judge.eval["precision"][:, :, :, 0, 2]  # all areas, 100 boxes
    each = [float(values[:, :, n].mean()) for n in range(len(CLASSES))]
    known = values[values > -1]
    half = values[0][values[0] > -1]
    return float(known.mean()), float(half.mean()), each


@pytest.mark.parametrize("seed", range(6))
def test_precision_is_that_of_coco(seed: int) -> None:
    answers, examples = made_up(seed)
    mean, half, each = of_coco(answers, examples)
    found = {one.slice or one.metric: one.value for one in KIND.score(answers, examples, CLASSES)}
    assert found["map"] == pytest.approx(mean, abs=1e-9) and 0.05 < mean < 0.9
    assert found["map50"] == pytest.approx(half, abs=1e-9)
    for name, value in zip(CLASSES, each, strict=True):
        assert found.get(f"label:{name}", -1.0) == pytest.approx(value, abs=1e-9)


@given(st.integers(0, 10**6), st.lists(st.integers(0, 3), min_size=5, max_size=5))
@settings(max_examples=30, deadline=None)
def test_a_resample_is_the_same_as_images_written_so_often(seed: int, times: list[int]) -> None:
    answers, examples = made_up(seed, 5, ties=False)  # of equal scores the order is no rule
    drawn = np.repeat(np.arange(5), times).tolist()
    some = Precision(answers.part(drawn), [examples[n] for n in drawn])
    whole = Precision(answers, examples)
    assert whole.mean(np.array(times)) == pytest.approx(some.mean(), abs=1e-9)


def test_what_is_lost_has_an_interval() -> None:
    answers, examples = made_up(3, 20)
    worse = Answers(
        answers.labels, answers.confidence,
        tuple({**one, "boxes": one["boxes"] + 4} for one in answers.details),
    )  # fmt: skip
    lost, low, high = paired_bootstrap_drop(MAP, answers, worse, examples, 0, 200)
    values = [MAP.whole(one, examples, CLASSES)[0] for one in (answers, worse)]  # type: ignore[misc]
    assert lost == pytest.approx(values[0] - values[1]) and 0 < low < lost < high
    assert paired_bootstrap_drop(MAP_50, answers, answers, examples, 0, 50) == (0, 0, 0)


def test_nothing_found_and_nothing_to_find() -> None:
    nothing = Answers(((),), (np.zeros(0),), ({"boxes": np.zeros((0, 4)), "threshold": 0.5},))
    marked = (Example({}, Objects(("cat",), ((0.0, 0.0, 9.0, 9.0),), (False,))),)
    assert Precision(nothing, marked).mean() == 0
    assert Precision(nothing, (Example({}, Objects()),)).mean() == 0
    assert Precision(nothing, (Example({}, None),)).mean() == 0


def test_of_boxes_that_overlap_the_likeliest_is_left() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 1, 11, 11], [0, 0, 10, 10], [30, 30, 40, 40.0]])
    assert sorted(suppressed(boxes, np.array([0, 0, 1, 0]), 0.5)) == [0, 2, 3]
    assert sorted(suppressed(boxes, np.array([0, 0, 1, 0]), 0.9)) == [0, 1, 2, 3]
    values = np.array([[0.5, 0.5, 0.5, 0.5, 0.9, 0.2], [0.5, 0.5, 0.52, 0.5, 0.3, 0.0]])
    size, inner = np.array((200.0, 100.0)), np.array((0.0, 0.25, 1.0, 0.5))
    found, scores, classes = found_boxes(values, size, inner, 0.5)
    np.testing.assert_allclose(found, [[50, 0, 150, 100]] * 2)  # cut off at the image's edges
    assert scores.tolist() == [0.9, 0.2] and classes.tolist() == [0, 1]
    assert len(found_boxes(values, size, inner, None)[0]) == 3


@pytest.mark.parametrize("letterbox", [None, 114])
@pytest.mark.parametrize("shape", [(50, 90), (77, 31), (64, 64)])
def test_boxes_go_to_the_model_and_back(letterbox: int | None, shape: tuple[int, int]) -> None:
    described = {"size": {"height": 96, "width": 64}, "do_normalize": False, "letterbox": letterbox}
    processor = DetectionProcessor(read_settings(described), "", detector=DetectorSettings())
    box = (3.0, 5.0, 20.0, 41.0)
    image = np.full((*shape, 3), 200, np.uint8)
    example = Example({"image": image}, Objects(("red",), (box,), (False,)))
    rows = KIND.rows([example], processor, COLOURS)
    target = rows.rows[0].target["labels"]
    values = np.concatenate((target[:, 1:], np.eye(2)[target[:, 0].astype(int)]), axis=1)
    (answer,) = KIND.decode([values], rows)
    assert answer.labels == ("red",)
    np.testing.assert_allclose(answer.details["boxes"], [box], atol=1e-4)
    fed = rows.rows[0].feed["pixel_values"]
    assert fed.shape == (3, 96, 64)
    if letterbox and shape == (50, 90):
        assert np.allclose(fed[:, 0], 114 / 255) and np.allclose(fed[:, 48], 200 / 255)


def test_two_models_agree_where_boxes_lie_in_one_place() -> None:
    answers, examples = made_up(1)
    assert KIND.agreement(answers, answers) == 1
    moved = Answers(
        answers.labels, answers.confidence,
        tuple({**one, "boxes": one["boxes"] + 100} for one in answers.details),
    )  # fmt: skip
    assert KIND.agreement(answers, moved) == 0
    said = KIND.say(next(iter(answers)), examples[0])
    sure = int((answers.confidence[0] >= 0.5).sum())
    assert len(said["objects"]) == sure > 0
    assert said["objects"][0]["box"].keys() == {"xmin", "ymin", "xmax", "ymax"}
    assert KIND.describe(said).count("\n") == sure - 1
    assert len(KIND.findings(next(iter(answers)), examples[0])) == sure


def test_the_floor_answers_the_usual_box() -> None:
    floor = KIND.floor(scenes(6), None)
    assert floor is not None
    answers = floor.answers(scenes(3, 1))
    assert len(set(answers.labels)) == 1 and answers.labels[0][0] in COLOURS
    assert answers.details[0]["boxes"].shape == (1, 4)
    assert KIND.floor([Example({}, Objects())], None) is None


@pytest.mark.parametrize(
    ("corners", "said"),
    [
        ((5, 5, 5, 9), "has no area"),
        ((9, 5, 5, 9), "has no area"),
        ((-3, 0, 5, 5), "reaches out of its image of 20 × 10"),
        ((15, 5, 23, 9), "reaches out"),
        ((0, 0, float("nan"), 5), "no four numbers"),
        ((20.5, 0, 21, 5), "lies outside"),
    ],
)
def test_a_box_that_is_none_is_refused(corners: tuple[float, ...], said: str) -> None:
    with pytest.raises(DataError, match=said):
        inside(corners, 20, 10)


def test_a_box_is_cut_off_at_the_edge_and_outputs_are_checked() -> None:
    assert inside((-1, 2, 21.5, 9), 20, 10) == (0, 2, 20, 9)
    rows = KIND.rows(scenes(1), DetectionProcessor(
        read_settings({"size": SIDE, "do_normalize": False}), ""), COLOURS)  # fmt: skip
    with pytest.raises(StageError, match=r"preprocessor\.detector"):
        KIND.compact(np.zeros(6), rows.rows[0])
    with pytest.raises(StageError, match="scores 3 classes, and 2 are named"):
        KIND.decode([np.ones((1, 7))], rows)
    with pytest.raises(DataError, match="label 'blue' is none of the model's: green, red"):
        blue = Objects(("blue",), ((0.0, 0.0, 9.0, 9.0),), (False,))
        KIND.rows([Example({"image": np.zeros((9, 9, 3), np.uint8)}, blue)], rows.processor,
                  COLOURS)  # fmt: skip


def test_boxes_are_matched_with_a_teachers_before_they_are_compared() -> None:
    import torch

    chance = torch.Generator().manual_seed(0)
    its = torch.rand((2, 5, 6), generator=chance)
    kind = task("object-detection")
    assert torch.allclose(kind.distance(its, its), torch.zeros(2), atol=1e-5)
    shuffled = its[:, [3, 0, 4, 1, 2]]
    assert torch.allclose(kind.distance(shuffled, its), torch.zeros(2), atol=1e-5)
    moved = its.clone()
    moved[0, 2, 0] += 0.3
    sure = its[0, 2, 4:].max() / its[0, :, 4:].amax(-1).sum()
    apart = kind.distance(moved, its)
    assert torch.allclose(apart, torch.tensor([5 * 0.3 * float(sure), 0]), atol=1e-4)
    # One box more is no matter where it says that nothing is there.
    nothing = torch.full((2, 1, 6), 1e-5)
    more = torch.cat((its, nothing), dim=1)
    assert torch.allclose(kind.distance(more, its), torch.zeros(2), atol=2e-3)
    more[:, -1, 4] = 0.9
    assert (kind.distance(more, its) > 0.3).all()
