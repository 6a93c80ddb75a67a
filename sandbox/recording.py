"""A run as a picture: what a command said and when, as a terminal that plays it (SVG).

    python -m sandbox.recording take docs/images/up.log make up
    python -m sandbox.recording draw docs/images/up.log >docs/images/up.svg

A log is the command in its first line, then each line with the seconds since the start before a tab. What shows
no animation shows the end of the run.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

COLUMNS, ROWS = 110, 26
LETTER, LINE, EDGE, BAR = 8, 18, 16, 36
"""Sizes in pixels: a letter's width, a line's height, the space around the text, the bar above it."""

SECONDS = 20.0
"""How long a picture plays; a run takes longer, and is played that much faster."""

STYLE = """
text { font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: #d0d7de;
  white-space: pre }
.bar { fill: #8b949e; text-anchor: middle }
.last { fill: #7ee787 }
@media (prefers-reduced-motion: no-preference) {
  .line { animation: show 1ms both }
  .lines { animation: scroll %(seconds).2fs step-end both }
}
@keyframes show { from { visibility: hidden } to { visibility: visible } }
@keyframes scroll { %(scroll)s }
"""


@dataclass(frozen=True)
class Recording:
    """A command, and what it said.

    Attributes:
        command: as a person types it.
        lines: seconds since the start, and text.
    """

    command: str
    lines: Sequence[tuple[float, str]]

    @classmethod
    def read(cls, log: str) -> Recording:
        """A log as a recording."""
        command, *lines = log.splitlines()
        stamped = (line.split("\t", 1) for line in lines)
        return cls(command, [(float(seconds), text) for seconds, text in stamped])

    def write(self) -> str:
        """The log."""
        stamped = "".join(f"{seconds:.1f}\t{text}\n" for seconds, text in self.lines)
        return f"{self.command}\n{stamped}"


def take(command: Sequence[str], title: str) -> Recording:
    """Run a command, show what it says, and note when it says it.

    Args:
        command: the words of the command.
        title: the command as it is shown.

    Raises:
        subprocess.CalledProcessError: it failed; nothing is to be shown of that.
    """
    began = time.monotonic()
    lines: list[tuple[float, str]] = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as child:
        assert child.stdout
        for line in child.stdout:
            print(line, end="", flush=True)
            lines.append((time.monotonic() - began, line.rstrip().expandtabs()))
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, command)
    return Recording(title, lines)


def draw(recording: Recording) -> str:
    """The recording as an SVG."""
    lines = [(0.0, f"# {recording.command}"), *recording.lines]
    speed = max(1.0, lines[-1][0] / SECONDS)
    times = [seconds / speed for seconds, _ in lines]
    width, height = COLUMNS * LETTER + 2 * EDGE, ROWS * LINE + BAR + EDGE
    svg = ElementTree.Element(
        "svg",
        {"xmlns": "http://www.w3.org/2000/svg", "xml:space": "preserve"},
        viewBox=f"0 0 {width} {height}",
    )
    ElementTree.SubElement(svg, "style").text = STYLE % {
        "seconds": times[-1] + 0.01,
        "scroll": _scroll(times),
    }
    ElementTree.SubElement(
        svg, "rect", width=str(width), height=str(height), fill="#0d1117", rx="8"
    )
    for number, colour in enumerate(("#ff5f56", "#ffbd2e", "#27c93f")):
        ElementTree.SubElement(
            svg, "circle", cx=str(EDGE + 6 + 20 * number), cy=str(BAR // 2), r="6", fill=colour
        )
    faster = f", {speed:.0f} times as fast" if speed > 1 else ""
    bar = ElementTree.SubElement(
        svg, "text", {"class": "bar"}, x=str(width // 2), y=str(BAR // 2 + 4)
    )
    bar.text = f"{recording.command}{faster}"
    view = ElementTree.SubElement(
        svg, "svg", y=str(BAR), width=str(width), height=str(ROWS * LINE + EDGE // 2)
    )
    _draw_lines(view, [text for _, text in lines], times)
    ElementTree.indent(svg)
    return ElementTree.tostring(svg, encoding="unicode") + "\n"


def _draw_lines(view: ElementTree.Element, texts: Sequence[str], times: Sequence[float]) -> None:
    end = max(0, len(texts) - ROWS) * LINE
    group = ElementTree.SubElement(
        view, "g", {"class": "lines"}, style=f"transform: translateY({-end}px)"
    )
    summary = max((n for n, text in enumerate(texts) if not text), default=len(texts))
    for number, (text, at) in enumerate(zip(texts, times, strict=True)):
        line = ElementTree.SubElement(
            group, "text", {"class": "line last" if number > summary else "line"},
            x=str(EDGE), y=str(number * LINE + 14), style=f"animation-delay: {at:.2f}s",
        )  # fmt: skip
        line.text = text if len(text) <= COLUMNS else f"{text[: COLUMNS - 1]}…"


def _scroll(times: Sequence[float]) -> str:
    """Keyframes that keep the last line in sight, one for each that comes when the terminal is full."""
    steps = {0.0: 0}
    for number, at in enumerate(times[ROWS:], start=1):
        steps[round(100 * at / (times[-1] + 0.01), 2)] = number * LINE
    steps[100.0] = max(0, len(times) - ROWS) * LINE
    return " ".join(f"{at}% {{ transform: translateY({-y}px) }}" for at, y in steps.items())


def main() -> int:
    """The command; see the module's text."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.recording")
    what = parser.add_subparsers(dest="what", required=True)
    taking = what.add_parser("take", help="run a command and write its log")
    taking.add_argument("--title", help="the command as it is shown (default: as it is run)")
    drawing = what.add_parser("draw", help="print a log as SVG")
    for one in (taking, drawing):
        one.add_argument("log", type=Path)
    taking.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    if arguments.what == "draw":
        print(draw(Recording.read(arguments.log.read_text())), end="")
        return 0
    title = arguments.title or " ".join(arguments.command)
    arguments.log.write_text(take(arguments.command, title).write())
    return 0


if __name__ == "__main__":
    sys.exit(main())
