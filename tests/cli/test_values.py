"""Values of options: what is read, and what is refused with the form that is wanted."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from edgecompress.cli._values import milliseconds, named_bounds, named_sizes, whole_numbers


@click.command()
@click.option("--numbers", callback=whole_numbers(1))
@click.option("--size", multiple=True, callback=named_sizes)
@click.option("--bound", multiple=True, callback=named_bounds)
@click.option("--time", callback=milliseconds)
def command(**options: object) -> None:
    click.echo(repr({name: value for name, value in options.items() if value}))


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (["--numbers", "1, 4,4,2"], {"numbers": (1, 4, 2)}),
        (["--size", "batch=2", "--size", "x.1=0"], {"size": {"batch": 2, "x.1": 0}}),
        (["--size", "past_length + 1=9"], {"size": {"past_length + 1": 9}}),
        (["--bound", "ids:0=30000"], {"bound": {"ids:0": 30000}}),
        (["--bound", "x=-5:5"], {"bound": {"x": (-5, 5)}}),
        (["--time", "10s"], {"time": 10_000.0}),
        (["--time", "1.5 min"], {"time": 90_000.0}),
        (["--time", "500ms"], {"time": 500.0}),
    ],
)
def test_read(given, read):
    done = CliRunner().invoke(command, given)
    assert done.output.strip() == repr(read)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--numbers", "0"], "from 1 on, such as 1,2,4"),
        (["--numbers", "1;2"], "no list of whole numbers"),
        (["--size", "batch"], "not NAME=N"),
        (["--size", "=3"], "not NAME=N"),
        (["--bound", "x=1:2:3"], "NAME=LOW:HIGH"),
        (["--time", "10"], "no time with its unit"),
        (["--time", "0s"], "no time with its unit"),
        (["--time", "-1s"], "no time with its unit"),
    ],
)
def test_refused(given, said):
    done = CliRunner().invoke(command, given)
    assert done.exit_code == 2
    assert said in " ".join(done.output.replace("│", " ").split())
