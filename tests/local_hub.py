"""A server on this machine that answers as the Hugging Face hub does, and fails as told."""

import contextlib
import hashlib
import http.server
import socket
import threading
from collections.abc import Iterator

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class LocalHub(http.server.ThreadingHTTPServer):
    """Serves `files`: hub files under `/OWNER/NAME/resolve/main/FILE`, anything else under its own path."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.requests: list[tuple[str, str, str | None]] = []
        """Method, path and `Range` of every request."""
        self.etag: str | None = None
        """Sent in place of the content's SHA-256."""
        self.error: tuple[int, str] | None = None
        """Status and `X-Error-Code` of every answer."""
        self.cuts: list[int] = []
        """After how many bytes the next downloads break off, one by one."""
        self.garbage = False
        """Answer with something that is not HTTP."""
        self.silent: frozenset[str] = frozenset()
        """The methods, `HEAD` and `GET`, that are heard and never answered."""
        self.trickle = False
        """Send what is downloaded byte by byte, ten a second."""
        self.closing = threading.Event()
        self.meeting: threading.Barrier | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def let_meet(self, count: int) -> None:
        """Hold the next requests back until there are `count` of them."""

        def part() -> None:
            self.meeting = None

        self.meeting = threading.Barrier(count, action=part, timeout=60)

    def add(self, repository: str, content: bytes) -> None:
        """Put `model.safetensors` into a repository."""
        self.files[f"/{repository}/resolve/main/model.safetensors"] = content

    def downloads(self) -> list[str | None]:
        """The `Range` of each download so far."""
        return [part for method, path, part in self.requests if method == "GET" and path in self.files]


class _Handler(http.server.BaseHTTPRequestHandler):
    server: LocalHub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *args: object) -> None:
        pass

    def _answer(self) -> None:
        hub = self.server
        part = self.headers.get("Range")
        hub.requests.append((self.command, self.path, part))
        self.close_connection = True
        if (meeting := hub.meeting) is not None:
            with contextlib.suppress(threading.BrokenBarrierError):
                meeting.wait()
        if self.command in hub.silent:
            hub.closing.wait(60)
            return
        if hub.garbage:
            self.wfile.write(b"not a status line\r\n\r\n")
            return
        content = hub.files.get(self.path)
        if hub.error is not None or content is None:
            status, code = hub.error or (404, "EntryNotFound")
            self._head(status, {"X-Error-Code": code, "Content-Length": "0"})
            return
        start = int(part.removeprefix("bytes=").split("-")[0]) if part else 0
        headers = {
            "ETag": f'"{hub.etag or hashlib.sha256(content).hexdigest()}"',
            "X-Repo-Commit": COMMIT,
            "Accept-Ranges": "bytes",
            "Content-Length": str(len(content) - start),
        }
        if part:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._head(206 if part else 200, headers)
        if self.command == "GET":
            body = content[start:]
            if hub.trickle:
                for number in range(len(body)):
                    if hub.closing.wait(0.1):
                        return
                    with contextlib.suppress(ConnectionError):
                        self.wfile.write(body[number : number + 1])
                return
            self.wfile.write(body[: hub.cuts.pop(0)] if hub.cuts else body)

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()


@contextlib.contextmanager
def serve() -> Iterator[LocalHub]:
    """A server in a thread of its own, until the block ends."""
    with LocalHub() as hub:
        thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield hub
        finally:
            hub.closing.set()
            hub.shutdown()
            thread.join()


def closed_url() -> str:
    """An address on this machine at which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"
