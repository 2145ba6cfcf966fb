"""Each role from the C++ node's own configuration and registry file, as they are."""

import base64
import json
import os
import signal
import socket
import subprocess
import threading
import tomllib

import openai

import drive
from drive import check, equal, until
from router import Router

suite = drive.Suite("reference_config")
OWNER = "UQAuz15H1ZHrZ_psVrAra7HealMIVeFq0wguqlmFno1f3B-m"
ROOT = "EQCns7bYSp0igFvS1wpb5wsZjCKCV19MD5AVzI4EyxsnU73k"
SECRET = "a word that nobody may print"
# Ports as the C++ launcher numbers them.
HTTP = {"gateway": 10_000, "proxy": 11_000, "worker": 12_000}
WORKERS_INNER, CLIENTS_INNER = 11_101, 11_102
WORKERS_PUBLIC, CLIENTS_PUBLIC = 11_001, 11_002


def free_ports(wanted):
    """The wanted ports where they are free, other free ones where not."""
    ports = []
    for port in wanted:
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            [port] = drive.free_ports(1)
        ports.append(port)
    return ports


def key(byte):
    return base64.b64encode(bytes([byte]) * 32).decode()


class Site:
    """The files of a network as the C++ launcher writes them."""

    def __init__(self, directory, mock, via):
        self.directory = directory
        wanted = [*HTTP.values(), WORKERS_INNER, CLIENTS_INNER, WORKERS_PUBLIC, CLIENTS_PUBLIC]
        ports = free_ports(wanted)
        self.http = dict(zip(HTTP, ports[:3], strict=True))
        self.inner, self.public = ports[3:5], ports[5:7]
        self.router = Router(dict(zip(self.public, self.inner, strict=True)))
        self.via = self.router.address if via else ""
        self.write("network.json", self.registry())
        self.write("proxy.json", self.proxy())
        self.write("worker.json", self.worker(mock))
        self.write("gateway.json", self.gateway())

    def common(self, role):
        return {
            "is_test": True, "is_testnet": False, "http_port": self.http[role],
            "owner_address": OWNER, "root_contract_address": ROOT,
            "ton_config_filename": "",
        }  # fmt: skip

    def proxy(self):
        # Numbers may be texts in this form.
        return {
            "@type": "proxyRunner.config", **self.common("proxy"),
            "workers_rpc_port": str(self.inner[0]), "client_rpc_port": self.inner[1],
            "machine_specific_private_key": key(1), "node_wallet_key": key(2),
            "db_path": os.path.join(self.directory, "db"), "check_worker_hashes": False,
        }  # fmt: skip

    def worker(self, mock):
        return {
            "@type": "workerRunner.config", **self.common("worker"), "rpc_port": 12_001,
            "node_wallet_key": key(3), "connect_to_proxy_via": self.via,
            "proxy_connections": 1, "check_proxy_hashes": False, "coefficient": 1000,
            "model_name": "mock@commit:verity", "forward_requests_to": mock.address,
            "max_active_requests": 1,
        }  # fmt: skip

    def gateway(self):
        return {
            "@type": "clientRunner.config", **self.common("gateway"), "rpc_port": 10_001,
            "node_wallet_key": key(4), "connect_to_proxy_via": self.via,
            "proxy_connections": "1", "check_proxy_hashes": False, "max_coefficient": 4000,
            "secret_string": SECRET,
        }  # fmt: skip

    def registry(self):
        address = "127.0.0.1:{} 127.0.0.1:{}".format(*self.public)
        return {
            "@type": "rootConfig.pseudo", "root_owner_address": OWNER,
            "proxy_hashes": [], "worker_hashes": [], "model_hashes": [],
            "registered_proxies": [
                {"@type": "rootConfig.registeredProxy", "seqno": 1, "address": address}
            ],
            "last_proxy_seqno": 1, "version": 1, "params_version": 1,
            "price_per_token": 20, "worker_fee_per_token": 10,
        }  # fmt: skip

    def write(self, name, value):
        with open(os.path.join(self.directory, name), "w", encoding="utf-8") as file:
            json.dump(value, file)

    def arguments(self, role, *more):
        place = lambda name: os.path.join(self.directory, name)  # noqa: E731
        where = [] if role == "proxy" else ["--data-dir", place(f"data-{role}")]
        return [
            drive.COCOON, role, "--reference-config", place(f"{role}.json"),
            "--disable-ton", place("network.json"), *where, *more,
        ]  # fmt: skip

    def start(self, role, *more):
        node = Node(self.arguments(role, *more), os.path.join(self.directory, f"{role}.log"))
        node.ready_url = f"http://127.0.0.1:{self.http[role]}/ready"
        return node


