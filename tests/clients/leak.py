"""Prompts, answers and keys are nowhere in clear outside the processes that must have them.

A network at log level trace carries canaries; then every file, log, page, process argument and
environment, and all bytes between the nodes are searched, as they are, in hex and in base64. What
must have them: the user's own HTTP, the model server, and the files that are keys.
"""

import base64
import json
import os
import secrets
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import drive
import fleet
from drive import check, equal, until

suite = drive.Suite("leak")
USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
# Files whose content is a key; they are the one place where it belongs.
KEY_FILES = ("node.key", "journal.key", "proxy.key", "tls.key", "secret", "key")
PAGES = ("/jsonstats", "/stats", "/metrics", "/health", "/ready", "/")


class Canaries:
    """What must not be found, by name."""

    def __init__(self):
        self.prompt = f"canary-prompt-{secrets.token_hex(12)}"
        self.answer = f"canary-answer-{secrets.token_hex(12)}"
        self.bearer = f"canary-bearer-{secrets.token_hex(12)}"
        self.secret = f"canary-secret-{secrets.token_hex(12)}"
        self.forms = {}
        for name in ("prompt", "answer", "bearer", "secret"):
            self.add(name, getattr(self, name).encode())

    def add(self, name, value):
        """All forms in which these bytes would still be readable."""
        forms = [value, value.hex().encode(), value.hex().upper().encode()]
        for shift in range(3):
            # base64 of it inside of something longer: the digits that do not depend on the rest.
            text = base64.b64encode(bytes(shift) + value)[-(-shift * 8 // 6) + 1 :].rstrip(b"=")[:-1]
            forms += [text, text.replace(b"+", b"-").replace(b"/", b"_")]
        self.forms[name] = list(dict.fromkeys(forms))

    def found_in(self, data):
        """Names of the canaries in these bytes."""
        return [name for name, forms in self.forms.items() if any(form in data for form in forms)]


class Model(BaseHTTPRequestHandler):
    """Answers with the canary, whole or as a stream, and remembers what it was asked."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.say(200, "application/json", json.dumps({"data": [{"id": "leaky"}]}).encode())

    def do_POST(self):
        raw = self.rfile.read(int(self.headers["content-length"]))
        self.server.seen.append(raw + str(self.headers).encode())
        body = json.loads(raw)
        text = f"{self.server.answer} " * 40
        if body.get("fail"):
            error = {"error": {"message": f"refused: {body['messages'][0]['content'][:200]}",
                               "type": "odd", "param": None, "code": None}}  # fmt: skip
            self.say(400, "application/json", json.dumps(error).encode())
        elif body.get("stream"):
            delta = {"choices": [{"index": 0, "delta": {"content": text}}]}
            usage = {"choices": [], "usage": USAGE}
            lines = [json.dumps(delta), json.dumps(usage), "[DONE]"]
            self.say(200, "text/event-stream", "".join(f"data: {line}\n\n" for line in lines).encode())
        else:
            choice = {"index": 0, "finish_reason": "stop",
                      "message": {"role": "assistant", "content": text}}  # fmt: skip
            self.say(200, "application/json", json.dumps({"choices": [choice], "usage": USAGE}).encode())

    def say(self, status, kind, body):
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Relay:
    """Passes TCP on to a target and keeps a copy of every byte."""

    def __init__(self, host, target):
        self.target, self.copies = target, []
        self.listener = socket.create_server((host, 0))
        self.place = f"{host}:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(self.target, timeout=10)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            for source, sink in ((near, far), (far, near)):
                copy = bytearray()
                self.copies.append(copy)
                threading.Thread(target=self._pass, args=(source, sink, copy), daemon=True).start()

    def _pass(self, source, sink, copy):
        try:
            while data := source.recv(1 << 16):
                copy += data
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def end(self):
        self.listener.close()


class Leaky(fleet.Fleet):
    """A network whose nodes meet through recording relays, in front of a model with a canary."""

    def __init__(self, directory, canaries):
        self.canaries = canaries
        super().__init__(directory)
        self.model_server = ThreadingHTTPServer((self.host, 0), Model)
        self.model_server.daemon_threads = True
        self.model_server.seen, self.model_server.answer = [], canaries.answer
        threading.Thread(target=self.model_server.serve_forever, daemon=True).start()
        self.relays = []
        places = []
        for proxy in self.proxies:
            pair = [Relay(self.host, (proxy.address, proxy.ports[port])) for port in ("workers", "clients")]
            self.relays += pair
            places.append([relay.place for relay in pair])
        self.register(places)
        self.secret_file = os.path.join(self.gateway.data_dir, "secret")
        with open(self.secret_file, "w", encoding="utf-8") as file:
            file.write(canaries.secret)
        for node in self.nodes:
            node.extra = ["--log", "trace"]

    def _worker(self, node):
        port = self.model_server.server_address[1]
        return {**super()._worker(node), "forward_to": f"http://{self.host}:{port}"}

    def _gateway(self, node):
        batches = os.path.join(node.data_dir, "batches")
        return {**super()._gateway(node), "network.secret_file": self.secret_file,
                "http.batches.folder": batches}  # fmt: skip

    def end(self):
        for relay in self.relays:
            relay.end()
        self.model_server.shutdown()
        super().end()

    def keys_on_disk(self):
        """The nodes' own keys become canaries, too."""
        for node in self.nodes:
            for name in sorted(os.listdir(node.data_dir)):
                if name.endswith(".key"):
                    with open(os.path.join(node.data_dir, name), encoding="ascii") as file:
                        self.canaries.add(f"{node.name} {name}", bytes.fromhex(file.read().strip()))


def requests(net, canaries):
    """Every way in which a prompt and an answer pass; returns the statuses."""
    prompt = f"{canaries.prompt} " * 40
    messages = [{"role": "user", "content": prompt}]
    bearer = {"authorization": f"Bearer {canaries.bearer}"}
    tool = {"type": "function", "function": {"name": "f", "description": prompt, "parameters": {}}}
    statuses = []
    for more in ({}, {"stream": True}, {"fail": True}, {"tools": [tool]}, {"user": canaries.prompt},
                 {"max_tokens": -1}, {"model": canaries.prompt}, {"timeout": 0.001}):  # fmt: skip
        body = {"model": net.model, "messages": messages, **more}
        with net.connect() as link:
            statuses.append(link.request(body, "/v1/chat/completions", None, bearer).status)
    for path, body in (
        ("/v1/completions", {"model": net.model, "prompt": prompt}),
        ("/v1/messages", {"model": net.model, "max_tokens": 9, "messages": messages}),
        ("/v1/responses", {"model": net.model, "input": prompt}),
        ("/v1/embeddings", {"model": net.model, "input": prompt}),
        (f"/v1/{canaries.prompt}", {"model": net.model}),
        ("/v1/chat/completions", f'{{"model": "{canaries.prompt}", "mess'),
    ):
        with net.connect() as link:
            statuses.append(link.request(body, path, None, bearer).status)
    return statuses


def batch(net, canaries):
    """A file of requests, which the gateway keeps on disk until it is answered."""
    line = json.dumps({"custom_id": "1", "method": "POST", "url": "/v1/chat/completions",
                       "body": net.ask(messages=[{"role": "user", "content": canaries.prompt}])})  # fmt: skip
    edge = "edge-of-parts"
    parts = [("purpose", None, "batch"), ("file", "lines.jsonl", line)]
    text = ""
    for name, file, content in parts:
        file = f'; filename="{file}"' if file else ""
        text += f'--{edge}\r\ncontent-disposition: form-data; name="{name}"{file}\r\n\r\n{content}\r\n'
    headers = {"content-type": f"multipart/form-data; boundary={edge}"}
    with net.connect() as link:
        kept = link.request(f"{text}--{edge}--\r\n", "/v1/files", "POST", headers)
        equal(kept.status, 200, kept.body)
        order = {"input_file_id": kept.json()["id"], "endpoint": "/v1/chat/completions",
                 "completion_window": "24h"}  # fmt: skip
        begun = link.request(order, "/v1/batches")
        equal(begun.status, 200, begun.body)
    name = begun.json()["id"]

    def done():
        with net.connect() as link:
            return link.request(None, f"/v1/batches/{name}").json()["status"] == "completed"

    until(done, "the batch is answered")


def files_of(directory):
    for place, _, names in os.walk(directory):
        for name in names:
            yield os.path.join(place, name)


def search_files(directory, canaries):
    """Where on disk a canary stands: (file, canary)."""
    found = []
    for path in files_of(directory):
        try:
            with open(path, "rb") as file:
                names = canaries.found_in(file.read())
        except OSError:
            continue
        if os.path.basename(path) in KEY_FILES:
            # A key may stand in its own file alone.
            names = [name for name in names if not path.endswith(name.rpartition(" ")[2])]
        found += [(path, name) for name in names]
    return found


def read(path):
    """What a file of /proc says. While a process takes on its program it cannot be read."""
    deadline = time.monotonic() + 5
    while True:
        try:
            with open(path, "rb") as file:
                return file.read()
        except ProcessLookupError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def search_processes(net, canaries):
    found = []
    for node in net.nodes:
        for part in ("cmdline", "environ"):
            names = canaries.found_in(read(f"/proc/{node.pid}/{part}"))
            found += [(f"{node.name} {part}", name) for name in names]
    return found


def search_pages(net, canaries):
    found = []
    for node in net.nodes:
        for page in PAGES:
            try:
                with urllib.request.urlopen(f"http://{node.at('http')}{page}", timeout=20) as answer:
                    data = answer.read()
            except urllib.error.HTTPError as refusal:
                data = refusal.read()
            found += [(f"{node.name} {page}", name) for name in canaries.found_in(data)]
    return found


def search_wire(net, canaries):
    copies = [copy for relay in net.relays for copy in relay.copies]
    return [("between nodes", name) for copy in copies for name in canaries.found_in(bytes(copy))]


@suite.case("the canaries pass through the network to the model server and back")
def pass_through(net, canaries):
    statuses = requests(net, canaries)
    equal(statuses[:4], [200, 200, 400, 200], "statuses")
    batch(net, canaries)
    seen = canaries.found_in(b"".join(net.model_server.seen))
    equal(seen, ["prompt"], "what the model server was sent")
    with net.connect() as link:
        answer = link.request(net.ask())
    equal(canaries.found_in(answer.body), ["answer"], "what the user gets")
    net.keys_on_disk()
    check(len(canaries.forms) >= 14, "keys on disk:", *canaries.forms)
    sent = sum(len(copy) for relay in net.relays for copy in relay.copies)
    check(sent > 50_000, f"{sent} bytes between the nodes were seen")
    return f"{sent} bytes between nodes, {len(canaries.forms)} canaries, statuses {statuses}"


@suite.case("no file, log or journal holds one")
def files(net, canaries):
    logs = b"".join(read(node.log) for node in net.nodes)
    check(b"DEBUG" in logs and b"worker ready" in logs, "the logs are not those of level trace")
    found = search_files(net.directory, canaries)
    check(not found, *found[:6])
    return f"{sum(1 for _ in files_of(net.directory))} files, {len(logs)} bytes of logs"


@suite.case("no page and no metric shows one")
def pages(net, canaries):
    check(not (found := search_pages(net, canaries)), *found)


@suite.case("no process argument and no environment holds one")
def processes(net, canaries):
    check(not (found := search_processes(net, canaries)), *found)


@suite.case("no byte between the nodes shows one")
def wire(net, canaries):
    check(not (found := search_wire(net, canaries)), *found)


@suite.case("no core dump can be written")
def dumps(net, canaries):
    if os.environ.get("COCOON_CORE_DUMPS"):
        return "left out: as another user than root the tests need to look into the nodes"
    for node in net.nodes:
        limits = read(f"/proc/{node.pid}/limits").decode()
        line = next(line for line in limits.splitlines() if line.startswith("Max core file size"))
        equal(line.split()[4:6], ["0", "0"], f"{node.name}: core limit")
        # Files of a process that must not be dumped belong to root.
        equal(os.stat(f"/proc/{node.pid}/environ").st_uid, 0, f"{node.name}: dumpable")


@suite.case("the journals and logs of nodes that were killed hold none either")
def after_kill(net, canaries):
    for node in net.nodes:
        node.kill()
    found = search_files(net.directory, canaries)
    check(not found, *found[:6])


@suite.case("the search finds a canary wherever one is planted")
def self_check(net, canaries):
    value = canaries.prompt.encode()
    for data in (value, value.hex().encode(), base64.b64encode(b"xy" + value + b"z"),
                 base64.b64encode(b"x" + value), base64.b64encode(value + b"12")):  # fmt: skip
        planted = os.path.join(net.gateway.data_dir, "planted")
        with open(planted, "wb") as file:
            file.write(b"before " + data + b" after")
        equal(search_files(net.directory, canaries), [(planted, "prompt")], data[:40])
        os.remove(planted)
    name = f"{net.proxies[0].name} journal.key"
    key = next(form for form in canaries.forms[name])
    planted = os.path.join(net.gateway.data_dir, "tls.key")
    with open(planted, "wb") as file:
        file.write(key)
    equal(search_files(net.directory, canaries), [(planted, name)], "a key in another key's file")
    with socket.create_server((net.host, 0)) as end:
        relay = Relay(net.host, end.getsockname())
        net.relays.append(relay)
        with socket.create_connection(relay.place.split(":"), timeout=5) as sender:
            sender.sendall(value)
            end.accept()[0].recv(100)
    until(lambda: search_wire(net, canaries) == [("between nodes", "prompt")], "seen on the wire")
    waiting = [sys.executable, "-c", "import time; time.sleep(60)", canaries.bearer]
    with drive.Process(waiting, net.gateway.log) as victim:
        net.gateway.child = victim.child
        found = [place for place, name in search_processes_of(net.gateway, canaries)]
        equal(found, ["gateway cmdline"], "an argument")


def search_processes_of(node, canaries):
    class One:
        nodes = [node]

    return search_processes(One, canaries)


def body(suite):
    canaries = Canaries()
    with drive.scratch() as directory, Leaky(directory, canaries) as net:
        net.start()
        return suite.run(net, canaries)


if __name__ == "__main__":
    fleet.enter_namespaces()
    drive.main(suite, body)
