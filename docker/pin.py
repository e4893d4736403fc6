"""Pin the base image of both Dockerfiles to the digest that its registry gives: `make pin`.

The registry is asked by skopeo or by docker. The digest is the SHA-256 of the manifest list that
came, so one digest stands for all platforms; nothing is written when nothing came.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

FILES = ("runtime.Dockerfile", "builder.Dockerfile")
QUESTIONS = {
    "skopeo": ("inspect", "--raw", "docker://{}"),
    "docker": ("buildx", "imagetools", "inspect", "--raw", "{}"),
}
_BASE = re.compile(r"^ARG BASE=(\S+)$", re.MULTILINE)
_LISTS = ("manifest.list.v2+json", "image.index.v1+json")


def resolve(name: str) -> str:
    """Give the digest of `name`, a name with a tag and without a digest.

    Raises
    ------
    SystemExit
        When nobody can be asked, or the answer is no list of platforms.
    """
    for program, question in QUESTIONS.items():
        if shutil.which(program) is not None:
            command = [program, *(part.format(name) for part in question)]
            done = subprocess.run(command, capture_output=True, check=False)
            break
    else:
        sys.exit("neither skopeo nor docker is installed; one of them must ask the registry")
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        sys.exit(f"{name}: {program} could not resolve it: {(said or ['no reason given'])[-1]}")
    if not str(json.loads(done.stdout).get("mediaType", "")).endswith(_LISTS):
        sys.exit(f"{name}: is of one platform only; choose a base for linux/amd64 and linux/arm64")
    return f"sha256:{hashlib.sha256(done.stdout).hexdigest()}"


def main(folder: Path) -> None:
    """Pin the Dockerfiles in `folder`; a digest that is there already is renewed."""
    for file in (folder / name for name in FILES):
        text = file.read_text(encoding="utf-8")
        found = _BASE.search(text)
        if found is None:
            sys.exit(f"{file}: has no line ARG BASE=…")
        name = found[1].partition("@")[0]
        pinned = f"{name}@{resolve(name)}"
        file.write_text(text[: found.start(1)] + pinned + text[found.end(1) :], encoding="utf-8")
        print(f"{file.name}: {pinned}")  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent)