class Node(drive.Process):
    def wait_ready(self):
        def ready():
            check(self.child.poll() is None, "ended:", self.last_words())
            try:
                drive.get_json(self.ready_url)
            except json.JSONDecodeError:
                return True
            except OSError:
                return False
            return True

        try:
            until(ready, "ready", every_s=0.05)
        except drive.Failed as fault:
            raise drive.Failed(f"{fault}: {self.last_words()}") from None


def answers(place):
    """Asks through the gateway, whole and streamed."""
    base = f"http://127.0.0.1:{place.http['gateway']}"
    with openai.OpenAI(base_url=f"{base}/v1", api_key="none", max_retries=0) as user:
        hello = {"model": "mock", "messages": [{"role": "user", "content": "Hello"}]}
        answer = user.chat.completions.create(**hello)
        equal(answer.usage.total_tokens, 60, "usage")
        chunks = list(user.chat.completions.create(**hello, stream=True))
        equal(len([chunk for chunk in chunks if chunk.choices]), 50, "events")


@suite.case("configurations of the C++ node are usable, and printed as ours")
def usable(mock):
    with drive.scratch() as directory:
        place = Site(directory, mock, via=True)
        for role in ("proxy", "worker", "gateway"):
            done = run(place.arguments(role, "--check-config"))
            equal(done.returncode, 0, f"{role}: {done.stderr}")
            done = run(place.arguments(role, "--print-config"))
            equal(done.returncode, 0, f"{role}: {done.stderr}")
            check("network_file" in done.stdout, done.stdout)
            check(key(1) not in done.stdout and "AQEB" not in done.stdout, "a key is printed")
            check(SECRET not in done.stdout, "the secret is printed")
            # What was printed is a configuration, too.
            ours = os.path.join(directory, f"{role}.toml")
            with open(ours, "w", encoding="utf-8") as file:
                file.write(done.stdout)
            done = run([drive.COCOON, role, "--config", ours, "--check-config"])
            equal(done.returncode, 0, f"{role}, printed: {done.stderr}")


@suite.case("ton_config_filename chooses the chain, --disable-ton goes without")
def chain_of(mock):
    with drive.scratch() as directory:
        place = Site(directory, mock, via=True)
        named = os.path.join(directory, "global.config.json")
        for role in ("proxy", "worker", "gateway"):
            config = {"proxy": place.proxy(), "gateway": place.gateway()}
            config = config.get(role) or place.worker(mock)
            for changes, expected in (
                ({"ton_config_filename": named}, ("lite-servers", named)),
                ({}, ("mainnet", "")),
                ({"is_testnet": True}, ("testnet", "")),
            ):
                place.write(f"{role}.json", {**config, **changes})
                arguments = place.arguments(role, "--print-config")
                equal(chain_in(run(arguments)), ("none", expected[1]), f"{role}, without")
                at = arguments.index("--disable-ton")
                equal(chain_in(run(arguments[:at] + arguments[at + 2 :])), expected, role)


def chain_in(done):
    """The kind of chain and the global configuration that a printed configuration names."""
    equal(done.returncode, 0, done.stderr)
    config = tomllib.loads(done.stdout)
    chain = config.get("network", config)["chain"]
    return chain["kind"], chain["global_config"]


def run(arguments):
    return subprocess.run(
        arguments, capture_output=True, text=True, timeout=drive.PATIENCE_S, check=False
    )


