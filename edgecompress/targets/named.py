"""The targets that a person names."""

from __future__ import annotations

from pathlib import Path

from edgecompress.errors import RecipeError
from edgecompress.targets import TargetSpec, open_target
from edgecompress.targets.fleet import Fleet, find_fleet, load_fleet


def read_fleet(file: Path | None) -> Fleet:
    """Read the fleet file that is named, else the one that is found."""
    return load_fleet(file) if file else find_fleet(Path.cwd())


def named_specs(fleet: Fleet, names: tuple[str, ...]) -> list[TargetSpec]:
    """Give the targets of these names, or all of the fleet; nothing is connected to.

    Raises
    ------
    RecipeError
        When there is no target of a name, or none at all.
    """
    specs = [fleet.find(name) for name in dict.fromkeys(names or tuple(fleet.targets))]
    if not specs:
        raise RecipeError("name a target, or write a targets.yaml that names some")
    for spec in specs:
        try:
            open_target(spec)  # sees that the URL means something
        except RecipeError as error:
            named = spec.name in fleet.targets and fleet.file
            raise RecipeError(
                error.message, file=named or None, key=spec.name if named else ""
            ) from None
    return specs
