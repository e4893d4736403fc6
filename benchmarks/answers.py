"""Try every scheme on random graphs of the kinds that 8 bits get wrong, and count what comes of it.

    python benchmarks/answers.py --count 50 [--kind mask_table …]

A model that answers wrongly though nothing was said is the only failure; the exit code is 1 then.
Kinds and how a model is judged are in tests/odd_graphs.py, which uses nothing of this package.
"""

from __future__ import annotations

import argparse
import importlib
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from edgecompress.errors import EdgeCompressError
from edgecompress.stage import stage_class
from edgecompress.values import Candidate, OnnxModel

odd_graphs: Any = importlib.import_module("odd_graphs")
small_context: Any = importlib.import_module("helpers").small_context
NOTHING = ("no layer", "nothing")


def tried(case: Any, scheme: str, folder: Path) -> tuple[str, str]:
    """Quantize a case by a scheme; give what came of it, and why."""
    name, fields = odd_graphs.SCHEMES[scheme]
    if name == "quantize.static":
        fields = {**fields, "inputs": str(case.calibration)}
    stage: Any = stage_class(name)(**fields)
    home = Path.cwd()
    os.chdir(case.decoy or home)
    try:
        made = stage.apply(Candidate(OnnxModel(case.model)), small_context(folder))
    except EdgeCompressError as error:
        empty = any(word in str(error) for word in NOTHING)
        return ("nothing to do" if empty else "refused"), str(error)
    except Exception as error:  # noqa: BLE001 - any of them is a finding
        return "traceback", repr(error)
    finally:
        os.chdir(home)
    if case.refused:
        return "WRONG", "data from outside the model's folder were taken"
    found = odd_graphs.wrong(case, made.model.path)
    held = made.steps[-1].decisions.get("held")
    return ("WRONG", found) if found else ("held" if held else "right", "")


def main() -> int:
    """Count by kind; give the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20, help="graphs of each kind")
    parser.add_argument("--start", type=int, default=0, help="first seed")
    parser.add_argument("--kind", action="append", choices=sorted(odd_graphs.KINDS))
    asked = parser.parse_args()
    total: Counter[str] = Counter()
    for kind in asked.kind or odd_graphs.KINDS:
        counts: Counter[str] = Counter()
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="edgecompress-") as place:
            for case in odd_graphs.cases(kind, asked.count, Path(place), asked.start):
                root = case.calibration.parent
                for number, scheme in enumerate(odd_graphs.SCHEMES):
                    outcome, why = tried(case, scheme, root / str(number))
                    counts[outcome] += 1
                    if outcome in {"WRONG", "traceback"}:
                        print(f"  {outcome}: {root.name}, {scheme}: {why}")
                shutil.rmtree(root)
        told = ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))
        print(f"{kind}: {told} ({time.monotonic() - started:.0f} s)", flush=True)
        total += counts
    print("all:", ", ".join(f"{count} {what}" for what, count in sorted(total.items())))
    return 1 if total["WRONG"] + total["traceback"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
