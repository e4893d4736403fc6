"""Objects in an image: a class and a box for each; mAP as COCO counts it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from edgecompress.boxes import Objects, objects_of, overlaps
from edgecompress.errors import DataError, StageError
from edgecompress.metrics import Metric
from edgecompress.processors.pictures import picture_size
from edgecompress.tasks._marked import EDGES, marked_objects
from edgecompress.tasks._matching import boxes_apart
from edgecompress.tasks._precision import MAP, MAP_50, Precision
from edgecompress.tasks._suppression import FLOOR, found_boxes
from edgecompress.tasks.answers import Answer, Answers, Finding, Findings, Score
from edgecompress.tasks.asking import Form
from edgecompress.tasks.base import Floats, Floor, Task, check_outputs
from edgecompress.tasks.pictures import IMAGE, picture_from, picture_of
from edgecompress.tasks.rows import Row, Rows
from edgecompress.tasks.taught import Output
from edgecompress.values import Example, Json, OnnxModel, Runner

SAME = 0.5
"""Overlap from which on two models' boxes of a class are the same object."""
SHOWN = 100
"""Most classes of which each gets a line of its own in reports; COCO has eighty."""
TRIAL_SIDES = (64, 320)


class ObjectDetection(Task):
    """A class and a box for each object in an image."""

    name: ClassVar[str] = "object-detection"
    also_called: ClassVar[tuple[str, ...]] = ("detection", "detect", "yolo")
    auto_class: ClassVar[str] = "AutoModelForObjectDetection"
    metrics: ClassVar[tuple[Metric, ...]] = (MAP, MAP_50)
    label_metric: ClassVar[Metric | None] = MAP
    outputs: ClassVar[tuple[Output, ...]] = (Output("detections", "vector", candidates=True),)
    processor: ClassVar[str] = "detection"
    forms: ClassVar[tuple[Form, ...]] = ((IMAGE,),)
    tells: ClassVar[bool] = True
    target: ClassVar[str] = "objects"
    kept: ClassVar[tuple[str, ...]] = ("boxes",)
    sample: ClassVar[str] = "photo.jpg"
    does: ClassVar[str] = "finds objects in an image: a class, a box and how sure it is"

    def head_class(self, config: Any) -> type | None:
        """Give transformers' own, with boxes and probabilities in one tensor."""
        head: Any = super().head_class(config)
        if head is None:
            return None
        # By its name, as it imports torch: what a task is for hangs on none (see surgery/model.py).
        made: type = import_module("edgecompress.modules.detections").detections_of(head)
        return made

    def label_names(self, examples: Sequence[Example]) -> tuple[str, ...]:
        """Give all classes, sorted."""
        marked = [objects_of(example) for example in examples]
        found = {label for one in marked if one is not None for label in one.labels}
        if all(one is None for one in marked):
            raise DataError(
                f"the data marks no objects; {self.name} needs images with boxes (formats coco, "
                "yolo and voc)"
            )
        return tuple(sorted(found))

    def check_judged(self, examples: Sequence[Example]) -> None:
        """Refuse examples none of which has an object."""
        if examples and not any(one.labels for one in map(objects_of, examples) if one):
            raise DataError("no image has an object marked, by which the model is judged")

    def finished(
        self, inputs: Mapping[str, Any], target: Any, told: bool
    ) -> tuple[Mapping[str, Any], Any]:
        """Hold the boxes of a record against its image."""
        if not told or target is None:
            return inputs, None
        height, width = picture_size(inputs["image"])
        return inputs, marked_objects(target, width, height)

    def rows(self, examples: Sequence[Example], processor: Any, classes: Sequence[str]) -> Rows:
        """Give each image a row, whose array is made when it is asked for.

        In a row's `place` are ``size`` and ``inner`` of `DetectionProcessor.geometry`; ``labels``
        are float32 (objects, 5): the class, then centre and size as shares of what is fed.

        Raises
        ------
        DataError
            When a class is not among `classes`.
        """
        ids = {label: index for index, label in enumerate(classes)}
        found = []
        for number, example in enumerate(examples):
            picture = picture_of(example)
            place = processor.geometry(picture)
            target = {"labels": _marked(objects_of(example), ids, place, example)}
            feed, cost = processor.feed(picture), processor.cost(picture)
            found.append(Row(feed, number, cost, place, target))
        return Rows(tuple(found), examples, self, processor, tuple(classes))

    def stepwise(self, row: Row) -> bool:  # noqa: ARG002
        """Whether a row has a part for each step of its input: none, but candidates of its own."""
        return False

    def compact(self, output: Floats, row: Row) -> Floats:  # noqa: ARG002
        """Keep the boxes that are likely enough to be scored."""
        if output.ndim != 2 or output.shape[-1] < 5:
            raise StageError(
                f"the model gives {list(output.shape)} for an image, and {self.name} reads a list "
                "of boxes with their scores; say how they lie in it (preprocessor.detector)"
            )
        return output[~(output[:, 4:].max(axis=1) <= FLOOR)]

    def told(self, targets: Mapping[str, Any]) -> Mapping[str, Any]:
        """Give the objects of each image as transformers' detectors take them."""
        known = [each[~each[:, 0].isnan()] for each in targets["labels"]]
        return {
            "labels": [{"class_labels": one[:, 0].long(), "boxes": one[:, 1:]} for one in known]
        }

    def loss(self, outputs: Any, targets: Mapping[str, Any]) -> Any | None:  # noqa: ARG002
        """Give the loss that transformers' detector has worked out: of its own family."""
        if outputs.loss is None:
            raise StageError(f"{self.name} has no loss where a model is not told the right boxes")
        return outputs.loss

    def distance(self, student: Any, teacher: Any) -> Any | None:
        """Give how far boxes are from a teacher's, with which they are matched."""
        return boxes_apart(student, teacher)

    def decode(self, outputs: Sequence[Floats], rows: Rows) -> Answers:
        """Read the boxes of each image, the surest first.

        The details are ``boxes`` float64 (found, 4) in pixels of the image, and ``threshold``, from
        which on they are told.
        """
        check_outputs(outputs, rows)
        names, detector = rows.classes, rows.processor.detector
        labels, confidence, details = [], [], []
        for row, values in zip(rows, outputs, strict=True):
            if values.shape[1] != 4 + len(names):
                raise StageError(
                    f"the model scores {values.shape[1] - 4} classes, and {len(names)} are named"
                )
            boxes, scores, classes = found_boxes(
                values, row.place["size"], row.place["inner"], detector.iou
            )
            labels.append(tuple(names[one] for one in classes.tolist()))
            confidence.append(scores)
            details.append({"boxes": boxes, "threshold": detector.threshold})
        return Answers(tuple(labels), tuple(confidence), tuple(details))

    def agreement(self, a: Answers, b: Answers) -> float:
        """Say which share of the boxes that both tell has its like at the other."""
        alike = total = 0
        for one, other in zip(a, b, strict=True):
            mine, theirs = _told(one), _told(other)
            total += len(mine.labels) + len(theirs.labels)
            alike += 2 * _alike(mine, theirs)
        return alike / total if total else 1.0

    def by_label(
        self,
        answers: Answers,
        examples: Sequence[Example],
        labels: Sequence[str],
    ) -> list[Score]:
        """Score the average precision of every class that the examples hold."""
        found = Precision(answers, examples)
        if len(labels) > SHOWN:
            return []
        counts = found.right.sum(axis=1).astype(int).tolist()
        triples = zip(found.classes, found.by_class().tolist(), counts, strict=True)
        return [Score(MAP.name, value, f"label:{name}", n) for name, value, n in triples if n]

    def floor(self, known: Sequence[Example], processor: Any) -> Floor | None:  # noqa: ARG002
        """Answer every image with the commonest class, in the box that its objects have mostly."""
        marked = [(objects_of(one), one) for one in known]
        counts = Counter(label for one, _ in marked if one for label in one.labels)
        if not counts:
            return None
        label = min(counts, key=lambda name: (-counts[name], name))
        shares = [
            np.array(box) / np.tile(picture_size(picture_of(example))[::-1], 2)
            for one, example in marked if one
            for name, box in zip(one.labels, one.corners, strict=True) if name == label
        ]  # fmt: skip
        usual = np.median(shares, axis=0)

        def same(examples: Sequence[Example]) -> Answers:
            sizes = [np.tile(picture_size(picture_of(one))[::-1], 2) for one in examples]
            boxes = tuple({"boxes": (usual * size)[None], "threshold": 0.0} for size in sizes)
            return Answers(((label,),) * len(examples), (np.ones(1),) * len(examples), boxes)

        return Floor("always the same box", f"«{label}» in the usual place", same)

    def ask(self, question: Any) -> Example:
        """Make an example of a path, of a file's bytes, of an array or of an image of Pillow's."""
        found = super().ask(question)
        return Example({"image": picture_from(found.inputs["image"])})

    def say(self, answer: Answer, example: Example) -> Json:
        """Say the objects that are sure enough, the surest first, in pixels of the image."""
        picture, told = picture_of(example), _told(answer)
        named = {"image": str(picture)} if isinstance(picture, Path) else {}
        objects = [
            {"label": label, "score": float(score),
             "box": dict(zip(EDGES, box, strict=True))}
            for label, score, box in zip(told.labels, answer.confidence, told.corners, strict=False)
        ]  # fmt: skip
        return {**named, "objects": objects}

    def describe(self, said: Json) -> str:
        """Write each object on a line: its class, how sure, and its box."""
        lines = [str(said["image"])] if "image" in said else []
        for one in said["objects"]:
            box = ", ".join(f"{one['box'][edge]:.0f}" for edge in EDGES)
            lines.append(f"  {one['score']:6.1%}  {one['label']}  [{box}]")
        return "\n".join(lines if said["objects"] else [*lines, "  nothing found"])

    def right(self, example: Example) -> Answer | None:
        """Give the objects that people marked."""
        marked = objects_of(example)
        if marked is None:
            return None
        details = {"boxes": marked.boxes, "threshold": 0.0}
        return Answer(marked.labels, np.ones(len(marked.labels)), details)

    def answered(self, examples: Sequence[Example], answers: Answers) -> list[Json]:
        """Write a model's own answers as records."""
        return [
            {**example.inputs, "objects": self.say(answer, example)["objects"]}
            for example, answer in zip(examples, answers, strict=True)
        ]

    def findings(self, answer: Answer, example: Example) -> Findings:  # noqa: ARG002
        """Give each object by its class and its number among those of its class."""
        seen: Counter[str] = Counter()
        found = []
        for label in _told(answer).labels:
            seen[label] += 1
            words = label if seen[label] == 1 else f"{label} ({seen[label]})"
            found.append(Finding(words, (("label", label), ("number", seen[label]))))
        return tuple(found)

    def scope(self, labels: Sequence[str]) -> str:
        """Say what it cannot find."""
        return f"It finds objects of its {len(labels)} classes and no others." if labels else ""

    def trial(self) -> tuple[Example, ...]:
        """Give two made-up images."""
        random = np.random.default_rng(0)
        sizes = [(side, side, 3) for side in TRIAL_SIDES]
        images = [random.integers(0, 256, size, dtype=np.uint8) for size in sizes]
        return tuple(self.ask({"image": image}) for image in images)

    def take_graph(
        self, graph: OnnxModel, opened: Callable[[], Runner], processor: Any,
        classes: Sequence[str], folder: Path,
    ) -> OnnxModel:  # fmt: skip
        """Write behind a graph's boxes and scores what makes them those that are read here."""
        from edgecompress.tasks._detector_graph import write_detections

        picture = np.zeros((*processor.fed, 3), np.uint8)
        given = opened()(processor.batch([processor.feed(picture)], processor.input_names))
        shapes = {name: np.shape(value) for name, value in given.items()}
        made = folder / "model.onnx"
        write_detections(graph.path, shapes, processor.detector, processor.fed, len(classes), made)
        return OnnxModel(made, graph.session)


