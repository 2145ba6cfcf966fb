"""What goes wrong, when, and where: drawn from a seed, so that a bad round can be played again."""

import contextlib
import random
import socket
import threading
import time

import fleet

# Kinds that keep a node from talking or thinking, with the longest they last, seconds.
NODE_KINDS = {"kill": 1.5, "freeze": 5.0, "files": 2.0, "restart": 0.5}
APART_KINDS = {"cut": 5.0, "lossy": 4.0, "disk": 3.0}
CLOCK_KINDS = {"clock": 4.0}
CROWD_KINDS = {"flood": 1.5, "half_open": 3.0, "slow_readers": 3.0}
# What only a chain does to those who stand on it.
CHAIN_KINDS = {"stands_still": 5.0, "late_blocks": 5.0, "lost_messages": 3.0}
# What a relay does to the connections of a node, where there is one.
LINK_KINDS = {"slow_links": 4.0, "stalled_links": 4.0, "reset_links": 0.1, "half_open_links": 2.0}
# The mock is no part of the network, yet it can stand still.
MODEL_KINDS = {"model_stalls": 2.0}


class Misfortune:
    """One thing that goes wrong: starts, lasts, and is mended."""

    def __init__(self, at_s, kind, place, lasts_s, amount):
        self.at_s, self.kind, self.place = at_s, kind, place
        self.lasts_s, self.amount = lasts_s, amount

    def __str__(self):
        where = f" {self.place}" if self.place else ""
        return f"{self.at_s:.1f}s {self.kind}{where} {self.lasts_s:.1f}s"


def kinds(with_chain=False):
    """What can be done to a network on this machine."""
    able = {**NODE_KINDS, **CROWD_KINDS, **MODEL_KINDS, **LINK_KINDS}
    if with_chain:
        able.update(CHAIN_KINDS)
    if fleet.apart():
        able.update(APART_KINDS)
    if fleet.faketime():
        able.update(CLOCK_KINDS)
    return able


def missing():
    """What cannot be done here, and why."""
    why = []
    if not fleet.apart():
        why.append("no cut links, no full disks (needs root and iproute2)")
    elif not fleet.has_netem():
        why.append("no netem in this kernel: latency and loss come from a relay between the nodes")
    if not fleet.faketime():
        why.append("no clock steps (needs libfaketime)")
    return why


def plan(seed, number, names, length_s):
    """The misfortunes of one round; the first round of every run has none."""
    if number == 0:
        return []
    chance = random.Random(f"{seed}/{number}")
    able = kinds("chain" in names)
    # The hardest one is also the commonest.
    drawn = sorted(able) + ["kill"] * 3
    found = []
    for _ in range(chance.randint(1, 4)):
        kind = chance.choice(drawn)
        at_s = chance.uniform(0.2, length_s * 0.6)
        lasts_s = chance.uniform(0.1, able[kind])
        lasts_s = min(lasts_s, length_s - at_s)
        place = chance.choice(names)
        if kind in CROWD_KINDS:
            place = chance.choice([name for name in names if not name.startswith("worker")])
        if kind in CHAIN_KINDS:
            place = "chain"
        if kind == "clock" and place == "chain":
            # A chain has no clock of one machine.
            place = "gateway"
        if kind in ("slow_readers", "model_stalls"):
            place = None
        amount = chance.random()
        # Two things at one node at a time are one too many to say which of them did it.
        if place and any(other.place == place for other in found):
            continue
        found.append(Misfortune(at_s, kind, place, lasts_s, amount))
    return sorted(found, key=lambda each: each.at_s)


