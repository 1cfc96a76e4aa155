"""The tools of MCP servers: an outside world, as language models are one.

`servers` is the door: it knows every configured server. `configuration` reads the operator's file,
which alone says what is started and what is asked; no user names a command or an address. `names`
says what models call a tool. `connection` keeps one server connected and is the only module that
imports the SDK, when the first server is needed: two thirds of a second that others never pay.
`bounded_http` limits what a server may answer over HTTP, `results` turns its results into text.
"""
