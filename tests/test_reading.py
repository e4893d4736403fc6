"""What is read of a file that a person hands over, and what is refused before it is read."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from edgecompress.errors import DataError, RecipeError
from edgecompress.reading import open_regular, read_bytes, read_json, read_text, reading
from edgecompress.textfiles import MAX_LINE_BYTES, read_lines
from edgecompress.values import file_digest
from edgecompress.words import printable, shortened
from edgecompress.yamlfile import MAX_NODES, apply_settings, parse_yaml, read_yaml


@pytest.fixture(params=["device", "pipe", "socket", "directory", "link to a device"])
def special(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch) -> Path:
    """Something in a file's place that is none."""
    file = tmp_path / "given"
    if request.param == "device":
        return Path("/dev/zero")
    if request.param == "pipe":
        os.mkfifo(file)
    elif request.param == "socket":
        monkeypatch.chdir(tmp_path)
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(file.name)
    elif request.param == "directory":
        file.mkdir()
    else:
        file.symlink_to("/dev/zero")
    return file


def test_only_files_are_read(special: Path) -> None:
    with pytest.raises(OSError, match=r"it is a (device|named pipe|socket|directory), not a file"):
        open_regular(special)
    with pytest.raises(OSError, match="not a file"):
        file_digest(special)
    with pytest.raises(RecipeError, match="not a file"):
        read_yaml(special)
    for read in (lambda: read_text(special, 10), lambda: list(read_lines(special))):
        with pytest.raises(DataError, match=r"cannot be read .*not a file") as caught:
            read()
        assert caught.value.file == special


def test_an_error_of_reading_names_the_file() -> None:
    memory = Path("/proc/self/mem")  # a regular file, whose first page nobody can read
    for read in (lambda: read_bytes(memory, 100), lambda: file_digest(memory)):
        with pytest.raises(OSError, match="/proc/self/mem") as caught:
            read()
        assert caught.value.filename == "/proc/self/mem"


def test_names_that_no_file_has(tmp_path: Path) -> None:
    for name in ("a\0b", "a\ud800b", "a" * 300, "gone"):
        with pytest.raises(OSError):
            open_regular(tmp_path / name)
        with pytest.raises(DataError, match=r"no such file|cannot be read"):
            read_text(tmp_path / name, 10)


def test_a_bound_holds_for_what_is_read(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text("[1, 2]")
    assert read_bytes(file, 6) == b"[1, 2]"
    assert read_json(file) == [1, 2]
    with pytest.raises(DataError, match=r"x\.json: cannot be read \(it has more than 5 bytes\)"):
        read_json(file, 5)
    with pytest.raises(OSError, match="more than 10 bytes"):
        read_bytes(Path("/proc/self/environ"), 10)  # its size is stated as 0


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[" * 100_000, r"as JSON \(it is nested too deeply\)"),
        (b"1" * 5000, r"as JSON \(Exceeds the limit"),
        (b'{\n"a": 1,\n}', r"x\.json:3: cannot be read as JSON"),
        (b"{}\n\xff", r"x\.json:2: not UTF-8"),
        (b"", r"x\.json:1: cannot be read as JSON"),
    ],
)
def test_what_is_no_json(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(DataError, match=said):
        read_json(tmp_path / "x.json")


def test_what_a_parser_raises_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "x"
    with (
        pytest.raises(DataError, match=r"/x: not a table \(off\)$"),
        reading(file, "not a table", (ValueError,)),
    ):
        raise ValueError("off\nand more")
    with pytest.raises(DataError, match="more memory than there is"), reading(file):
        raise MemoryError
    with pytest.raises(DataError, match="/x: no file yet"), reading(file):
        raise DataError("no file yet")
    with pytest.raises(RecipeError, match=r"^ours$"), reading(file):
        raise RecipeError("ours")
    with pytest.raises(KeyError), reading(file, "not a table", (ValueError,)):
        raise KeyError("a mistake of ours")


def test_lines_come_one_at_a_time(tmp_path: Path) -> None:
    file = tmp_path / "x.txt"
    file.write_bytes(b"\xef\xbb\xbfa\r\nb\xe2\x80\xa8c\n\nd")
    assert list(read_lines(file)) == ["a", "b\u2028c", "", "d"]
    with file.open("wb") as stream:  # a hole: a large file that takes no room
        stream.write(b"a\n")
        stream.truncate(2**36)
    lines = read_lines(file)
    assert next(lines) == "a"
    with pytest.raises(DataError, match=rf"x\.txt:2: .* more than {MAX_LINE_BYTES:,} bytes"):
        next(lines)


def bombs() -> dict[str, str]:
    """YAML of few bytes that would build much, by all ways there are."""
    levels = range(1, 12)
    return {
        "aliases": "a0: &a0 [1]\n"
        + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in levels),
        "merges": "a0: &a0 {x: 1}\n"
        + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in levels),
        "entries": "[" + "1," * (MAX_NODES + 1) + "]",
        "itself": "me: &me [*me]",
        "merged into itself": "me: &me {<<: *me}",
        "depth": "[" * 300 + "]" * 300,
    }


