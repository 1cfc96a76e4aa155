"""What is printed, and what is written: tables in Markdown, JSON, bars."""

import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.bench import Findings, Options
from benchmarks.figures import Comparison, extra
from benchmarks.goals import GOALS, Judged, Verdict

_PLACE = re.compile(r"<!-- /([\w-]+) -->")
_SIGNS = {Verdict.AIM: "aim", Verdict.MUST: "must", Verdict.MISSED: "**missed**"}


def comparison_table(comparison: Comparison) -> str:
    """Return a table of the targets: medians of the rounds, CPU with its spread."""
    samples = comparison.samples
    shown = comparison.columns
    head = (
        comparison.title,
        f"{comparison.unit}s/s",
        "p50 ms",
        "p99 ms",
        f"us CPU per {comparison.unit}: app + PG",
        "lowest to highest",
        *shown,
        "errors",
        "foreign cores",
    )
    rows: list[Sequence[str]] = []
    for target in samples:
        spread = comparison.spread(target, lambda sample: sample.cpu_ms * 1000)
        parts = [
            number(comparison.median(target, lambda sample: sample.app_ms * 1000)),
            number(comparison.median(target, lambda sample: sample.postgres_ms * 1000)),
        ]
        rows.append(
            (
                target,
                number(comparison.median(target, lambda sample: sample.rate)),
                number(comparison.median(target, lambda sample: sample.p50_ms)),
                number(comparison.median(target, lambda sample: sample.p99_ms)),
                " + ".join(parts),
                f"{number(spread.low)} to {number(spread.high)}",
                *(number(comparison.median(target, extra(name))) for name in shown),
                str(sum(sample.errors for sample in samples[target])),
                number(round(comparison.median(target, lambda sample: sample.foreign_cores), 2)),
            )
        )
    return table(head, rows)


def goals_table(judged: Sequence[Judged]) -> str:
    """Return the goals that were measured, in their order."""
    order = {row: number for number, row in enumerate(GOALS)}
    rows = [
        (
            each.row,
            each.goal.name,
            _with_unit(each.spread.median, each.goal.unit),
            f"{number(each.spread.low)} to {number(each.spread.high)}",
            _limit(each.goal.must, each),
            _limit(each.goal.aim, each),
            _reached(each),
        )
        for each in sorted(judged, key=lambda each: order[each.row])
    ]
    return table(("row", "goal", "median", "lowest to highest", "must", "aim", "reached"), rows)


def cell_report(name: str, about: str, findings: Findings) -> str:
    """Return all of a cell, as a section."""
    return f"## {name}: {about}\n\n{cell_tables(findings)}"


def cell_tables(findings: Findings) -> str:
    """Return what a cell found."""
    parts = [comparison_table(comparison) for comparison in findings.comparisons]
    if findings.notes:
        parts.append("\n".join(f"- {note}" for note in findings.notes))
    if findings.judged:
        parts.append(goals_table(findings.judged))
    return "\n\n".join(parts)


def write_document(
    path: Path, found: Mapping[str, Findings], about: str, optional: Collection[str]
) -> None:
    """Put the tables of these cells into a document, each in its place: `<!-- cell -->`.

    The place `goals` is written when every other one is, and so is `measured`.

    Args:
        path: Of the document.
        found: By cell.
        about: How it was measured.
        optional: The cells that need not have been measured for `goals` to be written.
    """
    text = path.read_text()
    tables = {name: cell_tables(findings) for name, findings in found.items()}
    if set(_PLACE.findall(text)) - {"goals", "measured", *optional} <= set(tables):
        judged = [each for findings in found.values() for each in findings.judged]
        tables |= {"goals": goals_table(judged), "measured": about}
    for name, table_ in tables.items():
        place = re.compile(rf"(<!-- {name} -->)(.*?)(<!-- /{name} -->)", re.DOTALL)
        text = place.sub(lambda found: f"{found[1]}\n{table_}\n{found[3]}", text)  # noqa: B023  called at once
    path.write_text(text)


def write_json(
    path: Path, found: Mapping[str, Findings], options: Options, machine: Mapping[str, object]
) -> None:
    """Write everything, with each round of each target."""
    cells = {
        name: {
            "comparisons": [
                {
                    "title": each.title,
                    "unit": each.unit,
                    "samples": {
                        target: [asdict(sample) for sample in samples]
                        for target, samples in each.samples.items()
                    },
                }
                for each in findings.comparisons
            ],
            "goals": {
                each.row: {**each.spread._asdict(), "reached": each.verdict.value}
                for each in findings.judged
            },
            "notes": findings.notes,
        }
        for name, findings in found.items()
    }
    told = {"machine": dict(machine), "options": asdict(options), "cells": cells}
    path.write_text(json.dumps(told, indent=1, default=str) + "\n")


def number(value: float) -> str:
    """Return three figures of a number, as people write it."""
    if math.isnan(value):
        return ""
    if math.isinf(value):
        return "∞"
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table whose columns stand below one another."""
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        return f"| {' | '.join(padded)} |"

    return "\n".join([line(head), line(["-" * width for width in widths]), *map(line, rows)])


def _limit(limit: float, judged: Judged) -> str:
    if math.isinf(limit):
        return ""
    sign = "≤" if judged.goal.less_is_better else "≥"
    return f"{sign} {_with_unit(limit, judged.goal.unit)}"


def _reached(judged: Judged) -> str:
    if judged.verdict is Verdict.MUST and math.isinf(judged.goal.must):
        return "aim missed"
    return _SIGNS[judged.verdict]


def _with_unit(value: float, unit: str) -> str:
    return f"{number(value)} {unit}".strip()
