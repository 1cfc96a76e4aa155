"""What every HTTP route shares: the guard in front of them, errors, paging, event streams.

The way of a request: `guard` (with `target`, `body`, `strict_json` and `headers`) lets it in or
refuses it, the routes answer with what `paging`, `sse` and `idempotency` offer, and `errors` gives
every refusal its one shape.
"""
