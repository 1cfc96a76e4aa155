"""AI SDK UI: what `useChat` sends and reads, over the chats of this server (`docs/ai-sdk.md`)."""
