"""Server-sent events: from bytes, however they are cut, to the payloads of `data:` lines."""

MAX_LINE_BYTES = 1024 * 1024
_BOM = b"\xef\xbb\xbf"


class EventTooLarge(Exception):  # noqa: N818  named for what happened
    """A line, or the data of one event, is longer than the decoder was told to hold."""


class SseDecoder:
    r"""An incremental decoder of one event stream.

    It follows the WHATWG HTML standard, section 9.2.6: a line ends at `\n`, `\r\n` or `\r` and
    nowhere else. (Decoders built on `str.splitlines` also cut at U+2028, U+0085, VT, FF and FS,
    which JSON may contain as they are, and thereby lose text.) Payloads stay bytes, so a cut
    inside a UTF-8 sequence needs no care. Only `data` fields are kept; event names, ids, retry
    times and comments are passed over.

    Args:
        max_line_bytes: The most that is held of one line, and of the data of one event.
    """

    __slots__ = ("_at_start", "_data", "_data_bytes", "_line", "_line_bytes", "_max", "_skip_lf")

    def __init__(self, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self._max = max_line_bytes
        self._line: list[bytes] = []
        self._line_bytes = 0
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._skip_lf = False
        self._at_start = True

    def feed(self, piece: bytes) -> list[bytes]:
        """Return the payloads of the events that this piece of the stream completes.

        Raises:
            EventTooLarge: A line or an event grew beyond the limit.
        """
        if self._skip_lf and piece:
            self._skip_lf = False
            piece = piece.removeprefix(b"\n")
        if b"\r" in piece:
            self._skip_lf = piece.endswith(b"\r")
            piece = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        first, *rest = piece.split(b"\n")
        self._hold(first)
        if not rest:
            return []
        payloads: list[bytes] = []
        self._take_line(b"".join(self._line), payloads)
        last = rest.pop()
        for line in rest:
            self._take_line(line, payloads)
        self._line.clear()
        self._line_bytes = 0
        self._hold(last)
        return payloads

    def end(self) -> list[bytes]:
        """Return the payload of an event that lacks only its closing empty line, if there is one.

        The standard drops it; some providers end their streams so, and its lines are whole.
        """
        payloads: list[bytes] = []
        self._dispatch(payloads)
        return payloads

    def _hold(self, piece: bytes) -> None:
        if not piece:
            return
        self._line_bytes += len(piece)
        if self._line_bytes > self._max:
            raise EventTooLarge
        self._line.append(piece)

    def _take_line(self, line: bytes, payloads: list[bytes]) -> None:
        if self._at_start:
            self._at_start = False
            line = line.removeprefix(_BOM)
        if not line:
            self._dispatch(payloads)
        elif line.startswith(b"data:"):
            self._keep(line[6:] if line.startswith(b" ", 5) else line[5:])
        elif line == b"data":
            self._keep(b"")

    def _keep(self, value: bytes) -> None:
        self._data_bytes += len(value) + 1
        if self._data_bytes > self._max:
            raise EventTooLarge
        self._data.append(value)

    def _dispatch(self, payloads: list[bytes]) -> None:
        if self._data:
            payloads.append(b"\n".join(self._data))
            self._data.clear()
            self._data_bytes = 0
