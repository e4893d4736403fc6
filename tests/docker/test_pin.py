"""Pinning the base: the digest is that of the bytes a registry gave; else nothing is written."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
ONE = "application/vnd.docker.distribution.manifest.v2+json"
MANIFESTS = {
    name: json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": []}, indent=3).encode()
    for name, kind in (("many", LIST), ("one", ONE))
}

pytestmark = pytest.mark.debian("skopeo")


class Registry(BaseHTTPRequestHandler):
    """Gives the manifests of ``base:many`` and ``base:one``; all else is unknown."""

    def do_GET(self) -> None:
        tag = self.path.rpartition("/manifests/")[2]
        found = MANIFESTS.get(tag)
        body = b"{}" if self.path == "/v2/" else found
        self.send_response(200 if body is not None else 404)
        self.send_header("Content-Type", json.loads(found)["mediaType"] if found else "text/plain")
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A registry on loopback; gives its name."""
    if shutil.which("skopeo") is None:
        pytest.skip("needs the Debian package skopeo")
    with ThreadingHTTPServer(("127.0.0.1", 0), Registry) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        name = f"localhost:{server.server_port}"
        settings = f'[[registry]]\nlocation = "{name}"\ninsecure = true\n'
        file = tmp_path / "home" / ".config" / "containers" / "registries.conf"
        file.parent.mkdir(parents=True)
        file.write_text(settings, encoding="utf-8")
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        yield name
        server.shutdown()


def pin(folder: Path, base: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Pin Dockerfiles of `base` and give what was said and their first lines afterwards."""
    files = [folder / f"{name}.Dockerfile" for name in ("runtime", "builder")]
    for file in files:
        file.write_text(f"ARG BASE={base}\nFROM ${{BASE}}\n", encoding="utf-8")
    command = [sys.executable, str(ROOT / "docker" / "pin.py"), str(folder)]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    return said, [file.read_text(encoding="utf-8").splitlines()[0] for file in files]


def test_both_files_get_the_digest(registry: str, tmp_path: Path) -> None:
    digest = hashlib.sha256(MANIFESTS["many"]).hexdigest()
    for base in (f"{registry}/base:many", f"{registry}/base:many@sha256:{'0' * 64}"):
        said, lines = pin(tmp_path, base)
        assert said.returncode == 0, said.stderr
        assert lines == [f"ARG BASE={registry}/base:many@sha256:{digest}"] * 2


def test_without_an_answer_nothing_is_written(registry: str, tmp_path: Path) -> None:
    for tag, complaint in (("none", "could not resolve it"), ("one", "of one platform only")):
        base = f"{registry}/base:{tag}"
        said, lines = pin(tmp_path, base)
        assert said.returncode == 1
        assert complaint in said.stderr
        assert lines == [f"ARG BASE={base}"] * 2
