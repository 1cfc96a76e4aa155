"""Conversations and their messages: made, listed, changed and deleted by their owner.

Answers are not written here: `tertulia.runs` does that, and while it does, a conversation takes no
other message.
"""
