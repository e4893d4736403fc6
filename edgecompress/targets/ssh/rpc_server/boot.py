"""Starts the RPC server on the board from source that was sent; this file is the first of it."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys


class Sources(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Imports modules from their source, without a file; the packages above them are empty."""

    def __init__(self, modules: dict[str, str]) -> None:
        self._sources = dict(modules)
        for name in modules:
            while "." in name:
                name = name.rpartition(".")[0]
                self._sources.setdefault(name, "")

    def find_spec(
        self, fullname: str, _path: object, _target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Find one of them; all others are found as usual."""
        if fullname not in self._sources:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=self.is_package(fullname))

    def is_package(self, fullname: str) -> bool:
        """Whether it is one of the packages that the modules lie in."""
        return any(name.startswith(f"{fullname}.") for name in self._sources)

    def get_source(self, fullname: str) -> str:
        """Give a module's source."""
        return self._sources[fullname]


def start(main: str, modules: dict[str, str], silence_s: float) -> None:
    """Run ``main(silence_s)`` of the module `main`, one of `modules` (source by full name)."""
    sys.meta_path.insert(0, Sources(modules))
    importlib.import_module(main).main(silence_s)
