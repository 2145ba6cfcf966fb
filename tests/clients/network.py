"""The network of the real binary in front of a mock model server: answers, refusals, deaths."""

import base64
import json
import os
import signal
import socket
import subprocess
import threading
import time

import openai

import drive
from backend import Backend
from drive import Connection, check, equal, events, until

suite = drive.Suite("network")
MIB = 1 << 20
EVENTS = 50
# What the mock claims for each answer: 10 tokens of prompt, one for each event.
TOKENS = 60
NO_ANSWER_S = 0.010
# What is promised on a machine with nothing else to do is printed. What fails is longer: the threads
# of a busy one stand still for seconds. Whoever waits for a timeout of ours takes longer still.
HANG_UP_S = 5.0
PROXY_BACK_S, PROXY_BACK_MAX_S = 1.5, 10.0
ENDING_S = 8.0


def client(net):
    return openai.OpenAI(base_url=net.endpoint, api_key="none", max_retries=0)


def text_of(chunks):
    return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)


@suite.case("the official Python client gets whole answers")
def whole(net, mock):
    with client(net) as user:
        raw = user.chat.completions.with_raw_response.create(**net.ask())
        answer = raw.parse()
        check(answer.choices[0].message.content, answer)
        equal(answer.usage.total_tokens, TOKENS, "usage")
        equal(raw.headers["x-cocoon-tokens-charged"], str(TOKENS), "charged")
        check(int(raw.headers["x-cocoon-cost-nanoton"]) > 0, raw.headers)
        equal([model.id for model in user.models.list()], [net.model], "models")
        equal(user.models.retrieve(net.model).id, net.model, "model")


@suite.case("answers name the image that the registry lists; unmet demands are refused")
def attested(net, mock):
    with open(os.path.join(net.directory, "network", "network.json"), encoding="utf-8") as file:
        listed = json.load(file)["worker_hashes"]
    answer = net.request(net.ask())
    named = base64.b64encode(bytes.fromhex(answer.headers["x-cocoon-worker"])).decode()
    equal([named], listed, "the worker's image")
    equal(answer.headers["x-cocoon-tee"], "simulated", "kind")
    kept = {"x-cocoon-tee": "simulated", "x-cocoon-verdicts": "image, freshness, gpu, worker.weights"}
    equal(net.request(net.ask(), headers=kept).status, 200, "demands that are met")
    before = mock.counts()["requests"]
    for wish in ({"x-cocoon-tee": "tdx"}, {"x-cocoon-verdicts": "site"}):
        equal(net.request(net.ask(), headers=wish).status, 400, wish)
    equal(mock.counts()["requests"], before, "requests at the model server")


@suite.case("cocoon verify passes, and every answer has a receipt that verifies")
def proven(net, mock):
    home = os.path.join(net.directory, "network")
    trust = ["--chain", "local", "--data-dir", home]

    def cocoon(*arguments):
        done = subprocess.run([drive.COCOON, *arguments, *trust], capture_output=True, timeout=60)
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    code, said, why = cocoon("verify")
    equal(code, 0, said + why)
    code, said, why = cocoon("verify", "--require", "site")
    equal(code, 1, said + why)
    answer = net.request(net.ask(), headers={"x-cocoon-receipt": "on"})
    equal(answer.status, 200, "demanded")
    code, said, why = cocoon("receipt", "verify", answer.headers["x-cocoon-receipt"])
    equal(code, 0, said + why)


@suite.case("a worker that runs another image is refused")
def impostor(net, mock):
    config = os.path.join(net.directory, "network", "config", "worker-1.toml")
    log = os.path.join(net.directory, "impostor.log")
    home = os.path.join(net.directory, "impostor")
    arguments = [drive.COCOON, "worker", "--config", config, "--data-dir", home]
    arguments += ["--set", "evidence.simulated.image=another", "--set", "http=127.0.0.1:0"]
    with drive.Process(arguments, log):

        def said():
            with open(log, encoding="utf-8") as file:
                return "invalid worker image hash" in file.read()

        until(said, "the proxy's refusal")


