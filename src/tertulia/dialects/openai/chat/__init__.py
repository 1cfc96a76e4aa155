"""Chat completions: the protocol that everybody speaks."""
