"""SIGTERM at every node under load: what runs is finished, nothing is lost, the exit code is 0."""

import http.client
import json
import threading
import time

import drive
import fleet
from drive import check, equal, events, until

suite = drive.Suite("drain")
TOKENS = 60
USERS = 12


class Load:
    """Users who ask without a pause; every request has to be answered whole."""

    def __init__(self, net, gap_ms=5):
        self.net, self.gap_ms = net, gap_ms
        self.whole, self.lost = 0, []
        self.lock, self.stop = threading.Lock(), threading.Event()
        self.threads = [threading.Thread(target=self._live, daemon=True) for _ in range(USERS)]

    def _live(self):
        while not self.stop.is_set():
            fault = self._ask()
            with self.lock:
                if fault:
                    self.lost.append(fault)
                else:
                    self.whole += 1

    def _ask(self):
        try:
            with self.net.connect() as link:
                response = link.begin(self.net.ask(stream=True, mock_gap_ms=self.gap_ms))
                if response.status != 200:
                    return f"{response.status} {response.read()[:300]}"
                data = [line for _, line in events(response)]
        except OSError as fault:
            return repr(fault)
        return None if data[-1:] == ["[DONE]"] and len(data) == 51 else f"broken: {data[-2:]}"

    def answered(self, more):
        """Waits for so many whole answers more."""
        with self.lock:
            wanted = self.whole + more
        until(lambda: self.whole >= wanted or self.lost, f"{more} answers more")

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join(30)


def settled(net):
    last = {}

    def agree():
        last.clear()
        last.update(net.books())
        return last["reserved"] == 0 and len({*last.values()} - {0}) == 1 and dict(last)

    try:
        return until(agree, "the books agree", patience_s=20, every_s=0.2)[0]
    except drive.Failed as fault:
        raise drive.Failed(f"{fault}: {last}") from None


def restarted(net, node, load):
    """Ends a node by SIGTERM under load and starts it again."""
    began = time.monotonic()
    equal(node.terminate(), 0, f"exit code of {node.name}")
    took = time.monotonic() - began
    load.answered(USERS)
    node.start()
    net.ready()
    load.answered(USERS)
    return took


@suite.case("a rolling restart of two proxies under load loses no request")
def rolling_proxies(net):
    before = net.books()["proxy"]
    times = []
    with Load(net) as load:
        load.answered(2 * USERS)
        for _ in range(2):
            for proxy in net.proxies:
                times.append(restarted(net, proxy, load))
    check(not load.lost, f"{len(load.lost)} of {load.whole} lost:", *load.lost[:3])
    books = settled(net)
    equal(books["proxy"] - before, load.whole * TOKENS, "tokens booked")
    return f"{load.whole} answers, SIGTERM to exit {max(times):.2f} s at most"


@suite.case("a rolling restart of two workers under load loses no request")
def rolling_workers(net):
    before = net.books()["proxy"]
    with Load(net) as load:
        load.answered(2 * USERS)
        for worker in net.workers:
            restarted(net, worker, load)
    check(not load.lost, f"{len(load.lost)} of {load.whole} lost:", *load.lost[:3])
    equal(settled(net)["proxy"] - before, load.whole * TOKENS, "tokens booked")
    return f"{load.whole} answers"


def running_stream(net):
    """A stream of about two seconds, begun."""
    link = net.connect()
    response = link.begin(net.ask(stream=True, mock_gap_ms=40))
    stream = events(response)
    first = next(stream)
    return link, stream, first


def ends_whole(net, node):
    """A stream that runs through a node that is asked to end."""
    link, stream, _ = running_stream(net)
    codes = []
    ending = threading.Thread(target=lambda: codes.append(node.terminate()))
    ending.start()
    data = [line for _, line in stream]
    link.inner.close()
    ending.join(30)
    check(data[-1:] == ["[DONE]"] and len(data) == 50, f"{node.name}: {len(data)} {data[-1:]}")
    equal(codes, [0], f"exit code of {node.name}")


