"""Language models: what turns a `ModelRequest` into an asynchronous stream of `Delta`.

`catalog` is the door: it knows every configured provider and all of their models. `names` says what
a model may be called, `lists` what the providers say of theirs. `providers` says what a provider
is; `openai_compatible`, `local` and `others` are the three that exist. What a provider may do
wrong, and what becomes of it, is in `docs/provider-faults.md`, `faults` (which fault), `attempts`
and `patience` (tried again, when) and `breaker` (left alone for a while). `sse`, `openai_messages`,
`openai_chunks`, `exact_text` and `continuation` are the pure parts of speaking to a provider;
`history` fits a conversation into a model's context; `pricing` knows what an answer costs.

Embeddings have the same door. `embedders` says what makes them; `openai_compatible` does
(`openai_embeddings` is its pure part), and `local_embeddings` with `e5`, the bundled model.
"""
