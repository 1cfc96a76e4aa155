"""Other people's protocols, each translated to conversations and runs, and back.

A dialect has no storage and no rules of its own: what is written through one is there, the same,
through every other.
"""
