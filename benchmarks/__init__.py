"""How fast Tertulia is, measured beside yardsticks of the same work; see `docs/benchmarks.md`.

`uv run python -m benchmarks` measures everything, `… list append` some cells, `… peers` other
products (only when it is named), `… --quick` nothing worth believing, in a minute.

A *cell* (one function, in `cells/`) measures *targets* side by side: the product and its
yardsticks, each for a few seconds a round, in turns (A B C, C B A, …). What counts is the ratio
between two targets of the same round.
"""