class Player:
    """Plays the misfortunes of a round, each on a thread of its own."""

    def __init__(self, net, misfortunes, slow_reader):
        self.net, self.slow_reader = net, slow_reader
        self.netem = fleet.apart() and fleet.has_netem()
        self.threads = [
            threading.Thread(target=self._play, args=(each,), daemon=True) for each in misfortunes
        ]
        self.faults = []

    def start(self):
        for thread in self.threads:
            thread.start()

    def join(self):
        for thread in self.threads:
            thread.join(60)

    def _play(self, each):
        time.sleep(each.at_s)
        node = next((node for node in self.net.nodes if node.name == each.place), None)
        try:
            getattr(self, f"_{each.kind}")(node, each)
        except Exception as fault:  # told at the end of the round
            self.faults.append(f"{each}: {fault!r}")

    def _kill(self, node, each):
        if node.runs():
            node.kill()
        time.sleep(each.lasts_s)
        node.start()

    def _restart(self, node, each):
        if not node.runs():
            return
        code = node.terminate(30)
        if code != 0:
            self.faults.append(f"{each}: exit code {code} after SIGTERM")
        time.sleep(each.lasts_s)
        node.start()

    def _freeze(self, node, each):
        node.freeze(True)
        time.sleep(each.lasts_s)
        node.freeze(False)

    def _model_stalls(self, _, each):
        self.net.mock.signal(fleet.signal.SIGSTOP)
        time.sleep(each.lasts_s)
        self.net.mock.signal(fleet.signal.SIGCONT)

    def _files(self, node, each):
        node.limit_files(int(each.amount * 4))
        time.sleep(each.lasts_s)
        node.limit_files(None)

    def _cut(self, node, each):
        node.cut(True)
        time.sleep(each.lasts_s)
        node.cut(False)

    def _lossy(self, node, each):
        if self.netem:
            delay = 5 + int(each.amount * 60)
            node.shape("netem", "delay", f"{delay}ms", f"{delay // 2}ms",
                       "loss", f"{1 + each.amount * 8:.1f}%")  # fmt: skip
            time.sleep(each.lasts_s)
            node.shape()
            return
        # A bucket so small that bursts overflow, and moments without a link.
        node.shape("tbf", "rate", f"{200 + int(each.amount * 2000)}kbit", "burst", "4kb",
                   "limit", "12kb")  # fmt: skip
        end = time.monotonic() + each.lasts_s
        while time.monotonic() < end:
            time.sleep(0.2)
            node.cut(True)
            time.sleep(0.02 + each.amount * 0.05)
            node.cut(False)
        node.shape()

    def _slow_links(self, _, each):
        """A long way, little bandwidth, and the stalls that lost packets are seen as."""
        weather = {"delay_ms": 5 + int(each.amount * 80), "jitter_ms": int(each.amount * 80),
                   "loss": 0.01 + each.amount * 0.05, "bytes_per_s": 20_000 + int(each.amount * 200_000)}  # fmt: skip
        self._weather(each, weather)

    def _stalled_links(self, _, each):
        self._weather(each, {"silent": True})

    def _weather(self, each, weather):
        relay, number = self.net.relay, id(each)
        for place in self._links_of(each):
            relay.orders("rule", id=f"{number} {place}", place=place, weather=weather)
        time.sleep(each.lasts_s)
        for place in self._links_of(each):
            relay.orders("lift", id=f"{number} {place}")

    def _reset_links(self, _, each):
        for place in self._links_of(each):
            self.net.relay.orders("reset", place=place)

    def _half_open_links(self, _, each):
        """One end of each connection is told; the other hears of it late, or has to find out."""
        for place in self._links_of(each):
            self.net.relay.orders("halve", place=place)
        time.sleep(each.lasts_s)
        if each.amount < 0.5:
            self._reset_links(None, each)

    def _links_of(self, each):
        """How the relay calls the links of a node; where all nodes share an address it knows callers
        only by what they call."""
        if fleet.apart() or each.place.startswith(("proxy", "chain")):
            return [each.place]
        return ["gateway"] if each.place == "gateway" else ["workers"]

    def _disk(self, node, each):
        node.fill_disk(True)
        time.sleep(each.lasts_s)
        node.fill_disk(False)

    def _clock(self, node, each):
        node.set_clock(int((each.amount - 0.5) * 4 * 3600))
        time.sleep(each.lasts_s)
        node.set_clock(0)

    def _stands_still(self, chain, each):
        self._trouble(chain, each, "standing_still=true", "standing_still=false")

    def _late_blocks(self, chain, each):
        self._trouble(chain, each, f"late_ms={500 + int(each.amount * 2500)}", "late_ms=0")

    def _lost_messages(self, chain, each):
        self._trouble(chain, each, f"lose_externals={1 + int(each.amount * 5)}", "lose_externals=0")

    def _trouble(self, chain, each, begin, end):
        chain.ask_inside(f"/control/trouble?{begin}")
        time.sleep(each.lasts_s)
        chain.ask_inside(f"/control/trouble?{end}")

    def _flood(self, node, each):
        with contextlib.ExitStack() as held:
            for number in range(300):
                for port in node.ports.values():
                    with contextlib.suppress(OSError):
                        link = socket.create_connection((node.address, port), timeout=0.5)
                        held.enter_context(link)
                        if number % 3 == 0:
                            link.sendall(random.Random(number).randbytes(200))
            time.sleep(each.lasts_s)

    def _half_open(self, node, each):
        with contextlib.ExitStack() as held:
            for number in range(40):
                for port in node.ports.values():
                    with contextlib.suppress(OSError):
                        link = socket.create_connection((node.address, port), timeout=0.5)
                        held.enter_context(link)
                        # The beginning of a request, of a proof of work, of a TLS hello.
                        link.sendall((b"POST /v1/chat/completions HTT", b"\x16\x03\x01", b"pow")[number % 3])
            time.sleep(each.lasts_s)

    def _slow_readers(self, _, each):
        readers = [
            threading.Thread(target=self.slow_reader, args=(each.lasts_s,), daemon=True)
            for _ in range(4)
        ]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(60)


def disturbs_delivery(misfortunes):
    """Whether a finished answer may have got lost on its way to the user: then it is charged."""
    def on_the_way(each):
        return each.place and (each.place == "gateway" or each.place.startswith("proxy"))

    return any(on_the_way(each) or each.kind == "slow_readers" for each in misfortunes)