def _told(answer: Answer) -> Objects:
    """Give the boxes that are sure enough to be told."""
    count = int((answer.confidence >= answer.details.get("threshold", 0.0)).sum())
    boxes = np.asarray(answer.details["boxes"], np.float64)[:count]
    return Objects(answer.labels[:count], tuple(map(tuple, boxes.tolist())), (False,) * count)


def _alike(a: Objects, b: Objects) -> int:
    """Count the pairs of boxes of one class that lie in one place, each box once."""
    close = overlaps(a.boxes, b.boxes)
    same = np.array(a.labels, object)[:, None] == np.array(b.labels, object)[None]
    close = np.where(same.astype(bool), close, 0.0)
    count = 0
    while close.size and close.max() >= SAME:
        row, column = np.unravel_index(int(close.argmax()), close.shape)
        close[row, :], close[:, column] = 0.0, 0.0
        count += 1
    return count


def _marked(
    marked: Objects | None, ids: Mapping[str, int], place: Mapping[str, Any], example: Example
) -> np.ndarray[Any, Any]:
    """Give what an image should teach, float32 (objects, 5), NaN where nobody said it."""
    if marked is None:
        return np.full((1, 5), np.nan, np.float32)
    kept = [number for number, left in enumerate(marked.ignored) if not left]
    unknown = next((one for one in marked.labels if one not in ids), None)
    if unknown is not None:
        where = f" (in {example.source})" if example.source else ""
        known = ", ".join(list(ids)[:20])
        raise DataError(f"label {unknown!r}{where} is none of the model's: {known}")
    boxes = marked.boxes[kept] / np.tile(place["size"], 2)
    low = place["inner"][:2] + boxes[:, :2] * place["inner"][2:]
    high = place["inner"][:2] + boxes[:, 2:] * place["inner"][2:]
    classes = [[ids[marked.labels[number]]] for number in kept]
    columns = (np.array(classes).reshape(-1, 1), (low + high) / 2, high - low)
    return np.concatenate(columns, axis=1).astype(np.float32)
