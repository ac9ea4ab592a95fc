"""Serve `_build/html` on this machine alone and open it in a browser."""

import argparse
import functools
import http.server
import sys
import webbrowser
from pathlib import Path

PAGES = Path(__file__).resolve().parent.parent / "_build" / "html"


def main() -> int:
    """Serve until interrupted; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8000, help="0: any free port")
    parser.add_argument("--no-browser", action="store_true", help="only serve")
    arguments = parser.parse_args()
    if not 0 <= arguments.port < 65536:
        parser.error(f"--port is {arguments.port}; allowed: 0 to 65535")
    if not (PAGES / "index.html").exists():
        print("serve: no built book; run `make book` first", file=sys.stderr)
        return 1
    handler = functools.partial(
        http.server.SimpleHTTPRequestHandler, directory=str(PAGES)
    )
    try:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", arguments.port), handler)
    except OSError:  # the port is taken: any other will do
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    address = f"http://127.0.0.1:{server.server_port}/"
    print(f"serve: the book is at {address} (stop with Ctrl-C)", flush=True)
    if not arguments.no_browser:
        webbrowser.open(address)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
