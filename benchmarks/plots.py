"""Bars: what each target costs in CPU, the median of the rounds with the lowest and the highest."""

import re
from html import escape
from pathlib import Path

from benchmarks.bench import Findings
from benchmarks.figures import Comparison, Spread
from benchmarks.report import number

_WIDTH, _LABEL, _ROW, _BAR = 720, 170, 30, 16
_SPACE = _WIDTH - _LABEL - 190
"""For the longest bar; figures stand to the right of it."""
_OURS, _THEIRS, _INK = "#2563eb", "#94a3b8", "#0f172a"


def write_plots(document: Path, findings: Findings) -> None:
    """Write the plots that a document shows, each named by its comparison's title."""
    text, folder = document.read_text(), document.with_suffix("")
    for comparison in findings.comparisons:
        name = re.sub(r"[^a-z0-9]+", "-", comparison.title.lower()).strip("-") + ".svg"
        if f"]({folder.name}/{name})" in text:
            folder.mkdir(exist_ok=True)
            (folder / name).write_text(cpu_bars(comparison))


def cpu_bars(comparison: Comparison) -> str:
    """Return the plot of a comparison."""
    spreads = {
        target: comparison.spread(target, lambda sample: sample.cpu_ms * 1000)
        for target in comparison.samples
    }
    scale = _SPACE / max(spread.high for spread in spreads.values())
    first, *_ = spreads
    rows = [
        _bar(place, target, spread, scale, colour=_OURS if target == first else _THEIRS)
        for place, (target, spread) in enumerate(spreads.items())
    ]
    title = f"{comparison.title}: CPU of server and PostgreSQL, us per {comparison.unit}"
    size = f'width="{_WIDTH}" height="{44 + _ROW * len(spreads)}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif">',
            f'<rect {size} fill="#ffffff"/>',
            _text(12, 24, title, "start", bold=True),
            *rows,
            "</svg>\n",
        ]
    )


def _bar(place: int, label: str, spread: Spread, scale: float, *, colour: str) -> str:
    top = 40 + place * _ROW
    low, end, high = (_LABEL + value * scale for value in spread)
    figures = f"{number(spread.median)} ({number(spread.low)} to {number(spread.high)})"
    return "\n".join(
        [
            _text(_LABEL - 8, top + _BAR - 3, label, "end"),
            f'<path d="M{_LABEL} {top}H{end:.1f}v{_BAR}H{_LABEL}z" fill="{colour}"/>',
            f'<path d="M{low:.1f} {top + _BAR / 2}H{high:.1f}" stroke="{_INK}" stroke-width="2"/>',
            _text(max(end, high) + 8, top + _BAR - 3, figures, "start"),
        ]
    )


def _text(x: float, y: float, text: str, anchor: str, *, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return (
        f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}" font-size="13" fill="{_INK}"{weight}>'
        f"{escape(text)}</text>"
    )
