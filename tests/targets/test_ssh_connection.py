"""Connecting to boards: who they are, who we are, and every way in which it fails."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncssh
import pytest
from boards import LightServer, free_port, light_server, sshd

from edgecompress.errors import RecipeError, TargetError
from edgecompress.targets import open_target
from edgecompress.targets.kinds.ssh import SshSpec
from edgecompress.targets.ssh.address import Address, parse_address
from edgecompress.targets.ssh.target import Ssh


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LightServer]:
    with light_server(tmp_path_factory.mktemp("light") / "board") as server:
        yield server


def failure(target: Ssh) -> str:
    with pytest.raises(TargetError) as caught:
        target.describe()
    target.close()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("ssh://pi@raspberrypi.local", Address("raspberrypi.local", "pi")),
        ("ssh://Board-7", Address("Board-7")),
        ("ssh://pi@192.168.1.7:2222/", Address("192.168.1.7", "pi", 2222)),
        ("ssh://[fe80::1]:22", Address("fe80::1", None, 22)),
    ],
)
def test_addresses(url: str, address: Address) -> None:
    assert parse_address(url) == address


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ssh://", "no host is named"),
        ("ssh://-oProxyCommand=x", "no host is named"),
        ("ssh://pi@host:70000", "range"),
        ("ssh://pi:secret@host", "a password has no place"),
        ("ssh://pi@host/data", "name the folder there as `cache`"),
    ],
)
def test_wrong_addresses(url: str, reason: str) -> None:
    with pytest.raises(RecipeError, match=reason) as caught:
        open_target(url)
    assert "secret" not in str(caught.value)


def test_describe(light: LightServer) -> None:
    target = open_target(light.spec())
    try:
        described = target.describe()
        assert described["bits"] == 64
        assert set(described["libraries"]) >= {"onnxruntime", "numpy"}
        assert target.fingerprint() == target.fingerprint()
        assert not light.cache.exists()  # nothing is written to say what it is
    finally:
        target.close()
    light.wait_until_quiet()


def test_an_unknown_host_is_refused_with_the_line_that_accepts_it(
    light: LightServer, tmp_path: Path
) -> None:
    mine = tmp_path / "known hosts"
    target = Ssh(light.spec(known_hosts=mine))
    said = failure(target)
    key = asyncssh.read_public_key(light.folder / "host_key.pub")
    assert key.get_fingerprint() in said
    assert said.startswith("board: ")
    line = said.partition("then run: ")[2]
    assert line == f"ssh-keyscan -p {light.port} -t ed25519 127.0.0.1 >> '{mine}'"
    if shutil.which("ssh-keyscan"):
        subprocess.run(line, shell=True, check=True, capture_output=True)
        assert target.describe()
        target.close()


def test_a_changed_host_key_is_refused_louder(light: LightServer, tmp_path: Path) -> None:
    other = asyncssh.generate_private_key("ssh-ed25519")
    mine = tmp_path / "known_hosts"
    mine.write_text(
        f"[127.0.0.1]:{light.port} {other.export_public_key().decode()}", encoding="utf-8"
    )
    said = failure(Ssh(light.spec(known_hosts=mine)))
    assert "THE HOST KEY HAS CHANGED" in said
    assert other.get_fingerprint() in said
    assert f"ssh-keygen -f {mine} -R '[127.0.0.1]:{light.port}'" in said


def test_a_host_key_that_changed_its_kind(light: LightServer, tmp_path: Path) -> None:
    other = asyncssh.generate_private_key("ecdsa-sha2-nistp256")
    mine = tmp_path / "known_hosts"
    mine.write_text(
        f"[127.0.0.1]:{light.port} {other.export_public_key().decode()}", encoding="utf-8"
    )
    said = failure(Ssh(light.spec(known_hosts=mine)))
    assert "THE HOST KEY HAS CHANGED: it shows a key of another kind" in said


def test_checking_cannot_be_turned_off(
    light: LightServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "config").write_text(
        "Host *\n  StrictHostKeyChecking no\n  UserKnownHostsFile none\n"
    )
    assert "the host is not known" in failure(Ssh(light.spec(known_hosts=None)))


def test_the_configuration_of_ssh_counts(
    light: LightServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alias, port, user, identity file and known hosts are those of ~/.ssh/config."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "config").write_text(
        f"Host Kitchen\n  HostName 127.0.0.1\n  Port {light.port}\n  User {light.user}\n"
        f"  IdentityFile {light.folder / 'user_key'}\n"
    )
    shutil.copy(light.folder / "known_hosts", tmp_path / ".ssh" / "known_hosts")
    target = Ssh(light.spec(url="ssh://Kitchen", key=None, known_hosts=None))
    assert target.describe()
    target.close()


def test_a_board_behind_another_host(
    light: LightServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ProxyJump: both hosts are checked; the one that is not known is named."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    with sshd(tmp_path / "jump") as jump:
        (tmp_path / ".ssh" / "config").write_text(
            f"Host gate\n  HostName 127.0.0.1\n  Port {jump.port}\n"
            f"  IdentityFile {jump.folder / 'user_key'}\n"
            f"Host inner\n  HostName 127.0.0.1\n  Port {light.port}\n  ProxyJump gate\n"
            f"  IdentityFile {light.folder / 'user_key'}\n"
        )
        known = tmp_path / ".ssh" / "known_hosts"
        known.write_text((light.folder / "known_hosts").read_text())
        target = Ssh(light.spec(url="ssh://inner", key=None, known_hosts=None))
        said = failure(target)
        assert "gate" in said
        assert asyncssh.read_public_key(jump.folder / "host_key.pub").get_fingerprint() in said
        known.write_text((jump.folder / "known_hosts").read_text())
        said = failure(target)
        assert f"echo '[127.0.0.1]:{light.port} ssh-ed25519 " in said  # no keyscan gets there
        subprocess.run(said.partition("then run: ")[2], shell=True, check=True)
        assert target.describe()
        target.close()


def test_a_key_that_is_not_accepted(light: LightServer, tmp_path: Path) -> None:
    key = tmp_path / "other_key"
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(key)
    said = failure(Ssh(light.spec(key=key)))
    assert f"not accepted for the user {light.user}" in said or "was accepted" in said
    assert f"ssh-copy-id -p {light.port} {light.user}@127.0.0.1" in said


def test_a_key_with_a_passphrase(light: LightServer, tmp_path: Path) -> None:
    key = tmp_path / "locked_key"
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "a passphrase", "-f", str(key)]
    subprocess.run(command, check=True)
    assert "ssh-add" in failure(Ssh(light.spec(key=key)))


def test_a_key_that_is_missing(light: LightServer, tmp_path: Path) -> None:
    assert "is missing; correct `key`" in failure(Ssh(light.spec(key=tmp_path / "none")))


def test_nothing_listens() -> None:
    target = Ssh(SshSpec(name="pi", url=f"ssh://pi@127.0.0.1:{free_port()}"))
    assert "nothing listens on port" in failure(target)


def test_a_name_that_nobody_knows() -> None:
    target = Ssh(SshSpec(name="pi", url="ssh://pi@no-such-board.invalid"))
    assert "the host name no-such-board.invalid is not known" in failure(target)


def test_a_host_that_does_not_answer() -> None:
    """It takes the connection and never says a word."""
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        url = f"ssh://pi@127.0.0.1:{mute.getsockname()[1]}"
        target = Ssh(SshSpec(name="pi", url=url, connect_timeout_s=0.5))
        assert "no answer within 0.5 s" in failure(target)


def test_a_host_that_is_no_ssh_server() -> None:
    with socket.socket() as wrong:
        wrong.bind(("127.0.0.1", 0))
        wrong.listen()

        def answer() -> None:
            other, _ = wrong.accept()
            with other:
                other.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        url = f"ssh://pi@127.0.0.1:{wrong.getsockname()[1]}"
        said = failure(Ssh(SshSpec(name="pi", url=url, connect_timeout_s=5)))
        assert said.startswith(f"pi: pi@127.0.0.1:{wrong.getsockname()[1]}: ")


def test_a_python_that_is_not_there(light: LightServer) -> None:
    assert "correct `python`" in failure(Ssh(light.spec(python="~/none/python")))


def test_a_board_without_python(tmp_path: Path) -> None:
    with light_server(tmp_path / "board", limit="PATH=/nowhere ") as server:
        said = failure(Ssh(server.spec(python=None)))
        assert "no usable shell" in said or "there is no python3" in said


def test_a_python_without_onnxruntime(light: LightServer, tmp_path: Path) -> None:
    """The board is asked first, and the command that helps is named."""
    bare = tmp_path / "bare"
    subprocess.run(["python3", "-m", "venv", "--without-pip", str(bare)], check=True)
    target = Ssh(light.spec(python=str(bare / "bin" / "python")))
    from edgecompress.targets.base import Job

    with pytest.raises(TargetError, match="edgecompress targets prepare board"):
        target.run(Job("answers", (), ()), tmp_path / "job")
    target.close()


def test_a_lost_connection_is_made_again(light: LightServer) -> None:
    target = Ssh(light.spec())
    assert target.describe()
    light.drop()
    time.sleep(0.2)
    assert target.describe()
    target.close()
    light.wait_until_quiet()


def test_a_board_that_falls_silent(tmp_path: Path) -> None:
    """The whole server stands still: the idle timeout ends the wait."""
    still = threading.Event()

    def before(command: str) -> None:
        if still.is_set():
            time.sleep(6)

    with light_server(tmp_path / "board", before=before) as server:
        target = Ssh(server.spec(idle_timeout_s=1.5, connect_timeout_s=1.0))
        assert target.describe()
        target.close()
        server.wait_until_quiet()
        still.set()
        start = time.monotonic()
        said = failure(target)
        assert time.monotonic() - start < 30
        assert "said nothing for" in said or "lost" in said or "no answer" in said
        still.clear()


def test_noise_of_a_login_shell_is_no_answer(tmp_path: Path) -> None:
    with light_server(tmp_path / "board", limit="echo Welcome; echo '{\"a\": 1}'; ") as server:
        target = Ssh(server.spec())
        assert target.describe()["bits"] == 64
        target.close()


def test_several_boards_at_once(tmp_path: Path, light: LightServer) -> None:
    with light_server(tmp_path / "other") as other, ThreadPoolExecutor(8) as pool:
        targets = [Ssh(one.spec()) for one in (light, other) for _ in range(3)]
        found = list(pool.map(lambda target: target.describe()["kernel"], targets))
        assert len(set(found)) == 1
        for target in targets:
            target.close()
