"""B: what FastAPI costs when there is nothing to do: answers that are ready, of equal size."""

import os

from fastapi import FastAPI, Response

from benchmarks.yardsticks.serving import serve

LIST_BYTES = "BENCH_LIST_BYTES"
"""The variable that says how long the answer is."""

app = FastAPI(openapi_url=None)
_list = b'"' + b"x" * (int(os.environ.get(LIST_BYTES, "2048")) - 2) + b'"'


@app.get("/conversations")
async def list_conversations() -> Response:
    """Return bytes."""
    return Response(_list, media_type="application/json")


if __name__ == "__main__":
    serve(app)
