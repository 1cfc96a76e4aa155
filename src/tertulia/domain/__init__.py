"""The words of Tertulia, free of any outside world.

user, conversation, message, part, head, branch, run, attempt, event, cursor, model, provider,
usage: one word for one concept, here and in every other room, in the API and in the documents.
"""
