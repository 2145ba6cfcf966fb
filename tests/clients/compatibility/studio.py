"""A model server with eyes and ears in front of the embedded engine.

Chats go to the engine, with a limit on their length, and with a seed and, but for JSON, a temperature
of 0 unless they bring their own. A chat that names no limit of its own is ended after its first
sentence: a small model rambles, and a suite must not depend on when it stops, nor wait for it. What the
engine cannot do is answered here: pictures, sound, images. Those answers tell what arrived, so that a suite sees
whether every byte came through.
"""

import base64
import contextlib
import hashlib
import http.client
import io
import json
import re
import struct
import threading
import urllib.parse
import urllib.request
import wave
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKENS_MAX = 256
UNLIMITED = 1000  # whoever allows more does not care for the length
SENTENCE_ENDS = [".", "!", "?", "\n"]
CAPABILITIES = ["chat", "completions", "embeddings", "tools", "json_schema", "vision",
                "transcription", "speech", "image"]  # fmt: skip
HOP_BY_HOP = {"connection", "transfer-encoding", "content-length", "keep-alive", "host"}
# A red dot (PNG, RFC 2083), written by hand.
DOT = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
)


def digest(data):
    return hashlib.sha256(data).hexdigest()[:16]


def seen(data):
    """What is said of a picture or sound."""
    kinds = {b"\xff\xd8\xff": "jpeg", b"\x89PNG": "png", b"RIFF": "wav", b"GIF8": "gif"}
    kind = next((name for magic, name in kinds.items() if data.startswith(magic)), "unknown")
    return f"{kind} of {len(data)} bytes, {digest(data)}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        path = self.path.split("?")[0]
        with contextlib.closing(self.ask_engine("GET", self.path)) as engine:
            answer = engine.getresponse()
            body = answer.read()
        if path.startswith("/v1/models") and answer.status == 200:
            value = json.loads(body)
            for model in value.get("data", [value]):
                model["capabilities"] = CAPABILITIES
            body = json.dumps(value).encode()
        self.say(answer.status, body, answer.getheader("content-type", "application/json"))

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        path = self.path.split("?")[0]
        with self.server.lock:
            self.server.asked[path] = body
        try:
            if path == "/v1/audio/transcriptions":
                self.hear(body)
            elif path == "/v1/audio/speech":
                self.say(200, spoken(json.loads(body)["input"]), "audio/wav")
            elif path == "/v1/images/generations":
                self.say_json({"created": 1, "data": [{"b64_json": base64.b64encode(DOT).decode()}]})
            elif path == "/v1/chat/completions" and (pictures := pictures_of(body)):
                self.look(json.loads(body), pictures)
            else:
                self.forward(path, self.steadied(path, body))
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def steadied(self, path, body):
        """The request with a seed and a limit, unless it is none."""
        if path not in ("/v1/chat/completions", "/v1/completions"):
            return body
        try:
            value = json.loads(body)
            given = value.get("max_completion_tokens") or value.get("max_tokens") or UNLIMITED
            limit = min(given, TOKENS_MAX)
        except (ValueError, AttributeError, TypeError):
            return body
        value.pop("max_completion_tokens", None)
        value["max_tokens"] = limit
        value.setdefault("seed", 1)
        if not value.get("response_format"):
            # At 0 the model never ends a string of a free JSON object.
            value.setdefault("temperature", 0)
        shaped = any(value.get(name) for name in ("stop", "tools", "response_format", "n"))
        if given >= UNLIMITED and not shaped and path == "/v1/chat/completions":
            value["stop"] = SENTENCE_ENDS
        # Or the small model says the same for ever, inside a string of a schema too.
        value.setdefault("frequency_penalty", 0.4)
        return json.dumps(value).encode()

    def ask_engine(self, method, path, body=None):
        headers = {name: value for name, value in self.headers.items()
                   if name.lower() not in HOP_BY_HOP}  # fmt: skip
        engine = http.client.HTTPConnection(self.server.engine, timeout=300)
        engine.request(method, path, body=body, headers=headers)
        return engine

    def forward(self, path, body):
        with contextlib.closing(self.ask_engine("POST", path, body)) as engine:
            answer = engine.getresponse()
            kind = answer.getheader("content-type", "application/json")
            if not kind.startswith("text/event-stream"):
                self.say(answer.status, answer.read(), kind)
                return
            self.begin_stream()
            while part := answer.read1(65_536):
                self.chunk(part)
            self.chunk(b"")

    def hear(self, body):
        kind = self.headers.get("content-type", "")
        boundary = re.search(r'boundary="?([^";]+)', kind)
        sections = body.split(b"--" + boundary.group(1).encode()) if boundary else []
        fields = {}
        for section in sections:
            head, _, data = section.partition(b"\r\n\r\n")
            if name := re.search(rb'name="([^"]*)"', head):
                fields[name.group(1).decode()] = data.removesuffix(b"\r\n")
        text = f"I heard a {seen(fields.get('file', b''))}."
        form = fields.get("response_format", b"json").decode()
        if form == "text":
            self.say(200, text.encode(), "text/plain")
        else:
            self.say_json({"text": text, "usage": {"type": "tokens", "input_tokens": 4,
                           "output_tokens": 6, "total_tokens": 10}})  # fmt: skip

    def look(self, request, pictures):
        text = "I see a " + " and a ".join(seen(picture) for picture in pictures) + "."
        shared = {"id": "chatcmpl-eye", "created": 1, "model": request["model"]}
        usage = {"prompt_tokens": 100, "completion_tokens": 9, "total_tokens": 109}
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "logprobs": None, "finish_reason": "stop"}
        if not request.get("stream"):
            self.say_json({**shared, "object": "chat.completion", "usage": usage,
                           "choices": [{**choice, "message": message}]})  # fmt: skip
            return
        self.begin_stream()
        for word in re.findall(r"\S+\s*", text):
            delta = {"index": 0, "delta": {"content": word}, "logprobs": None, "finish_reason": None}
            self.event({**shared, "object": "chat.completion.chunk", "choices": [delta]})
        last = {**choice, "delta": {}}
        self.event({**shared, "object": "chat.completion.chunk", "choices": [last]})
        self.event({**shared, "object": "chat.completion.chunk", "choices": [], "usage": usage})
        self.chunk(b"data: [DONE]\n\n")
        self.chunk(b"")

    def event(self, value):
        self.chunk(b"data: " + json.dumps(value).encode() + b"\n\n")

    def begin_stream(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def chunk(self, part):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
        self.wfile.flush()

    def say_json(self, value):
        self.say(200, json.dumps(value).encode(), "application/json")

    def say(self, status, body, kind):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def pictures_of(body):
    """The bytes of every picture in a chat, fetched where they are given by address."""
    try:
        messages = json.loads(body)["messages"]
        parts = [part for message in messages if isinstance(message.get("content"), list)
                 for part in message["content"]]  # fmt: skip
        urls = [part["image_url"]["url"] for part in parts if part.get("type") == "image_url"]
    except (ValueError, KeyError, TypeError, AttributeError):
        return []
    return [picture(url) for url in urls]


def picture(url):
    """The bytes at an address; none where it is no address."""
    try:
        return fetched(url)
    except (ValueError, AttributeError, OSError):
        return b""


def fetched(url):
    if url.startswith("data:"):
        return base64.b64decode(url.partition(",")[2])
    host = urllib.parse.urlsplit(url).hostname
    if host != "127.0.0.1":
        return b""  # the suites run without the internet
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read()


def spoken(text):
    """A tone for each letter."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        for letter in text.encode():
            sound.writeframes(struct.pack("<h", letter * 100) * 80)
    return file.getvalue()


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_):
        """Users hang up; that is theirs to do."""


class Studio:
    """The server, on a free port of loopback."""

    def __init__(self, engine_url):
        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.engine = urllib.parse.urlsplit(engine_url).netloc
        self.server.lock = threading.Lock()
        self.server.asked = {}
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def last(self, path):
        """The last body that came to a path."""
        with self.server.lock:
            return self.server.asked.get(path)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
