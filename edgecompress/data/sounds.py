"""Folders of sounds, one folder for each class: ``train/yes/1.wav``."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from edgecompress.data.base import SPLITS
from edgecompress.data.class_folders import ClassFolders
from edgecompress.processors.sounds import SUFFIXES, check_sound, is_cut_off


class SoundsData(ClassFolders):
    """Sounds whose class is the name of the folder that they lie in."""

    holds: ClassVar[str] = "audio"
    several: ClassVar[str] = "sounds"
    suffixes: ClassVar[tuple[str, ...]] = SUFFIXES
    also_called: ClassVar[tuple[str, ...]] = ("audio", "audiofolder", "wav")

    format: Literal["sounds"] = "sounds"

    def check(self, file: Path) -> None:
        """See that a sound can be read to its end."""
        check_sound(file)

    def facts(self) -> dict[str, str]:
        """Say which files hold less than they promise."""
        every = [one for split in SPLITS if self.has_own(split) for one in self.files(split)]
        cut = [one.name for one in every if is_cut_off(one)]
        told = f"{len(cut)} sounds, such as {cut[0]}: what is there of them is read" if cut else ""
        return {**({"cut off": told} if told else {}), **super().facts()}
