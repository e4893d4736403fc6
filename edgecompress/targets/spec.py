"""What a fleet says of a target, and what a kind of target brings.

A kind is a `TargetSpec`: a frozen pydantic model whose fields are the settings of its targets, with
the methods that open one, say what it is and lacks, set it up and clean it. `edgecompress.targets.
kinds` finds them.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from edgecompress.errors import EdgeCompressError
from edgecompress.targets.base import Progress, Target
from edgecompress.values import Json

MEASURES = ("latency", "memory", "energy", "answers", "instructions")
"""What a target may measure, in the order shown."""


class TargetFields(BaseModel):
    """The settings that targets of every kind have."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: str
    """As recipes and measurements write it: the name in the fleet, else the URL."""
    url: str
    """Where it is."""
    samples: int | None = Field(default=None, ge=1)
    """How many examples it answers to judge its accuracy; left out: all, or 200 where emulated."""
    meter: Path | None = None
    """CSV of an external power meter on this machine: epoch seconds, watts."""
    any_governor: bool = False
    """Accept times taken under a frequency governor other than performance."""


@dataclass(frozen=True, slots=True)
class TargetFinding:
    """Something about a target that a person should know.

    Attributes
    ----------
    what, advice : str
        What is so, and what to do about it.
    level : {"note", "missing", "refused"}
        Good to know; or something is missing, which a preparation may bring; or nothing can run
        there as long as it is so.
    """

    what: str
    advice: str
    level: Literal["note", "missing", "refused"] = "note"


@dataclass(frozen=True, slots=True)
class TargetReport:
    """What a target is and lacks; `error` says why it could not be seen."""

    spec: TargetFields
    host: str = ""
    facts: Json | None = None
    can: tuple[str, ...] = ()
    findings: tuple[TargetFinding, ...] = ()
    error: EdgeCompressError | None = None

    @property
    def usable(self) -> bool:
        """Whether jobs can run there, once what is missing is there."""
        return self.error is None and all(one.level != "refused" for one in self.findings)

    @property
    def ready(self) -> bool:
        """Whether nothing is missing."""
        return self.error is None and all(one.level == "note" for one in self.findings)


def can_measure(target: Target) -> tuple[str, ...]:
    """List what a target can measure, in words."""
    return tuple(metric for metric in MEASURES if metric in target.metrics)


def report_of(
    spec: TargetFields,
    target: Target,
    facts: Json,
    findings: Iterable[TargetFinding] = (),
    host: str = "",
) -> TargetReport:
    """Gather what was found out about a target; what is to be said of its energy is added.

    Parameters
    ----------
    spec : TargetFields
    target : Target
    facts : dict
        Its description.
    findings : iterable of TargetFinding
    host : str
        What was connected to.
    """
    can = can_measure(target)
    findings = (*findings, *(_energy(spec, facts) if "energy" in can else ()))
    if not (facts.get("meters") or spec.meter):
        can = tuple(metric for metric in can if metric != "energy")
    if any(one.level == "refused" for one in findings):
        can = ()
    return TargetReport(spec, host, facts, can, findings)


def _energy(spec: TargetFields, facts: Json) -> Iterator[TargetFinding]:
    """Find what keeps energy from being measured."""
    if spec.meter is not None and not spec.meter.is_file():
        what = f"the power meter's file {spec.meter} is not there"
        yield TargetFinding(what, "let the meter write it, or correct `meter`", "missing")
    if spec.meter is None and facts.get("meters") == []:
        advice = "energy is not measured; name the CSV of an external meter as `meter`"
        yield TargetFinding("no energy meter that can be read", advice)


def governor(spec: TargetFields, facts: Json, command: str) -> Iterator[TargetFinding]:
    """Find a frequency governor that moves the clock; `command` says how to set another."""
    if facts.get("governor") not in (None, "performance") and not spec.any_governor:
        yield TargetFinding(
            f"the frequency governor {facts['governor']}",
            f"times are marked invalid under it; {command} (or set any_governor)",
        )


class TargetSpec(TargetFields, ABC):
    """A target of one kind: where it is, how it is used, and what can be done with it.

    Attributes
    ----------
    form : str
        What a URL of this kind looks like: ``ssh://user@host:port``, or one word. What stands
        before ``://`` is the kind's name.
    title : str
        What such a target is, in a few words.
    """

    form: ClassVar[str]
    title: ClassVar[str]

    @classmethod
    def pattern(cls) -> str:
        """Give the regular expression of this kind's URLs."""
        scheme, slashes, _ = cls.form.partition("://")
        return f"^{re.escape(scheme)}{slashes or '$'}"

    @classmethod
    def urls(cls) -> Mapping[str, str]:
        """Give URLs that a person may use without naming them in a fleet, each with its title."""
        return {cls.form: cls.title}

    @abstractmethod
    def open(self) -> Target:
        """Give the target; nothing is connected to yet.

        Raises
        ------
        RecipeError
            When the URL means nothing.
        """

    @abstractmethod
    def check(self) -> TargetReport:
        """Connect to it, see what it is and lacks (see `report_of`), and write nothing there.

        Raises
        ------
        TargetError
            When it cannot be reached.
        """

    @abstractmethod
    def prepare(self, progress: Progress) -> str:
        """Set it up, keep what is there already, and say what it has now.

        Raises
        ------
        TargetError
            When it cannot be had; the text says what to do.
        """

    @abstractmethod
    def clean(self) -> str:
        """Remove what was left there, and say how much that was (see `removed`).

        Raises
        ------
        TargetError
            When it cannot be reached, or what is there is not ours to remove.
        """


def removed(count: int, what: str = "") -> str:
    """Say how many bytes were removed, and of `what`."""
    if not count:
        return "nothing was left there"
    size = f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"
    return f"removed {size}{what}"
