"""The same work done by others: each a small, honest server of its own, or pgbench."""
