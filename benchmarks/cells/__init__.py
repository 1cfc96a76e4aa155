"""The cells. A new one is a function in any module of this package, marked with `cell`."""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from benchmarks.bench import Bench, Findings

Measure: TypeAlias = Callable[[Bench], Findings]
_cells: dict[str, "Cell"] = {}


@dataclass(frozen=True, slots=True)
class Cell:
    """A group of measurements that belong together."""

    name: str
    about: str
    measure: Measure
    on_request: bool
    """Whether it is measured only when it is named."""


def cell(name: str, *, on_request: bool = False) -> Callable[[Measure], Measure]:
    """Let a function be a cell; the first line of its docstring says what it measures.

    Args:
        name: Of the cell.
        on_request: Measure it only when it is named, for it needs what not everybody has.
    """

    def mark(measure: Measure) -> Measure:
        about = (measure.__doc__ or "").strip().splitlines()[0]
        _cells[name] = Cell(name, about, measure, on_request)
        return measure

    return mark


def all_cells() -> dict[str, Cell]:
    """Return every cell by name, in the order of the modules and in them."""
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda found: found.name):
        importlib.import_module(f"{__name__}.{module.name}")
    return _cells
