"""A network whose nodes are started one by one, each where misfortune can find it.

Where the machine allows (root, or user namespaces), the whole suite runs in network and mount
namespaces of its own: every node has an address, a link that can be cut, and a small disk. The
system takes all of it down with the last process, however that ends.

`cocoon up` writes the keys and configurations; flags move the nodes to their places. With
`price` it also founds a chain, whose node is one of the fleet from then on.
"""

import concurrent.futures
import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time

import drive
import founding
import relay
from drive import Failed, check, until

INSIDE = "COCOON_FLEET_INSIDE"
DISK_MB = 24
# A chain keeps every block that it made.
CHAIN_DISK_MB = 256
# Thresholds of a settled fleet, nanoTON: low enough that all of it happens within minutes.
SETTLE_AT = 100_000_000
PAY_AT = 300_000_000
FAKETIME = [
    f"/usr/lib/{machine}-linux-gnu/faketime/libfaketimeMT.so.1" for machine in ("x86_64", "aarch64")
]


def enter_namespaces():
    """Starts this program again in namespaces of its own, if that is possible here."""
    if os.environ.get(INSIDE):
        return
    flags = ["--net", "--mount", "--propagation", "private"]
    if os.geteuid() != 0:
        flags += ["--user", "--map-root-user"]
    tried = subprocess.run(
        ["unshare", *flags, "sh", "-c", "ip link add name probe0 type veth peer name probe1 && mount -t tmpfs x /mnt"],
        stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False,
    ) if shutil.which("unshare") and shutil.which("ip") else None  # fmt: skip
    if tried is None or tried.returncode != 0:
        os.environ[INSIDE] = "no"
        return
    os.environ[INSIDE] = "yes"
    # The group ends with the starter: it would not hear of a kill otherwise.
    os.execvp("unshare", ["unshare", *flags, sys.executable, "-B", *sys.argv])


def apart():
    """Whether the nodes have links and disks of their own."""
    return os.environ.get(INSIDE) == "yes"


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    check(done.returncode == 0, " ".join(command), done.stderr)


def faketime():
    return next((path for path in FAKETIME if os.path.exists(path)), None)


def has_netem():
    """Whether the kernel can delay and lose packets by itself."""
    run("ip", "link", "add", "name", "probe0", "type", "veth", "peer", "name", "probe1")
    try:
        tried = subprocess.run(
            ["tc", "qdisc", "add", "dev", "probe0", "root", "netem", "delay", "1ms"],
            capture_output=True, check=False,
        )  # fmt: skip
        return tried.returncode == 0
    finally:
        run("ip", "link", "del", "probe0")


