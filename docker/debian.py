"""Make a small Debian base with Python as a local image, without a registry.

Run ``python docker/debian.py NAME [--platform linux/arm64] [--engine buildah]``. mmdebstrap unpacks
Debian 12's packages and configures none, so another architecture needs no emulator. The image
holds Python 3.11 with pip and venv, and what wheels link to; it is the base of either Dockerfile.
Archives are kept in the user's cache folder.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from edgecompress.images.context import host_platform
from edgecompress.images.engines import find_engine, load_image
from edgecompress.images.layer import Layer
from edgecompress.images.oci import image_config, write_archive
from edgecompress.images.wheel import EPOCH
from edgecompress.targets.emulated.debian import MIRROR, SUITE
from edgecompress.targets.machine import cache_folder
from edgecompress.values import file_digest, json_digest

PACKAGES = (
    "base-files", "python3-minimal", "python3-pip", "python3-venv", "libstdc++6", "libgomp1",
    "coreutils", "dash", "findutils",
)  # fmt: skip
STATUS = (
    'for package in "$1"/var/cache/apt/archives/*.deb; do '
    "dpkg-deb --field \"$package\" | sed '1a Status: install ok unpacked' && echo || exit 1; "
    'done > "$1"/var/lib/dpkg/status'
)
"""Lists the packages as dpkg would, which here installs none: an image's SBOM reads it."""
VARIANTS = {"amd64": "", "arm64": "v8"}
"""Engines look for a platform with its variant."""


def archive(architecture: str) -> Path:
    """Give the root file system as a .tar, made when it is not in the cache yet."""
    made_of = json_digest([SUITE, PACKAGES, STATUS, EPOCH])[:16]
    file = cache_folder() / "bases" / f"{architecture}-{made_of}.tar"
    known = file.with_suffix(".sha256")  # what is imported is what was made
    if not (file.is_file() and known.is_file() and known.read_text() == file_digest(file)):
        file.parent.mkdir(parents=True, exist_ok=True)
        aside = file.with_suffix(f".{os.getpid()}.tar")
        command = ["mmdebstrap", "--quiet", "--variant=extract", f"--architectures={architecture}"]
        command += [f"--extract-hook={STATUS}", f"--include={','.join(PACKAGES)}"]
        command += [SUITE, str(aside), MIRROR]
        # The same bytes whoever makes it, as long as the mirror has the same packages.
        environment = {**os.environ, "SOURCE_DATE_EPOCH": str(EPOCH)}
        subprocess.run(command, check=True, stdout=sys.stderr, env=environment)
        known.write_text(file_digest(aside))
        aside.rename(file)
    return file


def make_base(engine: str, name: str, platform: str) -> None:
    """Load the archive for `platform` as the image `name`: the same ID in every engine."""
    architecture = platform.rpartition("/")[2]
    file = archive(architecture)
    layer = Layer(file, f"sha256:{file_digest(file)}", file.stat().st_size)
    about = {"os": "linux", "architecture": architecture, "variant": VARIANTS[architecture]}
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "base.tar"
        image, _ = write_archive(made, image_config(about, {}, [layer], []), [layer], name)
        load_image(engine, made, image, name)
    print(image)  # noqa: T201


def main() -> None:
    """Make the base that the command line asks for."""
    parser = argparse.ArgumentParser(description="Make a local Debian base with Python.")
    parser.add_argument("name", help="of the image, such as localhost/base")
    parser.add_argument("--platform", default=host_platform())
    parser.add_argument("--engine", default="auto")
    given = parser.parse_args()
    make_base(find_engine(given.engine), given.name, given.platform)


if __name__ == "__main__":
    main()
