"""A relay through which the nodes' connections pass: what a bad network does to TCP, without the
kernel's help.

    slow        delay, jitter, little bandwidth, and the stalls that lost packets are seen as
    stall       nothing moves, both sides keep their connection
    reset       both sides are told that the connection is gone
    half open   one side is told, the other is never told anything

As a program it takes orders as JSON lines and answers each with one; `Relay` is the hand that starts
it. What it does to which bytes is drawn from its seed.
"""

import asyncio
import contextlib
import json
import random
import socket
import struct
import subprocess
import sys
import threading

CHUNK = 16 << 10
# Chunks on their way in one direction; a sender that is ahead of them is not read.
HELD = 64
# A lost packet is sent again after this long, then after twice as long, and so on.
RESEND_S = 0.2
RESENDS_MAX = 4


class Link:
    """One connection between two nodes, in two halves."""

    def __init__(self, relay, front, source):
        self.relay, self.front, self.source = relay, front, source
        self.writers = []
        # Which side was told that the connection is gone, when only one was.
        self.told = None

    def is_at(self, place):
        return place in (self.front["name"], self.source)

    async def run(self, reader, writer):
        self.writers.append(writer)
        source = self.front["from"].get(self.source)
        try:
            far = await asyncio.open_connection(
                self.front["host"], self.front["port"], local_addr=(source, 0) if source else None
            )
        except OSError:
            return self.reset()
        self.writers.append(far[1])
        ways = [asyncio.create_task(self._way(0, reader, far[1])),
                asyncio.create_task(self._way(1, far[0], writer))]  # fmt: skip
        done, pending = await asyncio.wait(ways, return_when=asyncio.FIRST_EXCEPTION)
        for way in pending:
            way.cancel()
        if any(way.exception() for way in done):
            self.reset()
        for end in self.writers:
            end.close()

    async def _way(self, side, reader, writer):
        chunks = asyncio.Queue(HELD)
        sender = asyncio.create_task(self._deliver(chunks, writer))
        try:
            while data := await self._read(side, reader):
                self.relay.bytes += len(data)
                await chunks.put((self._due(), data))
            if self.told is not None:
                await self._ends_half(side)
            await chunks.put((self._due(), b""))
            await sender
        finally:
            sender.cancel()

    async def _read(self, side, reader):
        try:
            return await reader.read(CHUNK)
        except OSError:
            if self.told != side:
                raise
            return b""

    async def _ends_half(self, side):
        """The other end knows nothing of it until it gives up by itself."""
        if side == self.told:
            await asyncio.Event().wait()
        raise ConnectionResetError

    def _due(self):
        weather, chance = self.relay.weather(self), self.relay.chance
        jitter_s = weather["jitter_ms"] * chance.random() / 1000
        return asyncio.get_running_loop().time() + weather["delay_ms"] / 1000 + jitter_s

    async def _deliver(self, chunks, writer):
        clock = asyncio.get_running_loop().time
        while True:
            due, data = await chunks.get()
            if (early := due - clock()) > 0:
                await asyncio.sleep(early)
            while (weather := self.relay.weather(self))["silent"]:
                await asyncio.sleep(0.02)
            for attempt in range(RESENDS_MAX):
                if self.relay.chance.random() >= weather["loss"]:
                    break
                self.relay.lost += 1
                await asyncio.sleep(RESEND_S * 2**attempt)
            if weather["bytes_per_s"]:
                await asyncio.sleep(len(data) / weather["bytes_per_s"])
            if self.told is not None:
                continue
            if not data:
                if writer.can_write_eof():
                    writer.write_eof()
                return
            writer.write(data)
            await writer.drain()

    def reset(self):
        for writer in self.writers:
            abort(writer)

    def halve(self, chance):
        """Tells one side that the connection is gone, and the other one nothing."""
        if len(self.writers) == 2 and self.told is None:
            self.told = chance.randrange(2)
            abort(self.writers[self.told])


def abort(writer):
    """Ends a connection as a machine does that knows nothing of it."""
    end = writer.transport.get_extra_info("socket")
    with contextlib.suppress(OSError, AttributeError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Server:
    """Fronts, the links behind them, and the weather."""

    CALM = {"delay_ms": 0, "jitter_ms": 0, "loss": 0.0, "bytes_per_s": 0, "silent": False}

    def __init__(self, seed):
        self.chance = random.Random(seed)
        self.links, self.rules = set(), {}
        self.opened = self.bytes = self.lost = self.resets = self.halves = 0
        self.servers = []

    def weather(self, link):
        for place, rule in self.rules.values():
            if link.is_at(place):
                return rule
        return self.CALM

    def _at(self, place):
        return [link for link in self.links if link.is_at(place)]

    async def front(self, order):
        """Listens for one port of a node; `names` says who calls from where."""
        front = {"name": order["name"], "host": order["host"], "port": order["port"],
                 "from": order["from"]}  # fmt: skip

        async def take(reader, writer):
            caller = writer.transport.get_extra_info("peername")
            source = order["names"].get(caller[0] if caller else "", order["else"])
            link = Link(self, front, source)
            self.links.add(link)
            self.opened += 1
            try:
                await link.run(reader, writer)
            finally:
                self.links.discard(link)

        server = await asyncio.start_server(take, order["listen"], 0)
        self.servers.append(server)
        return {"port": server.sockets[0].getsockname()[1]}

    async def rule(self, order):
        self.rules[order["id"]] = (order["place"], {**self.CALM, **order["weather"]})

    async def lift(self, order):
        self.rules.pop(order["id"], None)

    async def reset(self, order):
        for link in self._at(order["place"]):
            self.resets += 1
            link.reset()

    async def halve(self, order):
        for link in self._at(order["place"]):
            self.halves += 1
            link.halve(self.chance)

    async def count(self, _):
        return {"links": self.opened, "bytes": self.bytes, "lost": self.lost, "resets": self.resets,
                "halves": self.halves}  # fmt: skip

    async def serve(self):
        orders = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
        while line := await orders.readline():
            order = json.loads(line)
            answer = await getattr(self, order["do"])(order)
            print(json.dumps(answer or {}), flush=True)


class Relay:
    """The hand of whoever starts a relay."""

    def __init__(self, seed, log, prepare=None):
        with open(log, "ab") as errors:
            self.child = subprocess.Popen(
                [sys.executable, "-B", __file__, str(seed)], stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=errors, text=True, preexec_fn=prepare,
            )  # fmt: skip
        self.lock = threading.Lock()

    def orders(self, what, **order):
        with self.lock:
            self.child.stdin.write(json.dumps({"do": what, **order}) + "\n")
            self.child.stdin.flush()
            return json.loads(self.child.stdout.readline())

    def end(self):
        self.child.kill()
        self.child.wait()


if __name__ == "__main__":
    asyncio.run(Server(sys.argv[1]).serve())
