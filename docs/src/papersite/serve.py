"""`site --serve`: the built site on this machine, built again when a source changes, and reloaded by the browser."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

RELOAD = b"""<script>(function(){let old;setInterval(async()=>{try{const now=await(await fetch("/_version")).text();
if(old!==undefined&&now!==old)location.reload();old=now}catch{}},700)})()</script>"""
WATCHED = ("README*.md", "CONTRIBUTING*.md", "papers/*.toml", "packages/*/README*.md", "packages/*/figures/*",
           "packages/*/notebooks/*.ipynb", "packages/*/results/*.json", "docs/*.toml", "docs/pages/**/*",
           "docs/static/*", "docs/templates/*")  # fmt: skip


def stamp(root: Path) -> dict[Path, int]:
    """When each source was last changed."""
    return {path: path.stat().st_mtime_ns for pattern in WATCHED for path in root.glob(pattern) if path.is_file()}


class Handler(SimpleHTTPRequestHandler):
    """Files of the site; every page asks once in a while whether it was built again."""

    version: list[int]

    def do_GET(self) -> None:
        if self.path == "/_version":
            self._answer(str(self.version[0]).encode(), "text/plain")
            return
        path = Path(self.translate_path(self.path))
        path = path / "index.html" if path.is_dir() else path
        if path.suffix == ".html" and path.is_file():
            self._answer(path.read_bytes().replace(b"</body>", RELOAD + b"</body>"), "text/html; charset=utf-8")
        else:
            super().do_GET()

    def _answer(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # the build's own words are enough
        pass


def serve(html: Path, root: Path, port: int, build: Callable[[], object]) -> None:
    """Serve until Ctrl-C on 127.0.0.1. OSError where the port is taken."""
    version = [0]
    handler = type("Versioned", (Handler,), {"version": version})
    server = ThreadingHTTPServer(("127.0.0.1", port), partial(handler, directory=str(html)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_port}/ (stop with Ctrl-C)", flush=True)
    seen = stamp(root)
    try:
        while True:
            time.sleep(0.5)
            now = stamp(root)
            if now != seen:
                seen = now
                build()
                version[0] += 1
    except KeyboardInterrupt:
        print()
    finally:
        server.shutdown()