@suite.case("bad configurations: exit code 2 and one sentence")
def unusable(mock):
    with drive.scratch() as directory:
        place = Site(directory, mock, via=True)
        good = place.proxy()
        bad = {
            "is no JSON": "{",
            "a port that is none": {**good, "client_rpc_port": 70_000},
            "an owner that is none": {**good, "owner_address": "nobody"},
            "a root that is none": {**good, "root_contract_address": ""},
            "a key that is none": {**good, "machine_specific_private_key": "AQEB"},
        }
        for what, value in bad.items():
            place.write("proxy.json", value)
            if value == "{":
                with open(os.path.join(directory, "proxy.json"), "w", encoding="utf-8") as file:
                    file.write(value)
            refused(place.arguments("proxy", "--check-config"), what)
        refused([drive.COCOON, "worker", "--config", "/no/such/file", "--check-config"], "no file")
        refused([drive.COCOON, "gateway", "--set", "http.lisen=1", "--check-config"], "no member",
                lines=3)
        refused([drive.COCOON, "proxy", "--no-such-flag"], "no flag", lines=9)


def refused(arguments, what, lines=1):
    done = run(arguments)
    equal(done.returncode, 2, f"{what}: {done.stdout}{done.stderr}")
    said = done.stderr.strip().splitlines()
    check(1 <= len(said) <= lines and len(done.stderr) > 20, f"{what}:", done.stderr)
    check("panicked" not in done.stderr, done.stderr)


def burst(place):
    """Four users at a worker that takes one request at a time: they wait, none is refused."""
    body = {"model": "mock", "stream": True, "mock_gap_ms": 5,
            "messages": [{"role": "user", "content": "Hello"}]}  # fmt: skip
    got = []

    def ask():
        with drive.Connection("127.0.0.1", place.http["gateway"]) as connection:
            got.append(connection.request(body))

    users = [threading.Thread(target=ask) for _ in range(4)]
    for user in users:
        user.start()
    for user in users:
        user.join()
    equal([answer.status for answer in got], [200] * 4, "statuses")
    check(all(answer.body.endswith(b"data: [DONE]\n\n") for answer in got), "whole streams")


def end_in_order(*nodes):
    for node in nodes:
        node.signal(signal.SIGTERM)
    for node in nodes:
        equal(node.wait(40), 0, f"exit code: {node.last_words()}")


@suite.case("gateway, proxy and worker behind a router, as the C++ launcher sets them up")
def behind_router(mock):
    with drive.scratch() as directory:
        place = Site(directory, mock, via=True)
        with place.router, place.start("proxy") as proxy, place.start("worker") as worker:
            with place.start("gateway") as gateway:
                for node in (proxy, worker, gateway):
                    node.wait_ready()
                answers(place)
                burst(place)
                equal(place.router.passed, 2, "connections through the router")
                end_in_order(gateway, worker, proxy)


@suite.case("the same without a router: TLS by the nodes themselves")
def without_router(mock):
    with drive.scratch() as directory:
        place = Site(directory, mock, via=False)
        listen = [
            "--set", "transport=direct", "--set", "work_bits=4",
            "--set", f"listen_workers=127.0.0.1:{place.public[0]}",
            "--set", f"listen_clients=127.0.0.1:{place.public[1]}",
        ]  # fmt: skip
        with place.start("proxy", *listen) as proxy, place.start("worker") as worker:
            with place.start("gateway") as gateway:
                for node in (proxy, worker, gateway):
                    node.wait_ready()
                answers(place)
                equal(place.router.passed, 0, "connections through the router")
                end_in_order(gateway, worker, proxy)


@suite.case("a gateway without a proxy refuses in time")
def alone(mock):
    with drive.scratch() as directory:
        place = Site(directory, mock, via=True)
        with place.router, place.start("gateway") as gateway:
            port = place.http["gateway"]
            page = f"http://127.0.0.1:{port}/jsonstats"
            until(lambda: reachable(page), f"listens: {gateway.last_words()}")
            with drive.Connection("127.0.0.1", port) as connection:
                body = {"model": "mock", "messages": [{"role": "user", "content": "Hello"}]}
                answer = connection.request(body)
            equal((answer.status, answer.error()["code"]), (503, "no_proxy"), answer.body)
            check("retry-after" in answer.headers, answer.headers)
            check(answer.took_s < 20, answer.took_s)
            return f"after {answer.took_s:.1f} s"


def reachable(url):
    try:
        return bool(drive.get_json(url))
    except OSError:
        return False


def body(suite):
    with drive.scratch() as directory, drive.Mock(directory) as mock:
        return suite.run(mock)


if __name__ == "__main__":
    drive.main(suite, body)
