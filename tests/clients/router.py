"""A stand-in for the C++ node's router: what its two sides say to the nodes, without TLS between.

Towards a node that connects: SOCKS5 without a user, `CONNECT` to the proxy's public address, then
what is known of the peer. Towards the proxy's inner port: the same about the node. Written from
the protocol notes, wire 1.2 and 2.6.
"""

import socket
import struct
import threading


def tl_string(text):
    raw = bytes([len(text)]) + text
    return raw + bytes(-len(raw) % 4)


def peer_info(key, port):
    """A peer without evidence, in the older line's form, with its length before it."""
    ends = (tl_string(b"127.0.0.1") + struct.pack("<i", number) for number in (40_000, port))
    blob = bytes(4 + 48) + tl_string(key) + b"".join(ends)
    return struct.pack("<I", len(blob)) + blob


class Router:
    """`inner` maps a public port to the inner port behind it."""

    def __init__(self, inner):
        self.inner = inner
        self.passed = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                node, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(node,), daemon=True).start()

    def _serve(self, node):
        with node:
            try:
                self._connect(node)
            except OSError:
                pass  # a side that is gone; the node tries again

    def _connect(self, node):
        reader = node.makefile("rb", buffering=0)
        version, methods = reader.read(2)
        reader.read(methods)
        node.sendall(bytes([version, 0]))
        request = reader.read(10)
        if len(request) < 10 or request[:4] != b"\x05\x01\x00\x01":
            return
        port = struct.unpack(">H", request[8:])[0]
        with socket.create_connection(("127.0.0.1", self.inner[port])) as proxy:
            node.sendall(b"\x05\x00\x00\x01" + request[4:])
            node.sendall(peer_info(b"P" * 32, port))
            proxy.sendall(peer_info(b"N" * 32, port))
            self.passed += 1
            back = threading.Thread(target=pipe, args=(proxy, node), daemon=True)
            back.start()
            pipe(node, proxy)
            back.join()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()


def pipe(source, sink):
    try:
        while data := source.recv(65_536):
            sink.sendall(data)
    except OSError:
        pass
    finally:
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
