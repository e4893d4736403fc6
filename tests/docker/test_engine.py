"""A real Docker engine: both builders, the archive, the list of packages, and compose."""

from __future__ import annotations

import functools
import json
import os
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

import edgecompress
from edgecompress.cli.image import image as command
from edgecompress.images.archive import ENVIRONMENT, SETTINGS
from edgecompress.images.context import read_lock
from edgecompress.images.engines import build
from edgecompress.resources import resource_folder

pytestmark = [
    pytest.mark.debian("docker.io"),
    pytest.mark.debian("docker-compose"),
    pytest.mark.debian("buildah"),
    pytest.mark.debian("podman"),
    pytest.mark.debian("runc"),
    pytest.mark.debian("mmdebstrap"),
    pytest.mark.debian("skopeo"),
]

ROOT = Path(__file__).parent.parent.parent
TEXTS = ("Muhammadu Buhari a Abuja", "Ikeja", "")
BASE = "localhost/base-amd64"
LOCKED_UP = ("--rm", "--interactive", "--read-only", "--network", "none", "--cap-drop", "ALL")

Run = Callable[..., str]


@pytest.fixture(scope="module")
def answers(bundle: Path) -> list[dict]:
    """What the bundle answers on this host."""
    said = [answer.to_json() for answer in edgecompress.load(bundle, threads=1).predict(TEXTS)]
    assert [len(each["entities"]) for each in said] == [2, 1, 0]
    return said


def ask(docker: Run, image: str, *arguments: str, before: tuple[str, ...] = ()) -> str:
    return docker("docker", "run", *LOCKED_UP, *before, image, *arguments)


def answered(docker: Run, image: str) -> list[dict]:
    return [json.loads(line) for line in ask(docker, image, "--json", *TEXTS).splitlines()]


@pytest.fixture(scope="module")
def built(docker: Run, contexts: dict[str, Path]) -> Callable[[str], str]:
    """Give a function that builds with one of docker's builders, without a cache, and gives IDs.

    Each has a build context of its own, made from the same bundle.
    """

    @functools.cache
    def make(builder: str) -> str:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DOCKER_BUILDKIT", "1" if builder == "buildkit" else "0")
            docker("docker", "builder", "prune", "--all", "--force")
            docker("docker", "image", "prune", "--force")
            context = contexts["second" if builder == "classic" else "first"]
            return build("docker", context, tag=builder, platform="linux/amd64")

    return make


