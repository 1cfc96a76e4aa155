"""What OpenAI's clients expect of a server, at `/v1`.

A response is a run, a conversation is a conversation, an item is a message or a part of one.
"""
