"""A web server on this machine for tests: a path answers what was put there.

loopback.files["/model.zip"] = archive.read_bytes()
loopback.redirects["/old.zip"] = loopback.url("/model.zip")
loopback.cut["/model.zip"] = 100          # the connection breaks after 100 bytes
loopback.unsized.add("/model.zip")        # its length is not told
stalled = loopback.stall("/model.zip")    # half of it, then nothing until released
stalled.reached.wait(); ...; stalled.release.set()
loopback.heads = True                     # HEAD is answered too
loopback.requests                         # what was asked for, in order
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Stall:
    """A file whose second half waits: `reached` is set when the first half is out."""

    reached: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)


class Loopback:
    """The server; a context manager."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.redirects: dict[str, str] = {}
        self.cut: dict[str, int] = {}
        self.unsized: set[str] = set()
        self.stalls: dict[str, Stall] = {}
        self.heads = False
        self.requests: list[str] = []
        loopback = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                loopback._answer(self)

            def do_HEAD(self) -> None:
                content = loopback.files.get(self.path.partition("?")[0])
                if content is None or not loopback.heads:
                    self.send_error(404 if loopback.heads else 501)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )

    def url(self, path: str = "") -> str:
        """Address of a path."""
        return f"http://127.0.0.1:{self._server.server_address[1]}{path}"

    def serve(self, folder: Path, prefix: str = "") -> str:
        """Serve the files of a folder; the address of its rdf.yaml."""
        for file in folder.rglob("*"):
            if file.is_file():
                self.files[f"{prefix}/{file.relative_to(folder).as_posix()}"] = file.read_bytes()
        return self.url(f"{prefix}/rdf.yaml")

    def stall(self, path: str) -> Stall:
        """Make a path stop halfway."""
        self.stalls[path] = Stall()
        return self.stalls[path]

    def __enter__(self) -> Loopback:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for stall in self.stalls.values():
            stall.release.set()
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path.partition("?")[0]
        self.requests.append(request.path)
        if path in self.redirects:
            request.send_response(302)
            request.send_header("Location", self.redirects[path])
            request.end_headers()
            return
        content = self.files.get(path)
        if content is None:
            request.send_error(404)
            return
        request.send_response(200)
        if path not in self.unsized:
            request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        try:
            if path in self.stalls:
                stall, half = self.stalls[path], len(content) // 2
                request.wfile.write(content[:half])
                request.wfile.flush()
                stall.reached.set()
                stall.release.wait(60)
                request.wfile.write(content[half:])
            else:
                request.wfile.write(content[: self.cut.get(path, len(content))])
        except (BrokenPipeError, ConnectionResetError):
            pass
