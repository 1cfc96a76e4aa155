"""Runs: start, execute, follow, cancel, take over.

A send passes `routes.py` → `service.py` (one transaction: message, answer, run) → `executor.py`
(asks the model) → `writer.py` (stores what it says, all runs of this process in one commit) →
`feeds.py` (wakes followers, which only see what is stored). `keeper.py` holds the leases and takes
over the runs of processes that died, `answer.py` and `replay.py` turn events into a message and
back, `prompt.py` says what the model is told, `titles.py` names conversations, `socket.py` is the
WebSocket.
"""
