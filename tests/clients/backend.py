"""A model server that does what unusual ones do, and tells what reached it."""

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.say(200, {"object": "list", "data": [{"id": "odd", "object": "model"}]})

    def do_POST(self):
        raw = self.rfile.read(int(self.headers["content-length"]))
        body = json.loads(raw)
        # Looked at by the proxy and the workers too, which must not mind.
        mode = body.get("mode", "plain")
        with self.server.lock:
            self.server.seen.append((dict(self.headers), body))
            is_first = len(self.server.seen) == 1
        if mode == "held" and is_first:
            self.server.ends.wait()
        if mode == "refuse":
            refusal = {"message": "the prompt is odd", "type": "odd_error", "param": None}
            self.say(400, {"error": {**refusal, "code": "odd"}})
            return
        choice = {"index": 0, "finish_reason": "stop"}
        choice["message"] = {"role": "assistant", "content": "odd " * body.get("words", 1)}
        self.say(200, {"id": "1", "object": "chat.completion", "created": 1, "model": "odd",
                       "choices": [choice], "usage": USAGE})

    def say(self, status, value):
        # Capitalised names, as Go's net/http writes them.
        body = json.dumps(value, indent=3).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        # Whoever hung up meanwhile does not want it.
        with contextlib.suppress(OSError):
            self.end_headers()
            self.wfile.write(body)


class Backend:
    def __init__(self):
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.lock = threading.Lock()
        self.server.seen = []
        # Until then nobody answers the first request, if it asks to be held.
        self.server.ends = threading.Event()
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def seen(self):
        """(headers, body) of each request so far."""
        with self.server.lock:
            return list(self.server.seen)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.ends.set()
        self.server.shutdown()
        self.server.server_close()
