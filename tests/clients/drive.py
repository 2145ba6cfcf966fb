"""Starts the real binary and the mock model server, and counts what passes.

Everything a suite starts ends with it, however it ends: by `with`, by a signal, or killed (the
system then kills the children, and a network's nodes end when their parent is gone).

Variables: `COCOON_BIN`, `COCOON_BENCH_BIN`, `COCOON_TINY_GGUF_BIN` name the programs when they are
not in `target/release`; `COCOON_CASE` runs only the cases whose titles hold it.
"""

import contextlib
import ctypes
import http.client
import json
import os
import queue
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import urllib.parse
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
COCOON = os.environ.get("COCOON_BIN", os.path.join(ROOT, "target/release/cocoon"))
BENCH = os.environ.get("COCOON_BENCH_BIN", os.path.join(ROOT, "target/release/cocoon-bench"))

# Machines that run suites are busy: waits are long, what is measured has limits of its own.
PATIENCE_S = 60
PR_SET_PDEATHSIG = 1
# Loaded once: a child between fork and exec must not load anything.
LIBC = ctypes.CDLL(None)

# Nodes are not to be looked into by others of the same user; root may, and these tests must.
if os.geteuid() != 0:
    os.environ.setdefault("COCOON_CORE_DUMPS", "true")


class Failed(Exception):
    """What a case shows to be wrong."""


def check(condition, *what):
    """Fails the case, with the values that show why."""
    if not condition:
        raise Failed(" ".join(str(part) for part in what))


def equal(got, wanted, what=""):
    check(got == wanted, f"{what}: got {got!r}, wanted {wanted!r}")


def until(condition, what, patience_s=PATIENCE_S, every_s=0.02):
    """Waits for a condition; returns its value and how long it took, seconds."""
    began = time.monotonic()
    while True:
        value = condition()
        took = time.monotonic() - began
        if value:
            return value, took
        check(took < patience_s, f"{what}: not after {patience_s} s")
        time.sleep(every_s)


class Suite:
    """Cases in their order, a line for each, and one closing line."""

    def __init__(self, name):
        self.name = name
        self.cases = []

    def case(self, title):
        def add(function):
            self.cases.append((title, function))
            return function

        return add

    def run(self, *given):
        wanted = os.environ.get("COCOON_CASE", "")
        passed, failed = 0, 0
        for title, function in self.cases:
            if wanted not in title:
                continue
            began = time.monotonic()
            try:
                note = function(*given)
            except Exception as fault:  # a case fails by any exception
                failed += 1
                place = ""
                if not isinstance(fault, Failed):
                    ours = [at for at in traceback.extract_tb(fault.__traceback__)
                            if at.filename.startswith(ROOT)]  # fmt: skip
                    place = f" ({type(fault).__name__}, {ours[-1].name}:{ours[-1].lineno})"
                print(f"FAIL {title}: {fault}{place}", flush=True)
            else:
                passed += 1
                more = f" [{note}]" if note else ""
                print(f"ok   {title}{more} ({time.monotonic() - began:.1f} s)", flush=True)
        print(f"{self.name}: {passed} passed, {failed} failed", flush=True)
        return 1 if failed or not passed else 0


def main(suite, body):
    """Runs `body(suite)` and ends the process with its exit code; signals end it in order."""

    def ask(*_):
        raise SystemExit(130)

    signal.signal(signal.SIGTERM, ask)
    signal.signal(signal.SIGHUP, ask)
    for program in (COCOON, BENCH):
        if not os.access(program, os.X_OK):
            sys.exit(f"{program} is missing: cargo build --release --workspace")
    try:
        sys.exit(body(suite))
    except KeyboardInterrupt:
        sys.exit(130)


