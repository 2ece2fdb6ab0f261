"""A server for HTTP that says what a test tells it to."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

READY = (200, b'{"model_version_status": [{"version": "1", "state": "AVAILABLE"}]}')
LOADING = (200, b'{"model_version_status": [{"version": "1", "state": "LOADING"}]}')
BUSY = (503, b'{"error": "busy"}')

Answer = tuple[int, bytes] | None


def handler_for(answers: Sequence[Answer], requests: list[str]) -> type[BaseHTTPRequestHandler]:
    """Gives these answers in turn, and keeps the paths asked; None closes the connection without an answer."""
    waiting = list(answers)

    class Handler(BaseHTTPRequestHandler):
        def respond(self) -> None:
            requests.append(self.path)
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            answer = waiting.pop(0) if waiting else None
            if answer is None:
                return
            self.send_response(answer[0])
            self.send_header("Content-Length", str(len(answer[1])))
            self.end_headers()
            self.wfile.write(answer[1])

        do_GET = do_POST = respond

        def log_message(self, *_: object) -> None: ...

    return Handler


@contextmanager
def scripted(*answers: Answer) -> Iterator[tuple[str, list[str]]]:
    """Its address, and the paths asked so far."""
    requests: list[str] = []
    with HTTPServer(("127.0.0.1", 0), handler_for(answers, requests)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", requests
        finally:
            server.shutdown()
            thread.join()
