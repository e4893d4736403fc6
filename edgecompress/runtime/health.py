"""Whether a bundle answers: what a container's health check runs.

``python -m edgecompress.runtime.health BUNDLE`` asks it what its task makes up to try it with, and
prints what it answers.
"""

from __future__ import annotations

import sys

from edgecompress.errors import EdgeCompressError
from edgecompress.runtime.opening import load
from edgecompress.tasks import task

SICK = 1
"""Exit code of a bundle that does not answer."""


def main(bundle: str) -> int:
    """Ask the bundle in a folder; give an exit code."""
    try:
        predictor = load(bundle, threads=1)
        made_up = task(str(predictor.manifest.task)).trial()
        for said in predictor._answer(made_up) if made_up else ():
            sys.stdout.write(f"{predictor.describe(said)}\n")
    except EdgeCompressError as error:
        sys.stderr.write(f"{error}\n")
        return SICK
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