@pytest.mark.parametrize("bomb", bombs())
def test_yaml_that_builds_too_much(bomb: str, tmp_path: Path) -> None:
    from edgecompress.data.calibration import load_calibration
    from edgecompress.targets.fleet import load_fleet

    file = tmp_path / "x.yaml"
    file.write_text(bombs()[bomb])
    assert file.stat().st_size < 120_000
    for read in (read_yaml, load_fleet):
        with pytest.raises(RecipeError, match=r"x\.yaml(:\d+)?: .*(more than|too deeply)"):
            read(file)
    with pytest.raises(DataError, match=r"x\.yaml(:\d+)?: .*(more than|too deeply)"):
        load_calibration(file)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: !!set {b}", r"1: a: a value of the kind .*set cannot stand here"),
        ("a: !!python/object/apply:os.system [x]", "1: a: a value of the kind"),
        ('a:\n  - "x\\0y"', r"2: holds the character U\+0000"),
        ('a: "\\ud800"', r"1: holds the character U\+D800"),
        ("2024-01-01: 1\n2024-01-01: 1", "2: 2024-01-01: the key stands twice"),
        ("? [a]\n: 1", "1: a key must be plain text"),
    ],
)
def test_yaml_that_means_nothing_here(text: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        parse_yaml(text, Path("x.yaml"))


def test_a_key_that_yaml_takes_for_a_truth_is_a_name() -> None:
    assert parse_yaml("{latency: 0.5, on: pi4, off: on}").document == {
        "latency": 0.5, "on": "pi4", "off": True,
    }  # fmt: skip


def test_dates_stay_text() -> None:
    assert parse_yaml("a: 2024-01-01\nb: 2024-13-45").document == {
        "a": "2024-01-01",
        "b": "2024-13-45",
    }


@pytest.mark.parametrize("setting", ["", "=1", "[=1", "a.[=!!set {x}", "a=[", "." * 99 + "=1"])
def test_settings_that_are_none(setting: str) -> None:
    with pytest.raises(RecipeError, match="--set-recipe"):
        apply_settings({"a": {}}, [setting], "--set-recipe")


def test_a_position_beyond_every_list() -> None:
    with pytest.raises(RecipeError, match="there is no entry"):
        apply_settings({"a": [1]}, [f"a[{'9' * 5000}]=1"])


def test_words_of_strangers() -> None:
    assert printable("naïve ẹ̀kọ́ 中 👩‍💻") == "naïve ẹ̀kọ́ 中 👩‍💻"
    assert printable("\x1b]0;x\x07\r\u202e\udcff\u2028") == (r"\x1b]0;x\x07\r\u202e\udcff\u2028")
    assert printable("a\nb\0", keep="\n") == "a\nb\\x00"
    assert shortened("abc", 3) == "abc"
    long = shortened("a" * 50 + "b" * 50, 21)
    assert (len(long), long[0], long[-1]) == (21, "a", "b")
