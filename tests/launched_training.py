"""Stages that train, one after the other; `accelerate launch` runs this file in several processes.

Its arguments are a folder to work in and a JSON file, to which the main process writes what came of
each stage. Before it ends, every process writes which threads of the groups it still has beside it.
"""

import json
import sys
from functools import partial
from pathlib import Path

from helpers import small_context, tagged_examples, tiny_teacher

from edgecompress.errors import EdgeCompressError
from edgecompress.launched import process_rank
from edgecompress.stages.distil import Distil
from edgecompress.stages.finetune import Finetune
from edgecompress.store import Store
from edgecompress.training.together import (
    cached,
    dismiss_the_others,
    help_the_main_process,
    together,
)

TRAIN, VALIDATION = tagged_examples(50, 1), tagged_examples(30, 2)
STAGES = {
    "finetune": Finetune(epochs=2, learning_rate=3e-3),
    "diverging": Finetune(epochs=2, learning_rate=1e30),
    "pruning": Finetune(epochs=2, gradual={"heads": 0.25, "ffn": 0.5, "multiple_of": 8}),
    "distil": Distil(epochs=2, learning_rate=3e-3, layer_map="uniform"),
    "afterwards": Finetune(epochs=1, batch_size=49),
}


def apply_all(folder):
    """Apply every stage; gives decisions, or the error, by name."""
    student = tiny_teacher(folder / "new", TRAIN, "token-classification")
    teacher = tiny_teacher(folder / "teacher", TRAIN, "token-classification", layers=4)
    store = Store(folder / "store")
    found = {}
    for name, stage in STAGES.items():
        given = {"train": TRAIN, "validation": VALIDATION, "teacher": teacher}
        context = small_context(folder / name, cached=partial(cached, store), **given)
        try:
            with together(stage, student, context, store, None):
                result = stage.apply(student, context)
            found[name] = result.steps[-1].decisions
        except EdgeCompressError as error:
            found[name] = {"error": str(error), "kind": type(error).__name__}
    return found


def group_threads():
    """Give the names of this process's threads that belong to process groups (Linux)."""
    names = (path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm"))
    return [name for name in names if "gloo" in name]


if __name__ == "__main__":
    if process_rank() > 0:
        help_the_main_process()
    else:
        try:
            found = apply_all(Path(sys.argv[1]))
        finally:
            dismiss_the_others()
        Path(sys.argv[2]).write_text(json.dumps(found), encoding="utf-8")
    left = Path(sys.argv[2]).with_suffix(f".threads{process_rank()}")
    left.write_text(json.dumps(group_threads()), encoding="utf-8")
