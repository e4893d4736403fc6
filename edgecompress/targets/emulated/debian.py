"""Debian packages of any architecture, fetched and unpacked without root and without installing.

`apt-get` is given state, lists and cache of its own, so that it neither needs rights nor touches
what the host has. Its configuration, with proxies and certificates, stays the host's.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgecompress.errors import TargetError

SUITE = "bookworm"
SYSTEM = "Debian GNU/Linux 12 (bookworm)"
MIRROR = "http://deb.debian.org/debian"
"""Debian's own, for hosts of another make; a Debian host's mirror is taken from its settings."""
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
LIMIT_S = 600.0
"""Longest that one download may take."""


def run(command: Sequence[str], what: str, cwd: Path | None = None) -> str:
    """Run a program of the host and give its standard output.

    Raises
    ------
    TargetError
        ``<what> failed`` and the last line that it wrote.
    """
    try:
        done = subprocess.run(
            list(command), cwd=cwd, capture_output=True, text=True, check=False, timeout=LIMIT_S
        )
    except OSError as error:
        raise TargetError(f"{what} failed: {error}") from None
    except subprocess.TimeoutExpired:
        raise TargetError(f"{what} took longer than {LIMIT_S:g} s") from None
    if done.returncode:
        lines = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        errors = [line for line in lines if re.match(r"(E:|ERROR|fatal)", line)] or lines[-1:]
        raise TargetError(f"{what} failed: {(errors or ['without a word'])[0][:300]}")
    return done.stdout


def missing() -> list[str]:
    """Name the Debian packages without which nothing can be fetched; empty when all are there."""
    found = [
        package
        for package, program in (("apt", "apt-get"), ("dpkg", "dpkg-deb"))
        if shutil.which(program) is None
    ]
    if not KEYRING.is_file():
        found.append("debian-archive-keyring")
    return found


@dataclass(frozen=True, slots=True)
class Apt:
    """An `apt-get` of our own.

    Attributes
    ----------
    folder : Path
        Where it keeps its files.
    architecture : str
        Debian's name: ``arm64``, ``amd64``.
    """

    folder: Path
    architecture: str

    def update(self) -> None:
        """Fetch the lists of packages (9 MB).

        Raises
        ------
        TargetError
            When the mirror cannot be reached.
        """
        for name in ("lists/partial", "cache/archives/partial"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "status").touch()
        source = f"deb [arch={self.architecture} signed-by={KEYRING}] {_mirror()} {SUITE} main\n"
        (self.folder / "sources.list").write_text(source, encoding="utf-8")
        self._get("-o", "APT::Update::Error-Mode=any", "update")

    def download(self, packages: Sequence[str], dependencies: bool = False) -> list[Path]:
        """Fetch packages and give their files.

        Parameters
        ----------
        packages : sequence of str
        dependencies : bool
            Also everything that they depend on.

        Raises
        ------
        TargetError
            When one cannot be had.
        """
        archives = self.folder / "cache" / "archives"
        if dependencies:
            options = ("-y", "--no-install-recommends", "--download-only")
            self._get(*options, "-o", "Debug::NoLocking=true", "install", *packages)
        else:
            self._get("download", *packages, cwd=archives)
        return sorted(archives.glob("*.deb"))

    def _get(self, *arguments: str, cwd: Path | None = None) -> None:
        settings = {
            "APT::Architecture": self.architecture,
            "APT::Architectures": self.architecture,
            "APT::Sandbox::User": "",  # else root's downloads run as a user who may not write here
            "Acquire::Languages": "none",
            "Dir::State": self.folder,
            "Dir::State::lists": self.folder / "lists",
            "Dir::State::status": self.folder / "status",
            "Dir::Cache": self.folder / "cache",
            "Dir::Cache::archives": self.folder / "cache" / "archives",
            "Dir::Etc::sourcelist": self.folder / "sources.list",
            "Dir::Etc::sourceparts": "-",
            "Dir::Log": self.folder / "log",
        }
        options = [part for key, value in settings.items() for part in ("-o", f"{key}={value}")]
        verb = next(word for word in arguments if word in ("update", "download", "install"))
        run(["apt-get", "-q", *options, *arguments], f"apt-get {verb}", cwd=cwd)


def unpack(packages: Sequence[Path], into: Path) -> dict[str, str]:
    """Unpack packages over each other.

    Returns
    -------
    dict of str to str
        The version of each package by its name.

    Raises
    ------
    TargetError
        When a file is damaged or the disk is full.
    """
    versions = {}
    for file in packages:
        fields = run(
            ["dpkg-deb", "--show", "--showformat", "${Package} ${Version}", str(file)], "dpkg-deb"
        )
        name, _, version = fields.partition(" ")
        versions[name] = version
        run(["dpkg-deb", "--extract", str(file), str(into)], f"unpacking {name}")
    return versions


def _mirror() -> str:
    """Find the mirror that the host uses, if it is Debian's archive."""
    try:
        said = run(["apt-get", "indextargets", "--format", "$(REPO_URI)"], "apt-get indextargets")
    except TargetError:  # sources that apt itself refuses; they are not needed here
        return MIRROR
    for line in said.splitlines():
        uri = line.strip().rstrip("/")
        if uri.endswith("/debian"):
            return uri
    return MIRROR
