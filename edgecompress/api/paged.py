"""Results that have a page of their own: drawn in a terminal, and shown whole in a notebook."""

from __future__ import annotations

import html
import io
import sys
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

    from edgecompress.report.blocks import Page

FILE_WIDTH = 120
"""Columns where there is no terminal: a file has no edge at which names would be folded."""
HEIGHT = 640
"""Pixels of a page in a notebook; it scrolls."""


class Paged(ABC):
    """A result that prints as its page, at a prompt too, and shows it in a notebook."""

    __slots__ = ()

    @abstractmethod
    def page(self) -> Page:
        """Lay out what was found."""

    def __str__(self) -> str:
        from rich.console import Console

        from edgecompress.report.terminal import print_page

        width = None if sys.stdout.isatty() else FILE_WIDTH
        console = Console(file=io.StringIO(), highlight=False, width=width)
        with console.capture() as found:
            print_page(self.page(), console)
        return found.get().rstrip("\n")

    __repr__ = __str__

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from edgecompress.report.terminal import render_terminal

        yield from render_terminal(self.page())

    def _repr_html_(self) -> str:
        from edgecompress.report.html import render_html

        # A frame of its own: the page's styles and its script do not meet the notebook's.
        page = html.escape(render_html(self.page()))
        look = f"width:100%;height:{HEIGHT}px;border:0"
        return f'<iframe srcdoc="{page}" style="{look}" sandbox="allow-scripts"></iframe>'
