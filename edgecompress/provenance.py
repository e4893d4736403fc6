"""What a result depends on beside its inputs: our code and the libraries it uses.

Both are read from the source itself: the imports of a module, those inside functions included,
followed through the package. So there is no list to keep in step.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import pkgutil
from importlib.metadata import (
    PackageNotFoundError,
    distribution,
    packages_distributions,
    version,
)
from pathlib import Path

from edgecompress.onnx_files import model_digests
from edgecompress.values import (
    Candidate,
    Json,
    OnnxModel,
    SessionSettings,
    directory_digests,
    json_digest,
)

OURS = "edgecompress"
"""Its ``__init__`` offers the functions of all rooms: followed, it would make every key hang on all
code, and every stage on torch."""


@functools.cache
def closure(module: str) -> tuple[frozenset[str], frozenset[str]]:
    """Follow the imports of `module` through its own package.

    Returns
    -------
    modules, libraries : frozenset of str
        Dotted names of the modules of the same package that it reaches, itself included, and the
        top-level names of everything else that they import.
    """
    package = module.partition(".")[0]
    modules: set[str] = set()
    libraries: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in modules:
            continue
        found = importlib.util.find_spec(name)
        if found is None or not found.origin or not found.origin.endswith(".py"):
            continue
        modules.add(name)
        is_package = found.submodule_search_locations is not None
        for imported in _imports(Path(found.origin), name, is_package):
            if imported.partition(".")[0] == package:
                waiting.append(imported)
            else:
                libraries.add(imported.partition(".")[0])
    return frozenset(modules), frozenset(libraries)


@functools.cache
def _is_module(name: str) -> bool:
    try:
        parent = importlib.util.find_spec(name.rpartition(".")[0])
        if parent is None or parent.submodule_search_locations is None:
            return False  # a name in a plain module, which to look for would import that module
        return importlib.util.find_spec(name) is not None
    except (ModuleNotFoundError, ValueError):
        return False


def _imports(file: Path, name: str, is_package: bool) -> set[str]:
    found: set[str] = set()
    parts = name.split(".") if is_package else name.split(".")[:-1]
    own = name.partition(".")[0]
    if is_package and "__path__" in file.read_text(encoding="utf-8"):  # it finds its modules itself
        found.update(f"{name}.{info.name}" for info in pkgutil.iter_modules([str(file.parent)]))
    for node in _code(file)[0]:
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        else:
            base = ".".join(parts[: len(parts) - node.level + 1]) if node.level else ""
            origin = ".".join(part for part in (base, node.module or "") if part)
            if origin != OURS:
                found.add(origin)
            if origin.partition(".")[0] == own:
                children = (f"{origin}.{alias.name}" for alias in node.names)
                found.update(child for child in children if _is_module(child))
    return found


@functools.cache
def code_digest(module: str) -> str:
    """SHA-256 over the code of `module` and of all modules of its package that it reaches.

    Code is a syntax tree without docstrings, comments and the method `Transform.tell`: a sentence
    that is said better changes no result.
    """
    digest = hashlib.sha256()
    for name in sorted(closure(module)[0]):
        spec = importlib.util.find_spec(name)
        if spec and spec.origin:
            digest.update(f"{name} {_code(Path(spec.origin))[1]}\n".encode())
    return digest.hexdigest()


@functools.cache
def _code(file: Path) -> tuple[tuple[ast.Import | ast.ImportFrom, ...], str]:
    """Give the imports and the digest of a module's syntax tree without what changes no result."""
    tree = ast.parse(file.read_bytes())
    imports: list[ast.Import | ast.ImportFrom] = []
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        body = getattr(node, "body", None)
        if isinstance(body, list):
            told = isinstance(node, ast.ClassDef)
            body[:] = [one for one in body if not (_is_docstring(one) or (told and _is_tell(one)))]
        if isinstance(node, ast.Import | ast.ImportFrom):
            imports.append(node)
        elif not isinstance(node, ast.expr):  # no expression holds a statement
            waiting += ast.iter_child_nodes(node)
    return tuple(imports), hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def _is_docstring(node: ast.AST) -> bool:
    """Say whether a statement is nothing but text: of a module, class, function or attribute."""
    value = node.value if isinstance(node, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def _is_tell(node: ast.AST) -> bool:
    """Say whether a definition in a class is `Transform.tell`, the report's sentence."""
    return (
        isinstance(node, ast.FunctionDef)
        and node.name == "tell"
        and [ast.unparse(one) for one in node.decorator_list] == ["classmethod"]
    )


@functools.cache
def _distributions() -> dict[str, list[str]]:
    return dict(packages_distributions())


@functools.cache
def library_versions(module: str) -> dict[str, str]:
    """Versions of the installed distributions that `module` reaches through our package."""
    found: dict[str, str] = {}
    for library in closure(module)[1]:
        for name in _distributions().get(library, []):
            try:
                found[name] = version(name)
            except PackageNotFoundError:
                continue
    return dict(sorted(found.items()))


@functools.cache
def package_digest(package: str = "edgecompress") -> str:
    """SHA-256 over the Python source of a whole package: which code this is, to the byte."""
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise ValueError(f"no package {package!r}")
    root = Path(found.submodule_search_locations[0])
    digest = hashlib.sha256()
    for name in sorted(path.relative_to(root).as_posix() for path in root.rglob("*.py")):
        content = (root / name).read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


@functools.cache
def installed(extra: str = "", package: str = "edgecompress") -> dict[str, str]:
    """Give the version of each installed distribution that `package` requires, directly or not.

    Parameters
    ----------
    extra : str
        An extra of `package` to follow, too; its base requirements are followed in any case.

    Returns
    -------
    dict of str to str
        Versions by normalized name, sorted, `package` itself included. What the requirements ask
        for here and is not installed is left out.
    """
    from packaging.utils import canonicalize_name

    found: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    waiting: list[tuple[str, str]] = [(canonicalize_name(package), also) for also in ("", extra)]
    while waiting:
        step = waiting.pop()
        if step in seen:
            continue
        seen.add(step)
        name, wanted = step
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
        waiting += _requirements(name, wanted)
    return dict(sorted(found.items()))


def required(package: str, extra: str = "") -> tuple[str, ...]:
    """Give what an installed distribution itself requires here, by normalized name, sorted.

    Of an `extra` only what it adds.
    """
    base = {name for name, _ in _requirements(package, "")}
    added = {name for name, _ in _requirements(package, extra)} - base
    return tuple(sorted(added if extra else base))


def _requirements(package: str, extra: str) -> list[tuple[str, str]]:
    """Give (distribution, extra of it) for each requirement that holds on this machine."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    found: list[tuple[str, str]] = []
    for text in distribution(package).requires or []:
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            name = canonicalize_name(requirement.name)
            found += [(name, also) for also in ("", *sorted(requirement.extras))]
    return found


def _session_json(session: SessionSettings) -> Json:
    return {
        "level": session.graph_optimization_level,
        "disabled": list(session.disabled_optimizers),
        "config": [list(entry) for entry in session.config_entries],
    }


def candidate_digest(candidate: Candidate) -> str:
    """SHA-256 of what a candidate *is*: its files, session, labels; not how long it took."""
    model = candidate.model
    session: Json = {}
    if isinstance(model, OnnxModel):
        found = {name: _session_json(part.session) for name, part in model.graphs.items()}
        session = {"parts": found} if model.parts else found["model"]
    return json_digest(
        {
            "kind": type(model).__name__,
            "model": model_digests(model),
            "preprocessor": directory_digests(candidate.preprocessor)
            if candidate.preprocessor
            else None,
            "session": session,
            "task": candidate.task,
            "labels": list(candidate.labels),
            **({"ranges": dict(candidate.ranges)} if candidate.ranges else {}),
        }
    )
