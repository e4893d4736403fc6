"""Average precision of detectors as COCO counts it, prepared so that resampling is cheap.

Source: T.-Y. Lin et al., 2014, "Microsoft COCO: Common objects in context", and its evaluation
(pycocotools): 101 recalls, ten overlaps from 0.5 to 0.95, at most 100 boxes of a class and image;
of an ignored object nobody counts who finds it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecompress.boxes import Objects, areas, objects_of, shared
from edgecompress.metrics import ANSWERS, Metric
from edgecompress.tasks.answers import Answers
from edgecompress.values import Example

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
MOST = 100
Weigher = Callable[[NDArray[Any]], float]


class Precision:
    """The boxes of a model held against the right ones, of every class and image.

    A resample is how often each image is drawn. Copies of an image stand beside each other in the
    order of scores, so that sums over boxes are sums of these numbers, and neither matching nor
    sorting is done again.

    Parameters
    ----------
    answers : Answers
        Each with ``boxes`` among its details, float (boxes, 4).
    examples : sequence of Example
        Images without right answers count for nothing.
    thresholds : float64 (thresholds,)
    """

    def __init__(
        self, answers: Answers, examples: Sequence[Example], thresholds: NDArray[Any] = THRESHOLDS
    ) -> None:
        truth = [objects_of(example) for example in examples]
        self.classes = sorted({label for one in truth if one for label in one.labels})
        self.thresholds = thresholds
        places = {label: place for place, label in enumerate(self.classes)}
        self.right = np.zeros((len(self.classes), len(examples)))
        parts: list[tuple[NDArray[Any], ...]] = []
        for image, (answer, marked) in enumerate(zip(answers, truth, strict=True)):
            if marked is None:
                continue
            boxes = np.asarray(answer.details["boxes"], np.float64).reshape(-1, 4)
            said, known = np.array(answer.labels, object), np.array(marked.labels, object)
            for label in sorted({*answer.labels, *marked.labels} & places.keys()):
                mine = np.flatnonzero(said == label)
                mine = mine[np.argsort(-answer.confidence[mine], kind="stable")][:MOST]
                theirs = np.flatnonzero(known == label)
                some = Objects(
                    corners=tuple(marked.corners[at] for at in theirs),
                    ignored=tuple(marked.ignored[at] for at in theirs),
                )
                self.right[places[label], image] = len(theirs) - sum(some.ignored)
                hit, left = matched(boxes[mine], some, thresholds)
                where = np.full(len(mine), places[label])
                parts.append((answer.confidence[mine], where, np.full(len(mine), image), hit, left))
        self._sort(parts)

    def _sort(self, parts: Sequence[tuple[NDArray[Any], ...]]) -> None:
        """Order all boxes by class and falling score, as each threshold counts them."""
        count = len(self.thresholds)
        scores = np.concatenate([np.zeros(0), *(one[0] for one in parts)])
        classes = np.concatenate([np.zeros(0, int), *(one[1] for one in parts)])
        images = np.concatenate([np.zeros(0, int), *(one[2] for one in parts)])
        hit = np.concatenate([np.zeros((count, 0), bool), *(one[3] for one in parts)], axis=1)
        left = np.concatenate([np.zeros((count, 0), bool), *(one[4] for one in parts)], axis=1)
        order = np.lexsort((-scores, classes))
        self.images, classes = images[order], classes[order]
        hit, self.counted = hit[:, order], ~left[:, order]
        starts = np.searchsorted(classes, np.arange(len(self.classes)))
        # Of every box that is right: its threshold, its place, its class, its class's first place.
        self.level, self.at = np.nonzero(hit)
        self.of = classes[self.at]
        self.start = starts[self.of]
        group = self.level * len(self.classes) + self.of
        self.first = np.flatnonzero(np.diff(group, prepend=-1))  # of each threshold and class
        self.sizes = np.diff(np.append(self.first, len(group)))
        self.group = np.repeat(np.arange(len(self.first)), self.sizes)

    def by_class(self, times: NDArray[Any] | None = None) -> NDArray[np.float64]:
        """Give the average precision of each class, the mean over thresholds; NaN without objects.

        Parameters
        ----------
        times : int (images,), optional
            How often each image counts; once where it is left out.
        """
        weights = np.ones(self.right.shape[1]) if times is None else times.astype(np.float64)
        right = self.right @ weights
        values = np.full(len(self.classes), np.nan)
        values[right > 0] = 0.0
        if not len(self.at):
            return values
        of_boxes = weights[self.images]
        seen = np.cumsum(np.where(self.counted, of_boxes, 0.0), axis=1)
        seen = np.concatenate((np.zeros((len(seen), 1)), seen), axis=1)
        boxes = seen[self.level, self.at + 1] - seen[self.level, self.start]
        hits = np.cumsum(of_boxes[self.at])
        before = np.concatenate(([0.0], hits))[self.first]
        hits = hits - np.repeat(before, self.sizes)
        with np.errstate(divide="ignore", invalid="ignore"):  # where nothing of a class was drawn
            precision = np.where(boxes > 0, hits / boxes, 0.0)
            recall = np.where(right[self.of] > 0, hits / right[self.of], 0.0)
        # The best precision at this recall or a higher one, group by group: from behind, each group
        # is lifted above the one behind it, so that one running maximum serves all.
        lift = 2.0 * (len(self.first) - self.group)
        best = np.maximum.accumulate((precision + lift)[::-1])[::-1] - lift
        reached = np.searchsorted(RECALLS, recall, side="right")
        reached[hits == 0] = 0
        steps = np.diff(reached, prepend=0)
        steps[self.first] = reached[self.first]
        sums = np.bincount(self.of, best * steps, len(self.classes))
        found = sums / (len(RECALLS) * len(self.thresholds))
        return np.where(np.isnan(values), values, found)

    def mean(self, times: NDArray[Any] | None = None) -> float:
        """Give the mean over the classes that have objects; 0 where there are none."""
        found = self.by_class(times)
        known = found[~np.isnan(found)]
        return float(known.mean()) if len(known) else 0.0


def matched(
    boxes: NDArray[np.float64], marked: Objects, thresholds: NDArray[Any]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Give each box, the likeliest first, the free object that it overlaps most.

    Parameters
    ----------
    boxes : float64 (boxes, 4)
    marked : Objects
        Of one class and image.
    thresholds : float64 (thresholds,)

    Returns
    -------
    hit, left : bool (thresholds, boxes)
        Whether it is right; whether it lies on an ignored object, and counts for nothing.
    """
    hit = np.zeros((len(thresholds), len(boxes)), bool)
    left = hit.copy()
    if not len(boxes) or not marked.corners:
        return hit, left
    ignored = np.array(marked.ignored, bool)
    order = np.argsort(ignored, kind="stable")  # ignored ones last
    ignored, right = ignored[order], marked.boxes[order]
    common = shared(boxes, right)
    union = areas(boxes)[:, None] + areas(right)[None] - common
    # Of a crowd, what counts is how much of the box lies in it.
    whole = np.where(ignored[None], np.broadcast_to(areas(boxes)[:, None], common.shape), union)
    close = np.divide(common, whole, out=np.zeros_like(common), where=whole > 0)
    for level, least in enumerate(thresholds):
        free = np.ones(len(right), bool)
        for number in range(len(boxes)):
            for some in (~ignored, ignored):
                open_ = np.flatnonzero(
                    some & (free | ignored) & (close[number] >= min(least, 1 - 1e-10))
                )
                if not len(open_):
                    continue
                # Of equal ones the last, as in COCO's evaluation.
                best = open_[len(open_) - 1 - np.argmax(close[number, open_][::-1])]
                free[best] = False
                hit[level, number], left[level, number] = not ignored[best], ignored[best]
                break
    return hit, left


def _metric(name: str, title: str, meaning: str, thresholds: NDArray[Any]) -> Metric:
    def weighed(answers: Answers, examples: Sequence[Example], _: Sequence[str]) -> Weigher:
        return Precision(answers, examples, thresholds).mean

    def whole(answers: Answers, examples: Sequence[Example], _: Sequence[str]) -> tuple[float, int]:
        return Precision(answers, examples, thresholds).mean(), len(examples)

    return Metric(
        name, title, meaning, higher_is_better=True, needs=ANSWERS, best="most accurate",
        whole=whole, weighed=weighed,
    )  # fmt: skip


MAP = _metric(
    "map", "mAP", "mean average precision as COCO counts it, over overlaps from 0.5 to 0.95",
    THRESHOLDS,
)  # fmt: skip
MAP_50 = _metric(
    "map50", "mAP at 0.5", "mean average precision where an overlap of 0.5 is enough",
    THRESHOLDS[:1],
)  # fmt: skip
