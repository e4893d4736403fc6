"""targets.yaml: names for targets, and what is wrong in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgecompress.errors import RecipeError
from edgecompress.targets import open_target
from edgecompress.targets.fleet import Fleet, find_fleet, load_fleet
from edgecompress.targets.local import Local

TEXT = """\
pi4: ssh://pi@raspberrypi.local
pi5: {url: "ssh://pi@192.168.1.7:2222", key: keys/id, samples: 50, idle_timeout_s: 30}
a72: emulated://cortex-a72
laptop: local
"""


def written(folder: Path, text: str) -> Path:
    file = folder / "targets.yaml"
    file.write_text(text)
    return file


def test_names_and_urls(tmp_path: Path) -> None:
    fleet = load_fleet(written(tmp_path, TEXT))
    assert fleet.find("pi4").url == "ssh://pi@raspberrypi.local"
    assert fleet.find("pi4").name == "pi4"
    assert fleet.find("pi5").key == tmp_path / "keys" / "id"
    assert fleet.find("pi5").samples == 50
    assert fleet.find("emulated://cortex-a76").name == "emulated://cortex-a76"
    assert open_target(fleet.find("laptop")) == Local(name="laptop")
    assert open_target(fleet.find("a72")).samples == 200


def test_a_name_that_is_not_there_gets_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"unknown target 'pi6'.*'pi[45]'.*targets\.yaml"):
        load_fleet(written(tmp_path, TEXT)).find("pi6")
    with pytest.raises(
        RecipeError, match=r"unknown target 'pi4'.*targets\.yaml, and there is no such file"
    ):
        Fleet().find("pi4")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("pi4: ssh://pi@a\npi5: {url: local, smaples: 3}\n", r"targets\.yaml:2.*smaples"),
        ("pi5: {url: ftp://x}\n", r"targets\.yaml:1.*url"),
        ("pi5: {url: local, idle_timeout_s: 0}\n", "idle_timeout_s"),
        ("local: ssh://pi@a\n", "must not look like a URL"),
        ("pi5: [1]\n", "give a URL"),
        ("- a\n", "maps names"),
        ("a: [", r"targets\.yaml"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=says) as caught:
        load_fleet(written(tmp_path, text))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "\n", "# pi4: ssh://pi@a\n"])
def test_an_empty_file_names_no_targets(text: str, tmp_path: Path) -> None:
    fleet = load_fleet(written(tmp_path, text))
    assert not fleet.targets
    assert fleet.find("local").url == "local"
    with pytest.raises(RecipeError, match=r"unknown target 'pi4'.*a name in \S*targets\.yaml\)$"):
        fleet.find("pi4")


def test_where_it_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("recipe", "here", "config/edgecompress"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    assert find_fleet(tmp_path / "recipe").file is None
    for name in ("config/edgecompress", "here", "recipe"):
        file = written(tmp_path / name, "a: local\n")
        assert find_fleet(tmp_path / "recipe").file == file
