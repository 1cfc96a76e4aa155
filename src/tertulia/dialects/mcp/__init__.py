"""Tertulia as an MCP server at `/mcp`: a user's conversations, to be read by programs of theirs.

`routes` is the door; `endpoint` hands requests to the SDK, which it imports with the first of them.
`server` says in the SDK's words what `library` finds; `shapes` is what both speak of. Every request
is served by itself, so any replica can answer any of them.
"""
