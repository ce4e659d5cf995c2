"""Serves the folder that it lies in, for browsers of this machine: `python serve.py`.

Python's standard library is enough. Browsers do not load modules from files, so a folder on a USB
stick needs a server, too. The headers below let WebAssembly use several threads.
"""

from __future__ import annotations

import argparse
import functools
import gzip
import http.server
import sys
import threading
import webbrowser
from pathlib import Path

FIRST_PORT, MOST_PORTS = 8877, 50
TYPES = {
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".json": "application/json",
    ".wasm": "application/wasm",
    ".onnx": "application/octet-stream",
}
COMPRESSED = (".html", ".css", ".js", ".mjs", ".json", ".wasm", ".onnx")


class Handler(http.server.SimpleHTTPRequestHandler):
    """Files with the right types and headers, compressed where the browser asks for it."""

    extensions_map = http.server.SimpleHTTPRequestHandler.extensions_map | TYPES

    def end_headers(self) -> None:
        """Isolate the page, or browsers do not let it share memory between threads."""
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        self.send_header("Cache-Control", "no-cache")  # ask again: a new build has the same names
        super().end_headers()

    def do_GET(self) -> None:
        """Send a file compressed if it is worth it; anything else as Python's own server does."""
        path = Path(self.translate_path(self.path))
        accepted = self.headers.get("Accept-Encoding", "")
        is_asked_again = "If-Modified-Since" in self.headers
        if path.suffix not in COMPRESSED or "gzip" not in accepted or is_asked_again:
            super().do_GET()
            return
        try:
            changed = path.stat().st_mtime
            content = compressed(path, changed)
        except OSError:
            self.send_error(404, "File not found")
            return
        self.send_response(200)
        self.send_header("Content-Type", self.guess_type(str(path)))
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Last-Modified", self.date_time_string(int(changed)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing of single files."""


@functools.lru_cache(maxsize=200)
def compressed(path: Path, changed: float) -> bytes:  # a new time is a new entry
    """The file's content for `Content-Encoding: gzip`."""
    return gzip.compress(path.read_bytes(), compresslevel=6)


def make_server(folder: Path, host: str, port: int | None) -> http.server.ThreadingHTTPServer:
    """A server of the folder, at the port or at the first free one.

    Raises:
        OSError: the port, or every port that was tried, is taken.
    """
    handler = functools.partial(Handler, directory=str(folder))
    ports = [port] if port is not None else [*range(FIRST_PORT, FIRST_PORT + MOST_PORTS), 0]
    for number in ports:
        try:
            return http.server.ThreadingHTTPServer((host, number), handler)
        except OSError:
            if number == ports[-1]:
                raise
    raise OSError("no free port on this machine")


def main(arguments: list[str] | None = None, *, folder: Path | None = None) -> int:
    """Serve until Ctrl+C; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--port", type=int, help=f"default: the first free one from {FIRST_PORT}")
    parser.add_argument(
        "--host", default="127.0.0.1", help="0.0.0.0 lets other machines of the network in"
    )
    parser.add_argument("--no-browser", action="store_true", help="only print the address")
    options = parser.parse_args(arguments)
    server = make_server(folder or Path(__file__).parent, options.host, options.port)
    name = "127.0.0.1" if options.host == "0.0.0.0" else options.host
    address = f"http://{name}:{server.server_address[1]}/"
    print(f"The playground is at {address} Ctrl+C stops it.", flush=True)
    if not options.no_browser:
        threading.Timer(0.3, webbrowser.open, [address]).start()
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print()
    finally:
        server.server_close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
