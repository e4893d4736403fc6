"""A hub on this machine: a folder of repositories, served as huggingface_hub asks for them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "1234567890abcdef1234567890abcdef12345678"


@contextlib.contextmanager
def serving(root: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve the repositories ``ORG/NAME`` below `root`; give the address and what is fetched."""
    fetched: list[str] = []

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(body=True)

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def log_message(self, *_: Any) -> None:
            """Keep quiet."""

        def _answer(self, *, body: bool) -> None:
            path = self.path.partition("?")[0].strip("/")
            if path.startswith("api/models/"):
                name = "/".join(path.split("/")[2:4])
                self._describe(name, tree="/tree/" in path)
                return
            name, _, rest = path.partition("/resolve/")
            file = root / name / rest.partition("/")[2]
            if not file.is_file():
                self._say(404, b"", {"X-Error-Code": "EntryNotFound"})
                return
            if body:
                fetched.append(str(file.relative_to(root / name)))
            content = file.read_bytes()
            tag = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": COMMIT}
            self._say(200, content, tag, body=body)

        def _describe(self, name: str, *, tree: bool) -> None:
            if not (root / name).is_dir():
                self._say(404, b"", {"X-Error-Code": "RepoNotFound"})
                return
            files = sorted(path for path in (root / name).rglob("*") if path.is_file())
            names = [(str(path.relative_to(root / name)), path.stat().st_size) for path in files]
            found: Any = {"id": name, "sha": COMMIT,
                          "siblings": [{"rfilename": one} for one, _ in names]}  # fmt: skip
            if tree:
                found = [{"type": "file", "path": one, "size": size, "oid": "0" * 40}
                         for one, size in names]  # fmt: skip
            self._say(200, json.dumps(found).encode(), {"Content-Type": "application/json"})

        def _say(
            self, code: int, content: bytes, headers: dict[str, str], *, body: bool = True
        ) -> None:
            self.send_response(code)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", fetched
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