@suite.case("the official Python client gets streams, with usage when it asks for it")
def streams(net, mock):
    with client(net) as user:
        hidden = list(user.chat.completions.create(**net.ask(), stream=True))
        equal([c for c in hidden if c.usage], [], "usage that nobody asked for")
        equal(len(hidden), EVENTS, "events")
        options = {"include_usage": True}
        shown = list(user.chat.completions.create(**net.ask(), stream=True, stream_options=options))
        equal(shown[-1].usage.total_tokens, TOKENS, "usage")
        equal(text_of(shown), text_of(hidden), "texts")


@suite.case("events pass one by one, as they are made")
def paced(net, mock):
    with Connection(net.host, net.port) as connection:
        response = connection.begin(net.ask(stream=True, mock_gap_ms=200))
        times = [at for at, data in events(response) if data != "[DONE]"]
    equal(len(times), EVENTS, "events")
    check(times[0] < 0.5 * times[-1] and times[EVENTS // 2] < 0.8 * times[-1], times)
    return f"first {times[0] * 1000:.0f} ms, last {times[-1] * 1000:.0f} ms"


def bad_bodies(net):
    ask = net.ask
    nameless = ask()
    del nameless["model"]
    speechless = ask()
    del speechless["messages"]
    return [
        ("malformed", "not json", 400),
        ("half", '{"model":', 400),
        ("array", "[1,2]", 400),
        ("empty", "", 400),
        ("no model", nameless, 400),
        ("model is a number", ask(model=7), 400),
        ("no messages", speechless, 400),
        ("max_tokens 1.5", ask(max_tokens=1.5), 400),
        ("max_tokens -1", ask(max_tokens=-1), 400),
        ("max_tokens 2^32", ask(max_tokens=1 << 32), 400),
        ("timeout -1", ask(timeout=-1), 400),
        ("n", ask(n=100_000), 400),
        ("unknown model", ask(model="no-such-model"), 404),
    ]


def quickest(net, wanted, *request):
    """The best of some tries, for the machine is busy with other things, too."""
    with Connection(net.host, net.port) as connection:
        connection.request(None, "/v1/models")
        best = 1.0
        for _ in range(20):
            answer = connection.request(*request)
            equal(answer.status, wanted, request)
            best = min(best, answer.took_s)
            if best < NO_ANSWER_S:
                return answer, best
    raise drive.Failed(f"{request}: {best * 1000:.1f} ms at best")


@suite.case("bad bodies are refused in OpenAI's form within 10 ms, without the network")
def refused(net, mock):
    before, slowest = mock.counts()["requests"], 0
    for name, body, status in bad_bodies(net):
        answer, best = quickest(net, status, body)
        error = answer.error()
        equal(error["type"], "invalid_request_error", name)
        slowest = max(slowest, best)
    equal(mock.counts()["requests"], before, "requests that reached the model server")
    return f"slowest {slowest * 1000:.1f} ms"


@suite.case("unknown paths and wrong methods are told apart")
def strange(net, mock):
    chat, models = "/v1/chat/completions", "/v1/models"
    for method, path, status in [
        ("GET", chat, 405), ("DELETE", chat, 405), ("PUT", chat, 405), ("DELETE", models, 405),
        ("GET", "/nothing", 404), ("POST", "/v1/nothing", 404), ("GET", "/favicon.ico", 404),
        ("GET", "/v1/models/none", 404),
    ]:  # fmt: skip
        body = b"{}" if method in ("POST", "PUT") else None
        answer, _ = quickest(net, status, body, path, method)
        answer.error()
        equal("allow" in answer.headers, status == 405, f"{method} {path} Allow")
    page = net.request(None, chat, "OPTIONS", {"origin": "http://localhost:3000",
                                               "access-control-request-method": "POST"})
    check(page.status in (200, 204), page.status)
    check("POST" in page.headers.get("access-control-allow-methods", ""), page.headers)


@suite.case("no money and a low price cap are told")
def unaffordable(net, mock):
    for body, code in [
        (net.ask(max_tokens=2_000_000_000), "insufficient_balance"),
        (net.ask(max_coefficient=1), "price_cap_too_low"),
    ]:
        answer = net.request(body)
        equal((answer.status, answer.error()["code"]), (402, code), body)
        check(answer.took_s < 10, answer.took_s)


@suite.case("large bodies pass up to the limit and are refused above it")
def large(net, mock):
    for size, status in [(1, 200), (8, 200), (15, 200), (17, 413), (40, 413)]:
        body = net.ask()
        body["messages"][0]["content"] = "x" * (size * MIB)
        # The whole body could be prompt: what is reserved for it must fit the local deposit.
        body["max_coefficient"] = 1000
        # A refusal may come while the body is still on its way: ask before sending, as curl does.
        answer = expecting(net, json.dumps(body).encode())
        equal(answer, status, f"{size} MiB")


def expecting(net, body):
    """Sends a body after `100 Continue` only; returns the final status."""
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: {net.host}\r\nexpect: 100-continue\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection((net.host, net.port), timeout=drive.PATIENCE_S) as link:
        link.sendall(head.encode())
        answer = link.makefile("rb")
        status = int(answer.readline().split()[1])
        if status != 100:
            return status
        while answer.readline().strip():
            pass
        link.sendall(body)
        return int(answer.readline().split()[1])


@suite.case("a user who asks for it gets the connection closed")
def closes(net, mock):
    request = f"GET /v1/models HTTP/1.1\r\nhost: {net.host}\r\nconnection: close\r\n\r\n"
    with socket.create_connection((net.host, net.port), timeout=drive.PATIENCE_S) as link:
        link.sendall(request.encode())
        text = link.makefile("rb").read()  # ends when the gateway closes
    check(text.startswith(b"HTTP/1.1 200"), text[:100])


@suite.case("a model server that is too slow is a 504 in time, and is stopped")
def slow(net, mock):
    answer = net.request(net.ask(mock_fault="silent", timeout=1))
    equal((answer.status, answer.error()["code"]), (504, "timeout"), answer.body)
    check(0.5 < answer.took_s < 20, f"after {answer.took_s:.2f} s")
    until(lambda: mock.counts()["running"] == 0, "stopped at the model server")
    return f"{answer.took_s:.2f} s"


@suite.case("a model server's failures pass, or end in an error event")
def failures(net, mock):
    for fault, statuses in [("error", (500, 502)), ("busy", (503, 429))]:
        answer = net.request(net.ask(mock_fault=fault))
        check(answer.status in statuses, fault, answer.status, answer.body[:200])
        answer.error()
    refused = net.request(net.ask(mock_fault="no such fault"))
    equal(refused.status, 400, "its refusal passes")
    refused.error()
    with Connection(net.host, net.port) as connection:
        broken_end(connection.begin(net.ask(stream=True, mock_fault="die")))
    with Connection(net.host, net.port) as connection:
        began = time.monotonic()
        broken_end(connection.begin(net.ask(stream=True, mock_fault="stall", timeout=1)))
        check(time.monotonic() - began < 20, "a stalled stream ends by its timeout")


@suite.case("the official client sees a broken stream as an error")
def raised(net, mock):
    with client(net) as user:
        dying = {"mock_fault": "die"}
        stream = user.chat.completions.create(**net.ask(), stream=True, extra_body=dying)
        try:
            text = text_of(stream)
        except openai.APIError as fault:
            check("worker" in fault.message, fault.message)
        else:
            raise drive.Failed(f"it took {len(text)} bytes for an answer")


@suite.case("refusals and hang-ups leave no descriptor open")
def leaks(net, mock):
    def files():
        return len(os.listdir(f"/proc/{net.pids['gateway']}/fd"))

    before = files()
    for _ in range(100):
        net.request(None, "/favicon.ico")
        net.request("not json")
    for _ in range(20):
        with Connection(net.host, net.port) as connection:
            connection.begin(net.ask(stream=True, mock_fault="stall")).close()
    until(lambda: files() <= before + 2, f"as many as before, {before}", patience_s=10)
    until(lambda: mock.counts()["running"] == 0, "nothing runs", patience_s=10)


def broken_end(response):
    """Reads a stream that must end with an error event, not as a success; returns its events."""
    equal(response.status, 200, "status")
    try:
        data = [data for _, data in events(response)]
    except OSError as fault:
        raise drive.Failed(f"the connection broke without an error event: {fault}") from None
    errors = [json.loads(line)["error"] for line in data if '"error"' in line]
    check(errors and "message" in errors[0], "no error event at the end:", data[-2:])
    check("[DONE]" not in data, "the stream claims success")
    return data


@suite.case("a user who hangs up stops the model server at once")
def hang_up(net, mock):
    before = mock.counts()["cancelled"]
    with Connection(net.host, net.port) as connection:
        response = connection.begin(net.ask(stream=True, mock_gap_ms=200))
        next(events(response))
        response.close()
    began = time.monotonic()
    until(lambda: mock.counts()["cancelled"] > before, "cancelled", every_s=0.005)
    took = time.monotonic() - began
    check(took < HANG_UP_S, f"{took:.2f} s")
    return f"{took * 1000:.0f} ms"


@suite.case("both workers are used")
def both(net, mock):
    threads = [
        threading.Thread(target=net.request, args=(net.ask(stream=True, mock_gap_ms=10),))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    def queries():
        pages = [drive.get_json(url) for url in net.ready["worker_status"]]
        return [page["stats"]["queries"] for page in pages]

    until(lambda: min(queries()) > 0, "both have queries", patience_s=10)


def busy_worker(net):
    """Name of the worker that runs a query."""
    for number, url in enumerate(net.ready["worker_status"], 1):
        if drive.get_json(url)["stats"]["running"]:
            return f"worker-{number}"
    return None


@suite.case("a worker killed in mid-stream: error event, and the next request works at once")
def worker_dies(net, mock):
    with Connection(net.host, net.port) as connection:
        response = connection.begin(net.ask(stream=True, mock_gap_ms=150))
        stream = events(response)
        for _ in range(3):
            next(stream)
        name, _ = until(lambda: busy_worker(net), "a busy worker")
        killed = net.kill(name)
        broken_end(response)
        ended = time.monotonic() - killed
    check(ended < 5, f"the stream ended {ended:.2f} s after")
    answer = net.request(net.ask())
    equal(answer.status, 200, answer.body)
    check(answer.took_s < 5, f"next answer took {answer.took_s:.2f} s")
    net.restarted(name)
    until(lambda: workers_at_proxy(net) == 2, "the worker comes back")
    return f"ended after {ended * 1000:.0f} ms, next answer in {answer.took_s * 1000:.0f} ms"


def workers_at_proxy(net):
    return len(drive.get_json(net.ready["proxy_status"])["worker_connections"])


@suite.case("the books agree after the worker's death")
def books_before(net, mock):
    return f"{settled(net)['proxy']} tokens"


def made_since(mock, before):
    """Events that the model server has made, once it makes no more.

    It goes on until somebody notices a death; what it made is as much as anybody may count.
    """

    def counts_at_rest():
        counts = mock.counts()
        return counts["running"] == 0 and counts

    counts, _ = until(counts_at_rest, "nothing runs at the model server")
    return counts["events"] - before["events"]


@suite.case("a proxy killed in mid-stream: error event, and soon an answer")
def proxy_dies(net, mock):
    times = []
    # The best of three: what else the machine does at the moment is not the network's doing.
    while len(times) < 3 and min(times, default=9) > PROXY_BACK_S:
        until(lambda: workers_at_proxy(net) == 2, "both workers")
        before = mock.counts()
        with Connection(net.host, net.port) as connection:
            response = connection.begin(net.ask(stream=True, mock_gap_ms=150))
            stream = events(response)
            for _ in range(3):
                next(stream)
            killed = net.kill("proxy")
            broken_end(response)
        while (answer := net.request(net.ask())).status != 200:
            # 429: workers came back before their model server was asked.
            check(answer.status in (429, 502, 503), answer.status, answer.body)
            check(time.monotonic() - killed < 30, "no answer for 30 s", answer.body)
        times.append(time.monotonic() - killed)
        # Whole answers have no events.
        net.unbooked += made_since(mock, before)
        net.restarted("proxy")
    check(min(times) <= PROXY_BACK_MAX_S, "seconds to the next answer:", times)
    until(lambda: workers_at_proxy(net) == 2, "both workers come back")
    return f"{min(times):.2f} s, the best of {len(times)}"


@suite.case("a gateway killed before a keyed request is repeated: its answer again, paid once")
def gateway_dies(net, mock):
    keyed = lambda key: {"idempotency-key": key}  # noqa: E731
    first = net.request(net.ask(), headers=keyed("answered"))
    equal(first.status, 200, first.body)
    before = mock.counts()
    with Connection(net.host, net.port) as connection:
        response = connection.begin(net.ask(stream=True, mock_gap_ms=150), headers=keyed("cut"))
        stream = events(response)
        for _ in range(3):
            next(stream)
        net.kill("gateway")
    net.unheard += made_since(mock, before)
    net.restarted("gateway")
    counted = mock.counts()["requests"]

    def again():
        try:
            return net.request(net.ask(), headers=keyed("answered"))
        except OSError:
            return None  # it does not listen yet

    answer, _ = until(again, "the gateway comes back")
    equal((answer.status, answer.body), (200, first.body), "the same answer")
    cost = "x-cocoon-cost-nanoton"
    equal(answer.headers[cost], first.headers[cost], "what it cost")
    # What was cut off may have been paid: it is not run again either.
    refused = net.request(net.ask(stream=True, mock_gap_ms=150), headers=keyed("cut"))
    equal((refused.status, refused.error()["code"]), (409, "idempotency_conflict"), refused.body)
    equal(mock.counts()["requests"], counted, "requests at the model server")


def settled(net):
    """The books once all sides agree.

    A worker may count what it made for a proxy that was dead by then: nobody has booked that, and
    nobody is charged for it. A gateway that was killed pays for what had been made for it, and has
    it from the proxy only.
    """
    last = {}

    def agree():
        last.clear()
        last.update(net.books())
        sums = {last[name] for name in ("proxy", "earned", "told")}
        ahead = last["workers"] - last["proxy"]
        behind = last["proxy"] - last["client"]
        whole = last["reserved"] == 0 and len(sums) == 1
        return whole and 0 <= ahead <= net.unbooked and 0 <= behind <= net.unheard and last

    try:
        return until(agree, "the books agree", patience_s=20, every_s=0.2)[0]
    except drive.Failed as fault:
        raise drive.Failed(f"{fault}: {last}") from None


@suite.case("the books of client, proxy and workers agree after all that")
def books(net, mock):
    until(lambda: net.request(net.ask()).status == 200, "a last answer, with news of the books")
    with_all = settled(net)
    check(with_all["proxy"] >= 10 * TOKENS, with_all)
    return f"{with_all['proxy']} tokens"


def odd_requests(net, backend):
    odd = net.ask(tools=[{"type": "function", "function": {"name": "f", "parameters": {}}}],
                  seed=7, unheard_of={"deep": [1, None, "ü"]})  # fmt: skip
    answer = net.request(odd, headers={"authorization": "Bearer secret", "user-agent": "spy"})
    equal((answer.status, answer.json()["model"]), (200, "odd"), "an answer")
    headers, body = backend.seen()[-1]
    for member in ("tools", "seed", "unheard_of", "messages"):
        equal(body.get(member), odd[member], member)
    told = " ".join(f"{name}: {value}" for name, value in headers.items()).lower()
    check("secret" not in told and "spy" not in told, "the user's headers reach the worker:", told)
    long = net.request(net.ask(words=5000))
    equal(len(long.json()["choices"][0]["message"]["content"]), 20_000, "length of a long answer")
    refused = net.request(net.ask(mode="refuse"))
    equal((refused.status, refused.json()["error"]["message"]), (400, "the prompt is odd"), "")


@suite.case("on its own chain requests are paid with test coins, and a second start goes on")
def on_its_own_chain(net, mock):
    with drive.scratch() as directory, Backend() as backend:
        options = ["--engine", backend.url, "--workers", "1", "--price", "20000"]
        for total in (10, 20):
            with drive.Network(directory, *options, ground=()) as other:
                equal(other.ready["money"], "local test coins", "money")
                for _ in range(10):
                    equal(other.request(other.ask()).status, 200, "status")
                until(lambda: is_charged(other, total * 15), "a charge and a commit on chain")


def is_charged(net, tokens):
    stats = drive.get_json(net.ready["proxy_status"])
    (client,) = stats["clients"]
    equal(client["used_tokens"], tokens, "tokens in the proxy's books")
    return client["tokens_to_charge"] < tokens and stats["chain"]["contract_followed"]


@suite.case("an unusual model server: unknown members reach it, its answers come whole")
def odd(net, mock):
    with drive.scratch() as directory, Backend() as backend:
        with drive.Network(directory, "--engine", backend.url, "--workers", "1") as other:
            odd_requests(other, backend)


@suite.case("a worker that dies before its first byte is replaced without the user noticing")
def replaced(net, mock):
    with drive.scratch() as directory, Backend() as backend:
        with drive.Network(directory, "--engine", backend.url) as other:
            got = []
            held = other.ask(mode="held")
            user = threading.Thread(target=lambda: got.append(other.request(held)))
            user.start()
            until(lambda: backend.seen(), "a request at the model server")
            name, _ = until(lambda: busy_worker(other), "a busy worker")
            other.kill(name)
            user.join()
            equal(got[0].status, 200, got[0].body)
            equal(len(backend.seen()), 2, "requests at the model server")


@suite.case("a model server that sends JSON lines: events for the user, tokens booked")
def lines(net, mock):
    with drive.scratch() as directory, drive.Mock(directory, "--style", "json-lines") as old:
        with drive.Network(directory, "--engine", old.url, "--workers", "1") as other:
            with client(other) as user:
                chunks = list(user.chat.completions.create(**other.ask(), stream=True))
            equal(len([chunk for chunk in chunks if chunk.choices]), EVENTS, "events")
            equal(settled(other)["proxy"], TOKENS, "tokens")


@suite.case("without its model server the network says so, and recovers")
def away(net, mock):
    # It comes back to its port, which nobody may take meanwhile.
    [port] = drive.free_ports(1)
    address = f"127.0.0.1:{port}"
    with drive.scratch() as directory, drive.Mock(directory, "--listen", address) as gone:
        with drive.Network(directory, "--engine", gone.url, "--workers", "1") as other:
            gone.end()
            answer = other.request(other.ask())
            check(answer.status in (502, 503), answer.status, answer.body)
            answer.error()
            with drive.Mock(directory, "--listen", address):
                until(lambda: other.request(other.ask()).status == 200, "recovers", every_s=0.2)


@suite.case("a second start goes on with the books of the first")
def resumes(net, mock):
    before = settled(net)
    net.end()
    with drive.Network(net.directory, "--engine", mock.url) as again:
        again.unbooked, again.unheard = net.unbooked, net.unheard
        equal(again.books()["proxy"], before["proxy"], "tokens at the proxy")
        equal(again.request(again.ask()).status, 200, "an answer")
        equal(settled(again)["proxy"], before["proxy"] + TOKENS, "tokens")


def gone(pids):
    return not any(drive.alive(pid) for pid in pids)


@suite.case("Ctrl-C ends everything in order, and soon")
def ctrl_c(net, mock):
    net.end()
    with drive.Network(net.directory, "--engine", mock.url) as again:
        pids = [again.child.pid, *again.pids.values()]
        with Connection(again.host, again.port) as connection:
            response = connection.begin(again.ask(stream=True, mock_gap_ms=300))
            next(events(response))
            began = time.monotonic()
            os.killpg(again.child.pid, signal.SIGINT)  # as a terminal does
            equal(again.wait(30), 0, "exit code")
            took = time.monotonic() - began
        check(took < ENDING_S, f"{took:.2f} s")
        until(lambda: gone(pids), "no child is left", patience_s=5)
        equal(again.rest(), ["ending"], "nothing ends unasked, nothing is started again")
    return f"{took:.2f} s"


@suite.case("no child outlives a killed parent")
def orphans(net, mock):
    net.end()
    with drive.Network(net.directory, "--engine", mock.url) as again:
        pids = list(again.pids.values())
        again.signal(signal.SIGKILL)
        again.wait()
        _, took = until(lambda: gone(pids), "children are gone", patience_s=15)
    return f"{took:.2f} s"


def body(suite):
    with drive.scratch() as directory, drive.Mock(directory) as mock:
        with drive.Network(directory, "--engine", mock.url) as net:
            return suite.run(net, mock)


if __name__ == "__main__":
    drive.main(suite, body)
