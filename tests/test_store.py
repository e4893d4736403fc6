"""The store: atomic, checked when read, safe to kill, safe to share."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgecompress.errors import EdgeCompressError
from edgecompress.store import Store
from edgecompress.writing import replace_file

KEY = hashlib.sha256(b"key").hexdigest()


def fill(text: str):
    def build(folder: Path, scratch: Path) -> None:
        (folder / "sub").mkdir()
        (folder / "sub" / "file").write_text(text)

    return build


def test_a_result_is_built_once(tmp_path):
    store = Store(tmp_path)
    first = store.obtain(KEY, fill("one"))
    second = store.obtain(KEY, fill("two"))
    assert first == second
    assert (second / "sub" / "file").read_text() == "one"
    assert not list((tmp_path / "aside").iterdir())
    assert not list((tmp_path / "scratch").iterdir())


@pytest.mark.parametrize("damage", ["change", "remove", "add", "digests"])
def test_a_damaged_result_is_made_again(tmp_path, damage):
    store = Store(tmp_path)
    folder = store.obtain(KEY, fill("one"))
    file = folder / "sub" / "file"
    if damage == "change":
        file.write_text("onE")
    elif damage == "remove":
        file.unlink()
    elif damage == "add":
        (folder / "more").write_text("")
    else:
        (folder / "digests.json").write_text("{}")
    assert store.get(KEY) is None
    assert (store.obtain(KEY, fill("two")) / "sub" / "file").read_text() == "two"


def test_a_failure_leaves_no_result_and_keeps_the_scratch(tmp_path):
    store = Store(tmp_path)

    def build(folder: Path, scratch: Path) -> None:
        (folder / "half").write_text("half")
        (scratch / "epoch-1").write_text("saved")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        store.obtain(KEY, build)
    assert store.get(KEY) is None
    assert not list((tmp_path / "aside").iterdir())

    def resume(folder: Path, scratch: Path) -> None:
        (folder / "file").write_text((scratch / "epoch-1").read_text())

    assert (store.obtain(KEY, resume) / "file").read_text() == "saved"


CHILD = """
import sys, time
from pathlib import Path
from edgecompress.store import Store
from edgecompress.writing import replace_file
def build(folder, scratch):
    (folder / "big").write_bytes(b"x" * 1000)
    (scratch / "epoch").write_text("1")
    Path(sys.argv[3]).write_text("building")
    time.sleep(float(sys.argv[4]))
print(Store(Path(sys.argv[1])).obtain(sys.argv[2], build))
"""


def child(store: Path, flag: Path, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CHILD, str(store), KEY, str(flag), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def wait_for(flag: Path) -> None:
    limit = time.monotonic() + 60
    while not flag.exists():
        assert time.monotonic() < limit
        time.sleep(0.01)


def test_killing_a_writer_loses_only_what_was_under_way(tmp_path):
    flag = tmp_path / "flag"
    writer = child(tmp_path / "store", flag, 60)
    wait_for(flag)
    os.kill(writer.pid, signal.SIGKILL)
    writer.communicate()
    store = Store(tmp_path / "store")
    assert store.get(KEY) is None
    assert len(list((store.root / "aside").iterdir())) == 1
    store.sweep()
    assert not list((store.root / "aside").iterdir())
    folder = store.obtain(KEY, lambda f, s: (f / "file").write_text((s / "epoch").read_text()))
    assert (folder / "file").read_text() == "1"


def test_a_sweep_keeps_what_a_living_run_builds_and_two_runs_share(tmp_path):
    flag = tmp_path / "flag"
    writer = child(tmp_path / "store", flag, 1.5)
    wait_for(flag)
    store = Store(tmp_path / "store")
    store.sweep()
    folder = store.obtain(KEY, fill("never"))  # waits for the other run and takes its result
    out, _ = writer.communicate(timeout=60)
    assert out.strip() == str(folder)
    assert (folder / "big").stat().st_size == 1000


def test_keys_are_whole_digests(tmp_path):
    for wrong in ("abc", "../" + KEY[3:], KEY.upper(), KEY + "0"):
        with pytest.raises(ValueError, match="not a store key"):
            Store(tmp_path).path(wrong)


def test_an_unwritable_store_is_refused_in_words(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EdgeCompressError, match=r"cannot be written.*--store"):
        Store(tmp_path / "file" / "store")


def test_replace_file_is_whole_or_untouched(tmp_path):
    file = tmp_path / "new" / "results.json"
    replace_file(file, "first")
    with pytest.raises(UnicodeEncodeError):
        replace_file(file, "bad \ud800")
    assert file.read_text() == "first"
    assert [path.name for path in file.parent.iterdir()] == ["results.json"]
