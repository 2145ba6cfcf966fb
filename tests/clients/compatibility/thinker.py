"""A mock model server whose model thinks before it answers, as the small real one does not.

Suites that ask for thoughts run against it, directly and through a network of its own.
"""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler

from studio import Server

# `llm-comply` knows by their names which models think: this one carries two of them.
MODEL = "mock-of-deepseek-r1-and-claude-4"
THOUGHTS = "15 times 37 is 15 times 30 and 15 times 7: 450 and 105."
TEXT = "It is 555."
USAGE = {"prompt_tokens": 20, "completion_tokens": 30, "total_tokens": 50,
         "prompt_tokens_details": {"cached_tokens": 0},
         "completion_tokens_details": {"reasoning_tokens": 24}}  # fmt: skip


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        model = {"id": MODEL, "object": "model", "created": 1, "owned_by": "mock",
                 "capabilities": ["chat"]}  # fmt: skip
        self.say({"object": "list", "data": [model]})

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.path.split("?")[0] != "/v1/chat/completions":
            self.say({"error": {"message": "This server only chats.", "type": "invalid_request_error",
                                "param": None, "code": None}}, 404)  # fmt: skip
        elif json.loads(body).get("stream"):
            self.stream()
        else:
            message = {"role": "assistant", "content": TEXT, "refusal": None, "annotations": [],
                       "reasoning_content": THOUGHTS}  # fmt: skip
            choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
            self.say({**self.head("chat.completion"), "choices": [choice], "usage": USAGE})

    def stream(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        head = self.head("chat.completion.chunk")
        for name, text in (("reasoning_content", THOUGHTS), ("content", TEXT)):
            for word in re.findall(r"\S+\s*", text):
                self.event({**head, "choices": [choice({name: word})]})
        self.event({**head, "choices": [choice({}, "stop")]})
        self.event({**head, "choices": [], "usage": USAGE})
        self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def head(self, kind):
        return {"id": "chatcmpl-thinker", "object": kind, "created": 1, "model": MODEL}

    def event(self, value):
        self.wfile.write(b"data: " + json.dumps(value).encode() + b"\n\n")

    def say(self, value, status=200):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def choice(delta, reason=None):
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}


class Thinker:
    """The server, on a free port of loopback."""

    def __init__(self):
        self.server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
