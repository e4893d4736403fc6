"""Arguments that many functions take: on which data they work, and how they tell of it."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from edgecompress.api.arguments import StrPath, StrPaths, described, find_recipe, several
from edgecompress.data import data_formats
from edgecompress.engine.recipe import Recipe
from edgecompress.engine.single import single_recipe
from edgecompress.errors import DataError
from edgecompress.progress import Reporter
from edgecompress.tables import format_of
from edgecompress.yamlfile import Settings, setting

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class DataOptions:
    """On which data a function works, and how it tells of it."""

    recipe: StrPath | None = None
    task: str | None = None
    format: str | None = None
    train: StrPaths = ()
    validation: StrPaths = ()
    test: StrPaths = ()
    recipe_settings: Settings = ()
    store: StrPath | None = None
    progress: bool | Reporter = True

    @property
    def store_path(self) -> Path | None:
        """The store as a path."""
        return Path(self.store) if self.store else None

    def build(
        self,
        model: StrPath,
        stage: str | None = None,
        fields: Mapping[str, Any] | None = None,
        *,
        teacher: StrPath | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> Recipe:
        """Build the recipe of one stage, or of none; `more` are further fields of the recipe."""
        files = [Path(one) for one in several(self.train or self.validation or self.test)]
        guessed = format_of(files[0]) if files and not self.recipe else None
        form = self.format or guessed
        settings = [f"data.format={form}"] if form else []
        settings += as_texts(self.recipe_settings)
        if files and not self.recipe and not any(one.startswith("data.") for one in settings):
            known = ", ".join(data_formats())
            text = f"its name does not say what it is; give --format, which is one of {known}"
            raise DataError(text, file=files[0])
        for split in ("train", "validation", "test"):
            if paths := [str(Path(one).absolute()) for one in several(getattr(self, split))]:
                settings.append(setting(f"data.{split}", paths))
        settings += [setting(key, value) for key, value in (more or {}).items()]
        return single_recipe(
            os.fspath(model),
            stage,
            like=find_recipe(self.recipe) if self.recipe else None,
            teacher=None if teacher is None else os.fspath(teacher),
            task=self.task,
            settings=fields or {},
            data_settings=settings,
        )


SHARED = frozenset(field.name for field in fields(DataOptions))


def takes_data(function: Function) -> Function:
    """Show the arguments of `DataOptions` in a function's signature and on its page."""
    own = inspect.signature(function)
    mine = [one for one in own.parameters.values() if one.kind is not one.VAR_KEYWORD]
    shared = [*inspect.signature(DataOptions).parameters.values()]
    rest = [
        one
        for one in own.parameters.values()
        if one.kind is one.VAR_KEYWORD and one.name != "options"
    ]
    function.__signature__ = own.replace(parameters=[*mine, *shared, *rest])  # type: ignore[attr-defined]
    function.__doc__ = described(function.__doc__ or "")
    return function


def split_options(given: Mapping[str, Any]) -> tuple[DataOptions, dict[str, Any]]:
    """Part what is said of the data from the fields of a stage."""
    said = {name: value for name, value in given.items() if name in SHARED}
    return DataOptions(**said), {n: value for n, value in given.items() if n not in SHARED}


def as_texts(settings: Settings) -> list[str]:
    """Write settings as the command line has them."""
    if isinstance(settings, Mapping):
        return [setting(key, value) for key, value in settings.items()]
    return list(settings)
