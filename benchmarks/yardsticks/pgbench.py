"""P: the database's limit: pgbench running the statements that the product sends, prepared."""

import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from benchmarks.figures import Sample
from benchmarks.processes import Meter
from benchmarks.stage import Stage
from benchmarks.yardsticks.statements import Sent
from tertulia.storage.embedded_programs import installation

_PLACEHOLDER = re.compile(r"\$(\d+)")
_DONE = re.compile(r"transactions actually processed: (\d+)")
_TPS = re.compile(r"tps = ([\d.]+)")
_LATENCY = re.compile(r"latency average = ([\d.]+)")
_NEW_ID = "new_id"
_COUNTED_FROM = 10
"""A smaller whole number in a row is no counter that a later statement could go on from."""


class Script:
    """A transaction of the product's as a script of pgbench's.

    What one statement returned and a later one was given (an id, a counter, the number after it)
    is passed on in the script too, and what the product made up (a new id) is new in each run.

    Args:
        sent: The product's statements, in order.
        given: The ids that the use case was told, and what stands for each in SQL.
    """

    def __init__(self, sent: Sequence[Sent], given: Mapping[UUID, str]) -> None:
        self.variables: dict[str, str] = {}
        self._known: dict[object, str] = {**given}
        self._makes_id = False
        lines = [line for number, each in enumerate(sent) for line in self._lines(each, number)]
        if self._makes_id:
            lines.insert(0, rf"SELECT uuidv7() AS {_NEW_ID} \gset")
        self.text = "\n".join(lines) + "\n"

    def _lines(self, sent: Sent, number: int) -> list[str]:
        sql = _PLACEHOLDER.sub(
            lambda match: self._value(sent.arguments[int(match[1]) - 1], f"a{number}_{match[1]}"),
            " ".join(sent.sql.split()),
        )
        if len(sent.rows) != 1:
            return [f"{sql};"]
        row = f"r{number}_"
        lines = [rf"{sql} \gset {row}"]
        for column, value in sent.rows[0].items():
            if isinstance(value, UUID):
                self._known.setdefault(value, f":{row}{column}")
            elif type(value) is int and value >= _COUNTED_FROM:
                self._known.setdefault(value, f":{row}{column}")
                if value + 1 not in self._known:
                    self._known[value + 1] = f":{row}{column}_next"
                    lines.append(rf"\set {row}{column}_next :{row}{column} + 1")
        return lines

    def _value(self, value: object, name: str) -> str:
        if value is None:
            return "NULL"
        if isinstance(value, (UUID, int)) and value in self._known:
            return self._known[value]
        if isinstance(value, UUID):
            self._makes_id = True
            return f":{_NEW_ID}"
        self.variables[name] = _as_text(value)
        return f":{name}"


def _as_text(value: Any) -> str:  # noqa: ANN401  an argument
    if isinstance(value, bool):
        return "true" if value else "false"
    assert isinstance(value, (str, int)), "what pgbench can be given"
    return str(value)


def run_pgbench(stage: Stage, script: Script, *, clients: int, seconds: float) -> Sample:
    """Run the script again and again in each client."""
    path = stage.directory / "pgbench.sql"
    path.write_text(script.text)
    command = [
        str(installation() / "bin" / "pgbench"),
        *("--no-vacuum", "--protocol", "prepared", "--client", str(clients), "--jobs", "2"),
        *(["--time", str(round(seconds))] if seconds >= 1 else ["--transactions", "100"]),
        *(f"--define={name}={value}" for name, value in script.variables.items()),
        *("--file", str(path), stage.dsn),
    ]
    meter = Meter(app=[], postgres=stage.postgres_pid())
    # A session of its own: Ctrl-C is for us, who end it then.
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, start_new_session=True
    )
    time.sleep(0.05)  # its sessions end, and what they used is counted where they began
    cost = meter.end()
    found = _DONE.search(done.stdout), _TPS.search(done.stdout), _LATENCY.search(done.stdout)
    if done.returncode or None in found:
        raise RuntimeError(f"pgbench failed:\n{done.stdout}\n{done.stderr}")
    operations, tps, latency_ms = (float(match[1]) for match in found if match)
    return Sample(
        operations=int(operations),
        seconds=operations / tps,
        postgres_s=cost.postgres_s,
        foreign_cores=cost.foreign_cores,
        p50_ms=latency_ms,
    )
