"""Questions to PostgreSQL, in the words of the domain.

`get` raises its NotFound, `find` may return None, `list` returns a page, `lock` and `claim` hold
what they return until the transaction ends. Every statement about something owned names its owner.
"""
