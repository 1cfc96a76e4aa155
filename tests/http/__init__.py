"""Tests of the room `tertulia.http`."""  # noqa: A005  imported as tests.http, never as http
