"""Make the README's two pictures of the demo's run: ``make pictures``.

``report.png`` is the top of the report page as a browser draws it: its verdict, the table of all
models and the plots; the sentences that explain them are left out, and what stands below.
``terminal.svg`` is what two commands print: the recipe once more, in another folder, which takes
its results from the store, and an answer of the bundle that it made.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageChops
from rich.console import Console
from rich.text import Text

HERE = Path(__file__).parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
ACROSS, DOWN = 1364, 4000  # as wide as the whole table needs, and longer than the page
COLOURS = 256
COLUMNS = 92
CUT = """<style>
header { padding-top: 1.5rem; } section { margin-top: 1.6rem; }
h1, header p { max-width: none; text-wrap: wrap; }
section:has(#trade) ~ section, footer, .tools, section > p, #all ~ ul { display: none; }
</style></head>"""
FONTS = r"@font-face \{.*?\}\s*"


def main() -> None:
    """Draw both pictures of the run in the folder named on the command line."""
    if len(sys.argv) != 2 or not (Path(sys.argv[1]) / "report.html").is_file():
        sys.exit("name the folder of the demo's run, as `make demo` writes it: runs/quickstart")
    picture_of_page(Path(sys.argv[1]) / "report.html", HERE / "report.png")
    again = ["edgecompress", "run", "quickstart", "-o", "runs/quickstart"]
    ask = ["edgecompress", "predict", "runs/quickstart/bundle", "Jamhuri ya Kenya"]
    picture_of_terminal([again, ask], HERE / "terminal.svg")


def picture_of_page(page: Path, picture: Path) -> None:
    """Let a browser draw the top of `page`."""
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        sys.exit(
            "the picture of the page needs chromium: apt-get install chromium, or CHROMIUM=PATH"
        )
    with tempfile.TemporaryDirectory() as folder:
        shown, drawn = Path(folder, "page.html"), Path(folder, "page.png")
        text = page.read_text(encoding="utf-8")
        shown.write_text(text.replace("</head>", CUT, 1), encoding="utf-8")
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        place = [f"--user-data-dir={folder}/profile", f"--window-size={ACROSS},{DOWN}"]
        command = [found, *flags, *place, f"--screenshot={drawn}", shown.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if not drawn.is_file():
            sys.exit(f"{found} drew nothing (exit code {done.returncode}):\n{done.stderr}")
        image = Image.open(drawn).convert("RGB")
    ground = Image.new("RGB", image.size, image.getpixel((0, 0)))
    below = ImageChops.difference(image, ground).getbbox()[3]
    image = image.crop((0, 0, ACROSS, min(below + 24, DOWN)))
    image.quantize(COLOURS, dither=Image.Dither.NONE).save(picture, optimize=True)


def picture_of_terminal(commands: list[list[str]], picture: Path) -> None:
    """Run `commands` in a folder of their own, and draw what they print."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    told = {"FORCE_COLOR": "1", "COLUMNS": str(COLUMNS), "TERM": "xterm-256color"}
    with tempfile.TemporaryDirectory() as folder:
        for command in commands:
            console.print(Text(f"$ {shlex.join(command)}", "bold cyan"))
            words = [str(Path(sys.executable).parent / command[0]), *command[1:]]
            done = subprocess.run(
                words,
                env={**os.environ, **told},
                cwd=folder,
                stdout=subprocess.PIPE,
                check=False,
            )
            if done.returncode:
                sys.exit(f"no picture: {shlex.join(command)} ended with {done.returncode}")
            console.print(Text.from_ansi(done.stdout.decode()))
    drawn = console.export_svg(title="edgecompress")
    picture.write_text(re.sub(FONTS, "", drawn, flags=re.DOTALL), encoding="utf-8")


if __name__ == "__main__":
    main()