@pytest.fixture(scope="module")
def archives(
    docker: Run, bundle: Path, wheels: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[tuple[Path, str, str]]:
    """The archive, made twice: of the engine's base and of that base as a file, elsewhere."""
    folder = tmp_path_factory.mktemp("archives")
    base = folder / "base.tar"
    docker("docker", "save", "--output", str(base), BASE)
    made = []
    for number, given in enumerate((["--base", BASE], ["--base", str(base)])):
        output = folder / str(number) / "image.tar"
        options = ["--engine", "docker", "--wheels", str(wheels), "--tag", "assembled"]
        umask = os.umask(0o077 if number else 0o022)
        said = CliRunner().invoke(command, [str(bundle), "-o", str(output), *options, *given])
        os.umask(umask)
        assert said.exit_code == 0, said.output
        image, manifest = (line.split("sha256:")[1][:64] for line in said.output.splitlines())
        made.append((output, f"sha256:{image}", f"sha256:{manifest}"))
    return made


def test_both_builders_and_buildah_make_the_same_image(
    built: Callable[[str], str], image: Callable[[str], str], docker: Run
) -> None:
    assert built("buildkit") == built("classic") == image("first")
    saved = docker("docker", "image", "inspect", "--format", "{{.Id}}", "buildkit", "classic")
    assert saved.split() == [image("first")] * 2


def test_what_docker_built_answers(
    built: Callable[[str], str], docker: Run, answers: list[dict]
) -> None:
    assert answered(docker, built("buildkit")) == answers


def test_an_archive_is_the_same_bytes_every_time(archives: list[tuple[Path, str, str]]) -> None:
    (first, *digests), (second, *others) = archives
    assert first.read_bytes() == second.read_bytes()
    assert digests == others
    lists = [file.with_name("image.tar.cdx.json").read_bytes() for file in (first, second)]
    assert lists[0] == lists[1]


def test_every_engine_loads_the_same_image(
    archives: list[tuple[Path, str, str]], docker: Run, store: Run
) -> None:
    [(archive, image, manifest), _] = archives
    docker("docker", "load", "--input", str(archive))
    assert docker("docker", "image", "inspect", "--format", "{{.Id}}", "assembled") == image
    store("podman", "load", "--input", str(archive))
    listed = json.loads(store("podman", "image", "inspect", "assembled"))[0]
    assert f"sha256:{listed['Id']}" == image
    told = json.loads(docker("skopeo", "inspect", "--raw", f"oci-archive:{archive}"))
    assert told["config"]["digest"] == image
    told = json.loads(docker("skopeo", "inspect", "--raw", f"docker-archive:{archive}"))
    assert told["config"]["digest"] == image
    # What a registry or containerd would call it by.
    assert docker("skopeo", "inspect", "--format", "{{.Digest}}", f"oci-archive:{archive}") == (
        manifest
    )


def test_what_was_put_together_answers_as_what_was_built(
    archives: list[tuple[Path, str, str]],
    built: Callable[[str], str],
    docker: Run,
    answers: list[dict],
) -> None:
    docker("docker", "load", "--input", str(archives[0][0]))
    assert answered(docker, "assembled") == answers
    configs, files = [], []
    code = (
        "import hashlib, os, stat\n"
        "for place in ('/opt', '/bundle'):\n"
        "    for folder, _, names in os.walk(place):\n"
        "        for name in names:\n"
        "            path = os.path.join(folder, name)\n"
        "            digest = hashlib.sha256(open(path, 'rb').read()).hexdigest()\n"
        "            print(path, oct(os.stat(path).st_mode), os.stat(path).st_mtime, digest)\n"
    )
    for name in ("assembled", built("classic")):
        about = json.loads(docker("docker", "image", "inspect", name))[0]["Config"]
        configs.append({key: about[key] for key in (*SETTINGS, "Env", "Labels", "Cmd")})
        said = ask(docker, name, "-c", code, before=("--entrypoint", "python3"))
        files.append(set(said.splitlines()))
    assert configs[0] == configs[1]
    assert configs[0].items() >= SETTINGS.items()
    assert set(configs[0]["Env"]) >= {f"{name}={value}" for name, value in ENVIRONMENT.items()}
    # pip adds bytecode and notes of its own, and writes RECORD anew.
    own = ("INSTALLER", "REQUESTED", "RECORD")
    kept = [
        {each for each in lines if not each.split()[0].endswith((".pyc", *own))} for lines in files
    ]
    assert kept[0] == kept[1]
    assert len(kept[0]) > 1000


def test_the_list_names_what_is_inside(
    archives: list[tuple[Path, str, str]], built: Callable[[str], str], docker: Run
) -> None:
    docker("docker", "load", "--input", str(archives[0][0]))
    code = (
        "import importlib.metadata as m, json\n"
        "found = m.distributions(path=['/opt/edgecompress'])\n"
        "site = {d.metadata['Name']: d.version for d in found}\n"
        "status = open('/var/lib/dpkg/status').read().split('\\n\\n')\n"
        "fields = [dict(l.split(': ', 1) for l in p.splitlines() if ': ' in l) for p in status]\n"
        "deb = {f['Package']: f['Version'] for f in fields if f}\n"
        "print(json.dumps([site, deb, open('/sbom.cdx.json').read()]))\n"
    )
    texts = []
    for name in ("assembled", built("classic")):
        said = ask(docker, name, "-c", code, before=("--entrypoint", "python3"))
        site, debian, text = json.loads(said)
        texts.append(text)
        components = json.loads(text)["components"]
        listed = {
            kind: {
                each["name"]: each["version"]
                for each in components
                if each.get("purl", "").startswith(f"pkg:{kind}/")
            }
            for kind in ("pypi", "deb")
        }
        assert listed["pypi"] == {each.lower().replace("_", "-"): site[each] for each in site}
        assert listed["deb"] == debian
        assert len(debian) > 20
    assert texts[0] == texts[1] == archives[0][0].with_name("image.tar.cdx.json").read_text("utf-8")
    lock = read_lock((resource_folder("docker") / "runtime.lock").read_text(encoding="utf-8"))
    hashes = {
        f"{each['name']}=={each['version']}": each["hashes"][0]["content"]
        for each in json.loads(texts[0])["components"]
        if each.get("purl", "").startswith("pkg:pypi/")
    }
    assert {name for name in lock if hashes[name] in lock[name]} == set(lock)
    assert set(hashes) - set(lock) == {f"edgecompress=={edgecompress.__version__}"}


@pytest.fixture
def compose(
    docker: Run, contexts: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Run]:
    """Give a function that runs docker-compose on the repository's file, with the first context."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("PORT", str(free.getsockname()[1]))
    monkeypatch.setenv("RUNTIME_CONTEXT", str(contexts["first"]))
    monkeypatch.setenv("DOCKER_BUILDKIT", "0")
    words = ("docker-compose", "--project-name", "t", "--file", str(ROOT / "docker/compose.yaml"))

    def run(*arguments: str) -> str:
        return docker(*words, *arguments)

    yield run
    run("down", "--volumes", "--timeout", "5")


def test_compose_serves_and_answers(
    compose: Run,
    archives: list[tuple[Path, str, str]],
    docker: Run,
    answers: list[dict],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    docker("docker", "load", "--input", str(archives[0][0]))
    monkeypatch.setenv("RUNTIME_IMAGE", "assembled")
    compose("up", "--detach", "--no-build", "service")
    said = compose("run", "--rm", "-T", "answers", "--json", *TEXTS)
    assert [json.loads(line) for line in said.splitlines()] == answers
    address = f"http://127.0.0.1:{os.environ['PORT']}/health"
    for _ in range(600):
        try:
            with urllib.request.urlopen(address, timeout=5) as answer:
                assert json.load(answer)["bundle"] == "tiny"
            break
        except OSError:
            time.sleep(0.2)
    else:
        pytest.fail(compose("logs", "service"))
