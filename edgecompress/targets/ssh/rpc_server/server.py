"""The requests to the board, and the loop that answers them."""

from __future__ import annotations

import json
import os
import platform
import select
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import IO, Any

from edgecompress.targets.agent.describe import describe
from edgecompress.targets.ssh.rpc_server.cache import Cache, end_agents
from edgecompress.targets.ssh.rpc_server.messages import RequestRefusedError, write


class RpcServer(Cache):
    """The requests, one method each; a method's arguments are the request's other keys."""

    def __init__(self) -> None:
        super().__init__()
        self._jobs = 0
        self.child: subprocess.Popen[bytes] | None = None
        self.child_id = 0
        self._log: IO[bytes] | None = None

    def facts(self) -> dict[str, Any]:
        """Describe the machine with the agent's own modules, which are sent along."""
        wheels = {
            "implementation": sys.implementation.name,
            "version": list(sys.version_info[:2]),
            "machine": platform.machine(),
            "soabi": sysconfig.get_config_var("SOABI") or "",
            "base": getattr(sys, "_base_executable", sys.executable),
        }
        return {"described": describe(), "wheels": wheels}

    def job(self) -> str:
        """Make an empty folder for one job."""
        if self._session is None:
            raise RequestRefusedError("no session was begun")
        self._jobs += 1
        folder = self._session / str(self._jobs)
        folder.mkdir()
        return str(folder)

    def files(self, path: str) -> dict[str, int]:
        """Name the files in a job's folder, with their bytes."""
        return {
            found.name: found.stat().st_size
            for found in sorted(self._own(path).iterdir())
            if found.is_file()
        }

    def drop(self, path: str) -> None:
        """End what still runs in a job's folder, and remove it."""
        folder = self._own(path)
        end_agents(folder)
        shutil.rmtree(folder)

    def _own(self, path: str) -> Path:
        folder = Path(path)
        if self._session is None or folder.parent != self._session or ".." in folder.parts:
            raise RequestRefusedError(f"{path} is no folder of a job of this session")
        return folder

    def spawn(self, command: list[str], request: int) -> None:
        """Start a program; its end is the answer, see `reap`."""
        self._log = tempfile.TemporaryFile(dir=self._session)  # noqa: SIM115 - closed by `reap`
        self.child_id = request
        self.child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # A program that outlives us must hold the lock still.
            pass_fds=() if self._preparing is None else (self._preparing,),
            env={
                **os.environ,
                "PIP_CONFIG_FILE": os.devnull,
                "TMPDIR": str(self._session),
                "ORT_DISABLE_TELEMETRY": "1",  # it would write below ~/.cache
            },
        )

    def reap(self) -> None:
        """Answer for the program that was started, if it has ended."""
        if self.child is None or self._log is None or self.child.poll() is None:
            return
        with self._log as log:
            log.seek(0)
            said = log.read()[-4000:].decode("utf-8", "replace")
        answer = {"status": self.child.returncode, "said": said}
        self.child = None
        write({"id": self.child_id, "answer": answer})

    def end(self) -> None:
        """End what was started and remove the session's folder."""
        if self.child is not None:
            os.killpg(self.child.pid, signal.SIGKILL)
            self.child.wait()
        if self._session is not None:
            end_agents(self._session)
            for _ in range(20):  # it may have been writing
                shutil.rmtree(self._session, ignore_errors=True)
                if not self._session.exists():
                    break
                time.sleep(0.1)


def _answer(server: RpcServer, request: dict[str, Any]) -> None:
    number, what = request.pop("id"), request.pop("do")
    try:
        if what == "spawn":
            server.spawn(request["command"], number)
            return
        answer = {"id": number, "answer": getattr(server, what)(**request)}
    except RequestRefusedError as error:
        answer = {"id": number, "refused": str(error)}
    except Exception as error:  # noqa: BLE001 - whatever it was, the host says it
        text = f"{type(error).__name__}: {error}"
        answer = {"id": number, "failed": text, "errno": getattr(error, "errno", None)}
    write(answer)


def main(silence_s: float) -> None:
    """Answer requests until standard input ends, or nothing came for `silence_s` seconds."""
    server = RpcServer()
    waiting, heard, said = b"", time.monotonic(), time.monotonic()
    try:
        write({"ready": True})
        while True:
            ready, _, _ = select.select([0], [], [], silence_s if server.child is None else 0.2)
            now = time.monotonic()
            if ready:
                block = os.read(0, 65536)
                if not block:
                    return
                waiting, heard = waiting + block, now
            elif now - heard > silence_s:
                return
            *lines, waiting = waiting.split(b"\n")
            for line in lines:
                if line.strip():
                    _answer(server, json.loads(line))
            server.reap()
            if server.child is not None and now - said > 2:
                said = now
                write({"working": True})
    finally:
        server.end()