def with_parent():
    """In a child: be killed when the driver is gone."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@contextlib.contextmanager
def scratch():
    path = tempfile.mkdtemp(prefix="cocoon-check-")
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


class Process:
    """A child whose standard output is JSON lines or of no interest."""

    def __init__(self, arguments, log, cwd=None):
        self.arguments = arguments
        self.log = log
        with open(log, "ab") as errors:
            self.child = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=cwd,
                start_new_session=True,
                preexec_fn=with_parent,
            )
        self.lines = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.child.stdout:
            self.lines.put(line.decode("utf-8", "replace"))
        self.lines.put(None)

    def line(self, patience_s=PATIENCE_S):
        """The next line of its output."""
        try:
            line = self.lines.get(timeout=patience_s)
        except queue.Empty:
            raise Failed(f"{self.arguments}: silent for {patience_s} s") from None
        if line is None:
            code = self.child.wait(5)
            raise Failed(f"{self.arguments} ended with {code}: {self.last_words()}")
        return line

    def last_words(self):
        with open(self.log, "rb") as log:
            return log.read().decode("utf-8", "replace")[-2000:]

    def signal(self, number):
        if self.child.poll() is None:
            self.child.send_signal(number)

    def wait(self, patience_s=PATIENCE_S):
        return self.child.wait(patience_s)

    def end(self):
        self.signal(signal.SIGTERM)
        try:
            self.wait(10)
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGKILL)
            self.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()


class Mock(Process):
    """The mock model server of the benchmarks."""

    def __init__(self, directory, *options):
        log = os.path.join(directory, "mock.log")
        super().__init__([BENCH, "mock", *options], log)
        self.address = json.loads(self.line())["listen"]
        self.url = f"http://{self.address}"

    def counts(self):
        return get_json(f"{self.url}/counts")


class Network(Process):
    """`cocoon up --json`; without a chain, as fast as it starts, unless `ground` says otherwise."""

    def __init__(self, directory, *options, ground=("--pseudo",)):
        self.directory = directory
        # Tokens of streams that ran when a case killed the proxy.
        self.unbooked = 0
        # Tokens of streams that ran when a case killed the gateway.
        self.unheard = 0
        data_dir = os.path.join(directory, "network")
        log = os.path.join(directory, "up.log")
        arguments = [COCOON, "up", "--json", "--port", "0", "--data-dir", data_dir]
        arguments += [*ground, *options]
        super().__init__(arguments, log)
        try:
            self.ready = self.event("ready", patience_s=150)
        except BaseException:
            self.end()
            raise
        self.endpoint = self.ready["endpoint"]
        self.pids = dict(self.ready["pids"])
        host = urllib.parse.urlsplit(self.endpoint)
        self.host, self.port = host.hostname, host.port
        self.model = self.ready["model"]

    def event(self, kind, node=None, patience_s=PATIENCE_S):
        """The next event of a kind; keeps process ids up to date."""
        deadline = time.monotonic() + patience_s
        while True:
            event = json.loads(self.line(max(0.1, deadline - time.monotonic())))
            if event["event"] == "restarted":
                self.pids[event["node"]] = event["pid"]
            if event["event"] == kind and node in (None, event.get("node")):
                return event

    def rest(self):
        """Kinds of the events that are left, after the end."""
        kinds = []
        while (line := self.lines.get(timeout=PATIENCE_S)) is not None:
            kinds.append(json.loads(line)["event"])
        return kinds

    def kill(self, node):
        """Kills a node without warning; returns when, in seconds."""
        now = time.monotonic()
        os.kill(self.pids[node], signal.SIGKILL)
        return now

    def restarted(self, node):
        return self.event("restarted", node)

    def books(self):
        """Adjusted tokens as proxy, client and workers know them."""
        proxy = get_json(self.ready["proxy_status"])
        gateway = get_json(f"http://{self.host}:{self.port}/jsonstats")
        workers = [get_json(url) for url in self.ready["worker_status"]]
        return {
            "proxy": sum(client["used_tokens"] for client in proxy["clients"]),
            "earned": sum(worker["earned_tokens"] for worker in proxy["workers"]),
            "reserved": sum(client["reserved_tokens"] for client in proxy["clients"]),
            "client": sum(entry["tokens_used_own_count"] for entry in gateway["proxies"]),
            "told": sum(entry["tokens_used_proxy_max"] for entry in gateway["proxies"]),
            "workers": sum(
                entry["earned_tokens_own_count"] for page in workers for entry in page["proxies"]
            ),
        }

    def request(self, body=None, path="/v1/chat/completions", method=None, headers=None, **more):
        """One request on a connection of its own."""
        with Connection(self.host, self.port, **more) as connection:
            return connection.request(body, path, method, headers)

    def ask(self, **members):
        """A small request, as a body."""
        hello = [{"role": "user", "content": "Hello"}]
        return {"model": self.model, "messages": hello, **members}


class Answer:
    def __init__(self, response, body, took_s):
        self.status = response.status
        self.headers = response.headers
        self.body = body
        self.took_s = took_s

    def json(self):
        return json.loads(self.body)

    def error(self):
        """The error object in OpenAI's form, with all its members."""
        error = self.json()["error"]
        for member in ("message", "type", "param", "code"):
            check(member in error, f"no {member} in {error}")
        check(len(error["message"]) > 10, "no sentence:", error)
        return error


class Connection:
    """One kept-alive HTTP connection."""

    def __init__(self, host, port, timeout_s=PATIENCE_S):
        self.inner = http.client.HTTPConnection(host, port, timeout=timeout_s)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.inner.close()

    def begin(self, body=None, path="/v1/chat/completions", method=None, headers=None):
        """Sends a request and returns the response with its body unread."""
        headers = dict(headers or {})
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
        if body is not None:
            headers.setdefault("content-type", "application/json")
        method = method or ("GET" if body is None else "POST")
        self.inner.request(method, path, body=body, headers=headers)
        return self.inner.getresponse()

    def request(self, *given):
        began = time.monotonic()
        response = self.begin(*given)
        return Answer(response, response.read(), time.monotonic() - began)


def events(response):
    """Server-sent events of a stream: (seconds since the first call, data)."""
    began = time.monotonic()
    for line in response:
        if line.startswith(b"data: "):
            yield time.monotonic() - began, line[6:].strip().decode()


def get_json(url):
    with urllib.request.urlopen(url, timeout=PATIENCE_S) as response:
        return json.load(response)


def free_ports(count):
    """Ports of loopback that nobody uses: below those that the system gives to outgoing
    connections, one of which could take a port while its node is down."""
    with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as span:
        end = int(span.read().split()[0])
    held = []
    with contextlib.ExitStack() as stack:
        while len(held) < count:
            port = random.SystemRandom().randrange(end // 2, end)
            try:
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
            except OSError:
                continue
            held.append(port)
    return held


def alive(pid):
    """Whether a process runs (one that only waits for its parent to take note does not)."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