class Node:
    """One node: where it lives, how it is started, and what has been done to it."""

    def __init__(self, fleet, number, name, role, ports, settings):
        self.fleet, self.name, self.role = fleet, name, role
        self.log = os.path.join(fleet.directory, f"{name}.log")
        self.data_dir = os.path.join(fleet.directory, "data", name)
        os.makedirs(self.data_dir)
        self.clock = os.path.join(fleet.directory, f"{name}.clock")
        self.set_clock(0)
        self.link = None
        self.holder = None
        self.child = None
        self.kills = 0
        self.down_on_purpose = True
        if apart():
            self.address = f"10.77.0.{10 + number}"
            self.relayed = f"10.77.0.{110 + number}"
            run("ip", "addr", "add", f"{self.relayed}/24", "dev", "hub")
            self._make_place(number, CHAIN_DISK_MB if role == "chain" else DISK_MB)
        else:
            self.address = "127.0.0.1"
        self.ports = dict(zip(ports, fleet.free_ports(len(ports)), strict=True))
        self.settings = settings
        self.extra = []
        self.environment = {}

    def _make_place(self, number, disk_mb):
        run("mount", "-t", "tmpfs", "-o", f"size={disk_mb}m", "cocoon-node", self.data_dir)
        self.holder = subprocess.Popen(
            ["unshare", "--net", "sleep", "infinity"], preexec_fn=drive.with_parent
        )
        # The namespace is there once it differs from ours.
        own = os.readlink("/proc/self/ns/net")

        def made():
            with contextlib.suppress(OSError):
                return os.readlink(f"/proc/{self.holder.pid}/ns/net") != own

        until(made, "a network namespace")
        self.link = f"node{number}"
        run("ip", "link", "add", "name", self.link, "type", "veth", "peer", "name", "eth0",
            "netns", str(self.holder.pid))  # fmt: skip
        run("ip", "link", "set", self.link, "master", "hub", "up")
        for command in (
            ["ip", "link", "set", "lo", "up"],
            ["ip", "addr", "add", f"{self.address}/24", "dev", "eth0"],
            ["ip", "link", "set", "eth0", "up"],
        ):
            run(*self.inside(), *command)

    def inside(self):
        return ["nsenter", f"--net=/proc/{self.holder.pid}/ns/net"] if self.holder else []

    def at(self, port):
        return f"{self.address}:{self.ports[port]}"

    def _arguments(self):
        if self.role == "chain":
            # The switches of a chain answer to its own machine only.
            anywhere = "0.0.0.0" if apart() else self.address
            places = [f"{anywhere}:{self.ports[name]}" for name in ("http", "lite")]
            return ["--http", places[0], "--lite", places[1], "--data-dir", self.data_dir]
        config = os.path.join(self.fleet.network, "config", f"{self.fleet.config_of(self.name)}.toml")
        arguments = ["--config", config]
        for member, value in self.settings(self).items():
            arguments += ["--set", f"{member}={value}"]
        return arguments

    def start(self):
        arguments = [*self.inside(), drive.COCOON, self.role, *self._arguments()]
        arguments += ["--node-threads", "1", *self.extra]
        environment = dict(os.environ, **self.environment)
        library = faketime()
        if library and self.fleet.clocks:
            environment.update(
                LD_PRELOAD=library, FAKETIME_TIMESTAMP_FILE=self.clock, FAKETIME_NO_CACHE="1",
                FAKETIME_DONT_FAKE_MONOTONIC="1", DONT_FAKE_MONOTONIC="1",
            )  # fmt: skip
        # A child ends with the thread that made it, so one thread makes them all.
        self.child = self.fleet.starter.submit(self._spawn, arguments, environment).result()
        self.down_on_purpose = False

    def _spawn(self, arguments, environment):
        with open(self.log, "ab") as log:
            return subprocess.Popen(
                arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env=environment, preexec_fn=drive.with_parent,
            )  # fmt: skip

    @property
    def pid(self):
        return self.child.pid

    def runs(self):
        return self.child is not None and self.child.poll() is None

    def is_ready(self):
        try:
            if self.role == "chain":
                return drive.get_json(f"http://{self.at('http')}/api/v2/getMasterchainInfo")["ok"]
            drive.get_json(f"http://{self.at('http')}/jsonstats")
            with drive.urllib.request.urlopen(f"http://{self.at('http')}/ready", timeout=5) as page:
                return page.status == 200
        except OSError:
            return False

    def ask_inside(self, path, method="GET"):
        """What the node answers to its own machine; text."""
        script = ("import sys, urllib.request as u; "
                  "print(u.urlopen(u.Request(sys.argv[1], method=sys.argv[2])).read().decode())")  # fmt: skip
        url = f"http://127.0.0.1:{self.ports['http']}{path}"
        if self.role != "chain":
            url = f"http://{self.at('http')}{path}"
        done = subprocess.run([*self.inside(), sys.executable, "-c", script, url, method],
                              capture_output=True, text=True, check=False, timeout=60)  # fmt: skip
        check(done.returncode == 0, f"{method} {url}:", done.stderr[-300:])
        return done.stdout

    def kill(self):
        self.kills += 1
        self.down_on_purpose = True
        self.child.kill()
        self.child.wait()

    def freeze(self, stop):
        if self.runs():
            self.child.send_signal(signal.SIGSTOP if stop else signal.SIGCONT)

    def terminate(self, patience_s=20):
        """Ends the node in order; returns its exit code."""
        self.down_on_purpose = True
        self.child.send_signal(signal.SIGTERM)
        return self.child.wait(patience_s)

    def cut(self, down):
        run("ip", "link", "set", self.link, "down" if down else "up")

    def shape(self, *qdisc):
        """Puts a queueing discipline on both ends of the link; none takes it away."""
        places = [([], self.link), (self.inside(), "eth0")]
        for prefix, device in places:
            if qdisc:
                run(*prefix, "tc", "qdisc", "replace", "dev", device, "root", *qdisc)
            else:
                subprocess.run([*prefix, "tc", "qdisc", "del", "dev", device, "root"],
                               capture_output=True, check=False)  # fmt: skip

    def fill_disk(self, full):
        filler = os.path.join(self.data_dir, "filler")
        if not full:
            with contextlib.suppress(FileNotFoundError):
                os.remove(filler)
            return
        with open(filler, "wb") as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(1 << 16))
                file.flush()

    def limit_files(self, spare):
        """Leaves the process so many more descriptors; None lifts the limit."""
        if not self.runs():
            return
        _, hard = resource.prlimit(self.pid, resource.RLIMIT_NOFILE)
        soft = hard if spare is None else min(hard, self.files() + spare)
        resource.prlimit(self.pid, resource.RLIMIT_NOFILE, (soft, hard))

    def set_clock(self, offset_s):
        fresh = f"{self.clock}.new"
        with open(fresh, "w", encoding="ascii") as file:
            file.write(f"{offset_s:+d}s\n")
        os.replace(fresh, self.clock)

    def files(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def memory_mb(self):
        with open(f"/proc/{self.pid}/status", encoding="ascii") as status:
            line = next(line for line in status if line.startswith("VmRSS"))
        return int(line.split()[1]) / 1024


class Fleet:
    """Gateway, proxies, workers, and the mock model server behind them; with a `price` (nanoTON for
    a token) the chain below them, too; with a `seed` every connection between nodes passes a relay."""

    def __init__(self, directory, proxies=2, workers=2, clocks=False, mock=(), price=None, seed=None):
        self.directory, self.clocks, self.price = directory, clocks, price
        self.starter = concurrent.futures.ThreadPoolExecutor(1)
        self.network = os.path.join(directory, "network")
        self.host = "127.0.0.1"
        if apart():
            self.host = "10.77.0.1"
            run("ip", "link", "set", "lo", "up")
            run("ip", "link", "add", "name", "hub", "type", "bridge")
            run("ip", "addr", "add", f"{self.host}/24", "dev", "hub")
            run("ip", "link", "set", "hub", "up")
        self.mock = drive.Mock(directory, "--listen", f"{self.host}:0", *mock)
        self._write_configurations(workers)
        self.gateway = Node(self, 0, "gateway", "gateway", ["http"], self._gateway)
        self.proxies = [
            Node(self, 1 + at, f"proxy-{1 + at}", "proxy", ["workers", "clients", "http"], self._proxy)
            for at in range(proxies)
        ]
        self.workers = [
            Node(self, 50 + at, f"worker-{1 + at}", "worker", ["http"], self._worker)
            for at in range(workers)
        ]
        self.nodes = [*self.proxies, *self.workers, self.gateway]
        self.chain = None if price is None else Node(self, 5, "chain", "chain", ["http", "lite"], None)
        if self.chain:
            self.nodes.insert(0, self.chain)
        self.relay = relay.Relay(seed, os.path.join(directory, "relay.log"), drive.with_parent) if seed else None
        places = [(self.reached(proxy, "workers", "workers"), self.reached(proxy, "clients", "gateway"))
                  for proxy in self.proxies]  # fmt: skip
        self.chain_at = self.chain and self.reached(self.chain, "http", "everybody")
        if price is None:
            self.register(places)
        else:
            founding.found(self, places)

    def reached(self, node, port, by):
        """Where others reach a port of a node: by the relay, if there is one. Where all nodes share an
        address, callers are known only as those who use the port (`by`)."""
        if not self.relay:
            return node.at(port)
        names, sources = {}, {}
        if apart():
            # Through the relay everybody still comes from an address of an own.
            names = {other.address: other.name for other in self.nodes}
            sources = {other.name: other.relayed for other in self.nodes}
        answer = self.relay.orders("front", name=node.name, host=node.address, port=node.ports[port],
                                   listen=self.host, names=names, **{"from": sources, "else": by})  # fmt: skip
        return f"{self.host}:{answer['port']}"

    def _write_configurations(self, workers):
        options = ["--engine", self.mock.url, "--workers", str(workers)]
        ground = ("--pseudo",) if self.price is None else ("--price", str(self.price))
        with drive.Network(self.directory, *options, ground=ground) as up:
            self.model = up.model

    def register(self, places):
        """Names the proxies to clients and workers."""
        path = os.path.join(self.network, "network.json")
        with open(path, encoding="utf-8") as file:
            network = json.load(file)
        network["registered_proxies"] = [
            {"@type": "rootConfig.registeredProxy", "seqno": seqno, "address": " ".join(place)}
            for seqno, place in enumerate(places, 1)
        ]
        network["last_proxy_seqno"] = len(places)
        with open(path, "w", encoding="utf-8") as file:
            json.dump(network, file)

    def config_of(self, name):
        return "proxy" if name.startswith("proxy") else name

    def free_ports(self, count):
        if apart():
            return range(11_000, 11_000 + count)
        return drive.free_ports(count)

    def _on_chain(self, prefix=""):
        """Where the chain is, for a node."""
        return {f"{prefix}chain.url": f"http://{self.chain_at}"} if self.chain else {}

    def _gateway(self, node):
        money = {"network.money.deposit": founding.DEPOSIT} if self.chain else {}
        return {
            **self._on_chain("network."), **money,
            "http.listen": node.at("http"), "http.require_keys": "false",
            "http.behind_trusted_proxy": "true", "http.limits.drain_ms": "15000",
            # What is kept on purpose must not look like a leak.
            "network.receipts_max": 200,
            "network.data_dir": node.data_dir, "network.proxy_connections": len(self.proxies),
        }  # fmt: skip

    def _proxy(self, node):
        money = {}
        if self.chain:
            money = {"owner": self.owner, "charge_at": SETTLE_AT, "payout_at": 4 * PAY_AT,
                     "withdraw_at": 0}  # fmt: skip
        return {
            **self._on_chain(), **money,
            "listen_workers": node.at("workers"), "listen_clients": node.at("clients"),
            "http": node.at("http"), "data_dir": node.data_dir, "drain_s": "15",
            "commit_every_ms": "500",
            "evidence.simulated.machine": 1_000 + int(node.name.rpartition("-")[2]),
        }  # fmt: skip

    def _worker(self, node):
        money = {"money.payout_at": PAY_AT, "money.payout_last": 1} if self.chain else {}
        return {
            **self._on_chain(), **money,
            "http": node.at("http"), "data_dir": node.data_dir, "drain_s": "15",
            "forward_to": self.mock.url, "proxy_connections": len(self.proxies),
        }  # fmt: skip

    def start(self):
        for node in self.nodes:
            if not node.runs():
                node.start()
        self.ready()

    def ready(self, patience_s=60):
        """Waits until everybody serves and knows everybody."""
        for node in self.nodes:
            until(lambda node=node: self._starts(node), f"{node.name} is ready", patience_s)

        def has_workers(page):
            lines = page["worker_connections"]
            # One that has not seen its model server yet is there, and gets nothing.
            return len(lines) == len(self.workers) and all(line["enabled"] for line in lines)

        def connected():
            workers = all(has_workers(self.page(proxy)) for proxy in self.proxies)
            gateway = drive.get_json(f"http://{self.gateway.at('http')}/jsonstats")
            known = sum(1 for proxy in gateway["proxies"] if proxy.get("ready", True))
            return workers and known >= len(self.proxies)

        until(connected, "everybody is connected", patience_s)

    def _starts(self, node):
        if not node.runs():
            node.start()  # on a full disk it could not
            time.sleep(0.2)
        return node.is_ready()

    def page(self, node):
        return drive.get_json(f"http://{node.at('http')}/jsonstats")

    def books(self):
        """Adjusted tokens as proxies, client and workers know them."""
        proxies = [self.page(proxy) for proxy in self.proxies]
        gateway = self.page(self.gateway)
        workers = [self.page(worker) for worker in self.workers]

        def total(pages, part, member):
            return sum(entry[member] for page in pages for entry in page[part])

        return {
            "proxy": total(proxies, "clients", "used_tokens"),
            "earned": total(proxies, "workers", "earned_tokens"),
            "reserved": total(proxies, "clients", "reserved_tokens"),
            "client": total([gateway], "proxies", "tokens_used_own_count"),
            "told": total([gateway], "proxies", "tokens_used_proxy_max"),
            "workers": total(workers, "proxies", "earned_tokens_own_count"),
        }

    def connect(self, timeout_s=drive.PATIENCE_S):
        return drive.Connection(self.gateway.address, self.gateway.ports["http"], timeout_s)

    def ask(self, **members):
        hello = [{"role": "user", "content": "Hello"}]
        return {"model": self.model, "messages": hello, **members}

    def fallen(self):
        """Nodes that ended though nobody asked them to."""
        return [node.name for node in self.nodes if not node.down_on_purpose and not node.runs()]

    def end(self):
        for node in self.nodes:
            if node.runs():
                node.freeze(False)
                node.child.kill()
                node.child.wait()
            if node.holder:
                node.holder.kill()
                node.holder.wait()
            if apart():
                subprocess.run(["umount", "-l", node.data_dir], capture_output=True, check=False)
        self.mock.end()
        if self.relay:
            self.relay.end()
        if apart():
            subprocess.run(["ip", "link", "del", "hub"], capture_output=True, check=False)

    def last_words(self, lines=8):
        said = []
        for node in self.nodes:
            with open(node.log, "rb") as log:
                text = log.read()[-20_000:].decode("utf-8", "replace")
            said += [f"-- {node.name}", *text.splitlines()[-lines:]]
        return "\n".join(said)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()


__all__ = ["Failed", "Fleet", "Node", "apart", "enter_namespaces", "faketime", "has_netem"]