@suite.case("each node finishes the stream that runs through it, and exits 0")
def each_node(net):
    for node in [*net.workers, *net.proxies, net.gateway]:
        # Alone of its kind, so that the stream runs through it.
        others = [other for other in net.nodes if other.role == node.role and other is not node]
        for other in others:
            equal(other.terminate(), 0, other.name)
        until(lambda: served(net), "the way through it", every_s=0.1)
        ends_whole(net, node)
        for again in [*others, node]:
            again.start()
        net.ready()
    settled(net)


def served(net):
    with net.connect() as link:
        return link.request(net.ask()).status == 200


@suite.case("a gateway that ends takes nobody new")
def gateway_closes(net):
    link, stream, _ = running_stream(net)
    codes = []
    ending = threading.Thread(target=lambda: codes.append(net.gateway.terminate()))
    ending.start()

    def refused():
        try:
            with net.connect(2) as other:
                other.request(None, "/v1/models")
        except OSError:
            return True
        return False

    until(refused, "new connections are refused")
    data = [line for _, line in stream]
    link.inner.close()
    ending.join(30)
    equal((data[-1], codes), ("[DONE]", [0]), "the running stream, the exit code")
    net.gateway.start()
    net.ready()


class Newcomers:
    """Users who open a connection for every request, and tell how it ended."""

    def __init__(self, net, users=24):
        self.net, self.lock, self.stop = net, threading.Lock(), threading.Event()
        self.ends = {}
        self.threads = [threading.Thread(target=self._live, daemon=True) for _ in range(users)]

    def _live(self):
        while not self.stop.is_set():
            end = self._ask()
            with self.lock:
                self.ends[end] = self.ends.get(end, 0) + 1
            if end != "whole":
                self.stop.wait(0.002)

    def _ask(self):
        try:
            link = drive.Connection(self.net.gateway.address, self.net.gateway.ports["http"], 20)
            link.inner.connect()
        except ConnectionRefusedError:
            return "refused"
        except OSError as fault:
            return f"connecting: {fault!r}"
        try:
            with link:
                answer = link.request(self.net.ask(max_tokens=50))
        except (OSError, http.client.HTTPException) as fault:
            return f"lost: {fault!r}"
        return "whole" if answer.status == 200 else f"{answer.status} {answer.body[:200]}"

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join(30)


@suite.case("the only gateway ends under load: who came in is answered, who is late is refused")
def only_gateway(net):
    rounds = 4
    with Newcomers(net) as users:
        for _ in range(rounds):
            before = users.ends.get("whole", 0)
            until(lambda: users.ends.get("whole", 0) > before + 30, "answers", every_s=0.01)
            equal(net.gateway.terminate(), 0, "exit code")
            net.gateway.start()
            until(lambda: served_calmly(net), "answers again", every_s=0.1)
    lost = {end: count for end, count in users.ends.items() if end not in ("whole", "refused")}
    # The system lets in who comes between the gateway's last look and the end of the listener.
    check(sum(lost.values()) <= rounds, f"{rounds} restarts:", lost, users.ends)
    return str(users.ends)[:200]


def served_calmly(net):
    try:
        return served(net)
    except OSError:
        return False


@suite.case("nothing runs: no node waits for its drain to be over")
def idle(net):
    slowest = 0
    for node in net.nodes:
        began = time.monotonic()
        equal(node.terminate(), 0, node.name)
        slowest = max(slowest, time.monotonic() - began)
    # A drain is 15 s.
    check(slowest < 10, f"{slowest:.2f} s")
    for node in net.nodes:
        node.start()
    net.ready()
    equal(len({*json.loads(json.dumps(settled(net))).values()} - {0}), 1, "books after it")
    return f"slowest {slowest:.2f} s"


def body(suite):
    with drive.scratch() as directory, fleet.Fleet(directory) as net:
        net.start()
        return suite.run(net)


if __name__ == "__main__":
    fleet.enter_namespaces()
    drive.main(suite, body)
