"""The command: `uv run python -m benchmarks [cells…] [--quick] [--rounds N] [--seconds S] …`."""

import os
import platform
import resource
import signal
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import psutil

from benchmarks.bench import Bench, Findings, Options
from benchmarks.cells import Cell, all_cells
from benchmarks.plots import write_plots
from benchmarks.report import cell_report, goals_table, write_document, write_json
from tertulia import __version__

_OPEN_FILES = 8192


def main() -> int:
    """Measure, and print what was found; 0 unless something answered with errors."""
    cells = all_cells()
    asked = _arguments(cells)
    quick: bool = asked.quick
    options = Options(
        rounds=asked.rounds or (1 if quick else 3),
        seconds=asked.seconds or (0.3 if quick else 3.0),
        quick=quick,
    )
    _prepare()
    found: dict[str, Findings] = {}
    try:
        with ExitStack() as stack:
            bench = Bench(options, stack)
            for name in asked.cells or [name for name in cells if not cells[name].on_request]:
                bench.say(f"{name}: {cells[name].about}")
                found[name] = cells[name].measure(bench)
                print(cell_report(name, cells[name].about, found[name]), end="\n\n", flush=True)
            bench.say("taking everything down")
    except KeyboardInterrupt:
        print("Interrupted; everything that was started has ended.", file=sys.stderr)
        return 130
    finally:
        _conclude(cells, found, options, asked)
    # A quick look asks whether all of it runs, not whether this machine was busy.
    return 1 if not quick and any(map(_has_errors, found.values())) else 0


def _arguments(cells: Mapping[str, Cell]) -> Namespace:
    described = "\n".join(f"  {cell.name:14} {cell.about}" for cell in cells.values())
    parser = ArgumentParser(prog="benchmarks", description="Measure Tertulia beside yardsticks.")
    named = [f"{name} (only when named)" if cells[name].on_request else name for name in cells]
    parser.add_argument("cells", nargs="*", metavar="cell", help=", ".join(named))
    parser.add_argument("--quick", action="store_true", help="only see that all of it runs")
    parser.add_argument("--rounds", type=int, help="of all targets in turns (3)")
    parser.add_argument("--seconds", type=float, help="of each target in each round (3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round there")
    parser.add_argument(
        "--document",
        type=Path,
        metavar="FILE",
        help="put the tables into that Markdown (docs/benchmarks.md), and plots beside it",
    )
    asked = parser.parse_args()
    if unknown := set(asked.cells) - set(cells):
        parser.error(f"no such cell: {', '.join(sorted(unknown))}. There are:\n{described}")
    return asked


def _prepare() -> None:
    """Be able to open thousands of connections, and end as after Ctrl-C when told to."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))

    def interrupt(_signum: int, _frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


def _conclude(
    cells: Mapping[str, Cell], found: Mapping[str, Findings], options: Options, asked: Namespace
) -> None:
    """Print how the goals stand, and write what was asked for."""
    machine = {
        "processors": os.cpu_count(),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.machine()}",
        "Python": platform.python_version(),
        "Tertulia": __version__,
    }
    told = ", ".join(f"{name} {value}" for name, value in machine.items())
    about = f"{options.rounds} rounds of {options.seconds:g} s; {told}."
    judged = [each for findings in found.values() for each in findings.judged]
    if judged:
        print(f"## Goals\n\n{goals_table(judged)}\n\n{about}")
    if asked.json is not None:
        write_json(asked.json, found, options, machine)
    if asked.document is not None:
        optional = {name for name, cell in cells.items() if cell.on_request}
        write_document(asked.document, found, about, optional)
        for findings in found.values():
            write_plots(asked.document, findings)


def _has_errors(findings: Findings) -> bool:
    return any(
        sample.errors
        for comparison in findings.comparisons
        for samples in comparison.samples.values()
        for sample in samples
    )


if __name__ == "__main__":
    sys.exit(main())
