"""Responses: a response is a run."""
