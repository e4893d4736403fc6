"""``python agent.pyz FOLDER`` does the job in FOLDER; ``… describe`` says what the machine is."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main() -> None:
    """Do what the command line says."""
    if len(sys.argv) != 2:
        sys.exit("usage: python agent.pyz FOLDER, or describe")
    if sys.argv[1] == "describe":
        from edgecompress.targets.agent.describe import describe

        print(json.dumps(describe()))
        return
    from edgecompress.targets.agent import watchdog
    from edgecompress.targets.agent.modes import run_job

    watchdog.start()
    run_job(Path(sys.argv[1]))


if __name__ == "__main__":
    main()
