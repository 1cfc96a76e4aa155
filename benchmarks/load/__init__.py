"""The load generator: a process of its own for each job, as cheap as Python can be.

Who started it writes a job as a JSON line to its standard input, is told `ready` once the load
runs evenly, writes `begin` and `end`, and reads what was measured between the two as a JSON line.
"""
