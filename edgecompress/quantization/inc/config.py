"""One way to quantize a model with Neural Compressor, as a value that a record keeps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from edgecompress.errors import StageError
from edgecompress.values import Json
from edgecompress.words import meant

Scheme = Literal["static", "dynamic"]
Method = Literal["minmax", "histogram"]
Smooth = float | Literal["auto"]

# As Neural Compressor calls the two ways to find an activation's range.
ALGORITHMS = {"histogram": "kl", "minmax": "minmax"}
FLOAT = {"w_dtype": "fp32", "act_dtype": "fp32"}


@dataclass(frozen=True, slots=True)
class IncConfig:
    """One way to quantize a model with Neural Compressor.

    Attributes
    ----------
    scheme : str
        ``static`` fixes activation ranges from calibration texts; ``dynamic`` computes them at run
        time.
    method : str
        How a static range is found.
    smooth : float or "auto", optional
        SmoothQuant's alpha for all layers; ``auto``: one for each; None: not smoothed.
    exclude : tuple of str
        Paths of the linear layers that stay fp32.
    """

    scheme: Scheme
    method: Method = "histogram"
    smooth: Smooth | None = None
    exclude: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What progress and decisions call it."""
        parts = [self.scheme if self.scheme == "dynamic" else f"{self.scheme} {self.method}"]
        parts += [f"smooth {self.smooth}"] if self.smooth is not None else []
        parts += [f"{len(self.exclude)} layers in fp32"] if self.exclude else []
        return ", ".join(parts)

    def of_library(self, libraries: Mapping[str, Any], paths: Iterable[str] = ()) -> Any:
        """Make Neural Compressor's ``StaticQuantConfig`` or ``DynamicQuantConfig``.

        Parameters
        ----------
        libraries : mapping
            From `import_inc`.
        paths : iterable of str
            Of the excluded layers in the module that is exported.
        """
        make = libraries[self.scheme]
        if self.scheme == "static":
            made = make(act_algo=ALGORITHMS[self.method])
        else:
            made = make(w_granularity="per_channel")
        for path in paths:
            made.set_local(path, make(**FLOAT))
        return made

    def to_json(self) -> Json:
        """Give what `from_json` reads."""
        return {**asdict(self), "exclude": list(self.exclude)}

    @classmethod
    def from_json(cls, document: Any) -> IncConfig:
        """Read a configuration from a record.

        Raises
        ------
        StageError
            When it is none.
        """
        try:
            found = cls(
                document["scheme"],
                document["method"],
                document["smooth"],
                tuple(str(name) for name in document["exclude"]),
            )
        except (KeyError, TypeError):
            raise StageError(
                "there is no record of what Neural Compressor chose; run the recipe again"
            ) from None
        if found.scheme not in get_args(Scheme) or found.method not in get_args(Method):
            raise StageError(f"the record names a scheme that is not known: {found.name}")
        return found


def check_excluded(names: Sequence[str], known: Sequence[str]) -> None:
    """Check that all `names` are linear layers of the model.

    Raises
    ------
    StageError
        Naming the first that is not, and the nearest that is.
    """
    for name in names:
        if name not in known:
            raise StageError(f"the model has no linear layer called {name!r}{meant(name, known)}")
