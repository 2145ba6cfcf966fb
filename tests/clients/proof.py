"""Evidence in files, the router, models by their bytes, the key manager."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import threading

import drive
from drive import check, equal, until

suite = drive.Suite("proof")
SALT = "00010203040506070809101a1b1c1d1e1f"
TAR = [
    "--sort=name", "--format=posix", "--pax-option=exthdr.name=%d/PaxHeaders/%f",
    "--pax-option=delete=atime,delete=ctime", "--clamp-mtime", "--mtime=@0", "--numeric-owner",
    "--owner=0", "--group=0", "--mode=go+u,go-w",
]  # fmt: skip


def cocoon(*arguments, code=0):
    done = subprocess.run(
        [drive.COCOON, *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    equal(done.returncode, code, f"{arguments}: {done.stdout}{done.stderr}")
    check("panicked" not in done.stderr, done.stderr)
    return done.stdout if code == 0 else done.stderr


def certificate(directory, name, image):
    base = os.path.join(directory, name)
    roots = os.path.join(directory, "roots.json")
    made = cocoon("gen-cert", base, "--tee", "simulated", "--roots", roots, "--image", image,
                  "--json")  # fmt: skip
    return base, json.loads(made)["image_hash"]


@suite.case("gen-cert and image-hash agree, and openssl reads what was made")
def files():
    with drive.scratch() as directory:
        base, made = certificate(directory, "tdx", "worker")
        read = json.loads(cocoon("image-hash", f"{base}_cert.pem", "--json"))
        equal(read["image_hash"], made, "image hash")
        equal([part["name"] for part in read["parts"]][0], "MRTD", "first part")
        with open(f"{base}_image_hash.b64", encoding="utf-8") as file:
            equal(file.read(), made, "file")
        equal(os.stat(f"{base}_key.pem").st_mode & 0o777, 0o600, "rights of the key")
        shown = subprocess.run(
            ["openssl", "x509", "-in", f"{base}_cert.pem", "-noout", "-subject", "-pubkey"],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        own = subprocess.run(
            ["openssl", "pkey", "-in", f"{base}_key.pem", "-pubout"],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        check(own in shown, "the certificate is of the key")
        said = cocoon("gen-cert", base, "--tee", "simulated", code=2)
        check("--force" in said, said)
        cocoon("image-hash", f"{base}_key.pem", code=2)
        zero = cocoon("image-hash", "--mrtd", "00" * 48, "--rtmr", ",".join(["00" * 48] * 4))
        check("XFXI9NtAELqSA9g1NtBgmFavjIR6wDnjfn3ej71XS2E=" in zero, zero)


@contextlib.contextmanager
def running(directory, name, *arguments):
    node = drive.Process([drive.COCOON, *arguments], os.path.join(directory, f"{name}.log"))
    try:
        yield node
    finally:
        node.signal(signal.SIGTERM)
        equal(node.wait(40), 0, f"{name}: {node.last_words()}")


def echo(listener):
    while True:
        try:
            peer, _ = listener.accept()
        except OSError:
            return
        with peer:
            while data := peer.recv(65_536):
                peer.sendall(data)


def through(socks, target, data):
    """What comes back through the router, or nothing when it lets nobody in."""
    with socket.create_connection(("127.0.0.1", socks), timeout=60) as tcp:
        tcp.sendall(b"\x05\x01\x00\x05\x01\x00\x01\x7f\x00\x00\x01" + target.to_bytes(2, "big"))
        got = b""
        while len(got) < 12 and (part := tcp.recv(12 - len(got))):
            got += part
        equal(got[:4], b"\x05\x00\x05\x00", "replies")
        with contextlib.suppress(OSError):
            tcp.sendall(data)
            tcp.shutdown(socket.SHUT_WR)
            got = b""
            while part := tcp.recv(65_536):
                got += part
            return got
        return b""


@suite.case("the router, by its command line and by the reference's file")
def router():
    with drive.scratch() as directory, socket.create_server(("127.0.0.1", 0)) as behind:
        threading.Thread(target=echo, args=(behind,), daemon=True).start()
        base, image = certificate(directory, "tdx", "proxy")
        image = json.loads(cocoon("image-hash", f"{base}_cert.pem", "--json"))["image_hash_hex"]
        roots = os.path.join(directory, "roots.json")
        simulated = ["--config", os.path.join(directory, "evidence.toml")]
        with open(simulated[1], "w", encoding="utf-8") as out:
            out.write(f'[evidence.simulated]\nroots = "{roots}"\nimage = "proxy"\nmachine = 1\n')
        inner, listed, other = drive.free_ports(3)
        file = os.path.join(directory, "router.json")
        to = behind.getsockname()[1]
        with open(file, "w", encoding="utf-8") as out:
            json.dump({
                "cert_base_name": base, "threads": 2,
                "policies": [{"name": "same", "type": "tdx",
                              "tdx_config": {"allowed_image_hashes": [image]}}],
                "ports": [{"port": inner, "type": "reverse", "policy_name": "same",
                           "destination_host": "127.0.0.1", "destination_port": to}],
            }, out)  # fmt: skip
        cocoon("router", "-c", file, "--check-config")
        outer = ["router", "-C", base, "-s", "false", "-S", f"{listed}@tdx:{image}",
                 "-S", f"{other}@tdx:{'ab' * 32}", *simulated]  # fmt: skip
        with running(directory, "inner", "router", "-c", file, "-d", "8", *simulated):
            with running(directory, "outer", *outer):
                for port in (inner, listed, other):
                    until(lambda port=port: listens(port), f"port {port}")
                data = os.urandom(300_000)
                equal(through(listed, inner, data), data, "what came back")
                equal(through(other, inner, data), b"", "an image that is not listed")
        for bad in (["-S", "80"], ["-P", "x:unknown", "-S", "8116"], ["-S", "8116@nobody"], []):
            cocoon("router", *bad, code=2)


def listens(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


@suite.case("a model's root is that of tar and veritysetup, and a changed byte is found")
def model():
    tool = shutil.which("veritysetup", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    with drive.scratch() as directory:
        top = os.path.join(directory, "model")
        os.makedirs(os.path.join(top, "tokenizer"))
        for name, size in (("config.json", 700), ("model.safetensors", 3_000_000)):
            with open(os.path.join(top, name), "wb") as file:
                file.write(os.urandom(size))
        with open(os.path.join(top, "tokenizer", "vocab.txt"), "w", encoding="utf-8") as file:
            file.write("a b c")
        image = os.path.join(directory, "model.tar")
        packed = json.loads(cocoon("model", "pack", top, image, "--json"))
        theirs = os.path.join(directory, "theirs.tar")
        subprocess.run(["tar", "-cf", theirs, "-C", top, *TAR, "."], check=True,
                       env={**os.environ, "LC_ALL": "C"})  # fmt: skip
        with open(theirs, "ab") as file:
            file.write(bytes(4096 - os.path.getsize(theirs) % 4096))
        with open(theirs, "rb") as one, open(image, "rb") as other:
            check(one.read() == other.read(), "another archive than tar's")
        subprocess.run([tool, "verify", image, f"{image}.verity", packed["root"]], check=True)
        name = f"mine@abc:{packed['root']}"
        equal(cocoon("model", "hash", top, "--name", "mine@abc").splitlines()[0], name, "name")
        cocoon("model", "verify", top, name)
        cocoon("model", "verify", image, packed["root"], "--image", "--tree", f"{image}.verity")
        with open(os.path.join(top, "config.json"), "r+b") as file:
            file.write(b"X")
        said = cocoon("model", "verify", top, name, code=1)
        check("has the root" in said and len(said.splitlines()) == 1, said)
        os.symlink("/etc/passwd", os.path.join(top, "link"))
        said = cocoon("model", "hash", top, code=2)
        check("symbolic link" in said, said)
        cocoon("model", "verify", top, "no root", code=2)


@suite.case("a key manager starts, shows no private key, and its trail can be checked")
def keys():
    with drive.scratch() as directory:
        network = os.path.join(directory, "network.json")
        with open(network, "w", encoding="utf-8") as file:
            json.dump({
                "@type": "rootConfig.pseudo", "version": 1, "params_version": 1,
                "root_owner_address": "UQAuz15H1ZHrZ_psVrAra7HealMIVeFq0wguqlmFno1f3B-m",
            }, file)  # fmt: skip
        reference = os.path.join(directory, "keys.json")
        data = os.path.join(directory, "data")
        http, rpc = drive.free_ports(2)
        with open(reference, "w", encoding="utf-8") as file:
            json.dump({
                "@type": "keyStorageRunner.config", "is_test": True, "add_default_key": "true",
                "rpc_port": rpc, "http_port": http, "db_path": data, "check_hashes": False,
            }, file)  # fmt: skip
        arguments = ["key-manager", "--reference-config", reference, "--network-file", network]
        cocoon(*arguments, "--check-config")
        with running(directory, "keys", *arguments):
            def shown():
                with contextlib.suppress(OSError, json.JSONDecodeError):
                    status = drive.get_json(f"http://127.0.0.1:{http}/jsonstats")
                    return status if status and len(status["keys"]) == 2 else None

            status, _ = until(shown, "two keys")
            public = {key["public_key"] for key in status["keys"]}
            check("+2fQ/NM48g4NSVfZ6CrcEB0uNROkSKOrRgUu4biMWBg=" in public, status)
        trail = os.path.join(data, "audit.log")
        said = cocoon("key-manager", "--check-audit", trail)
        check("2 lines" in said, said)
        with open(trail, "r+b") as file:
            file.write(b"{ ")
        cocoon("key-manager", "--check-audit", trail, code=1)
        cocoon("key-manager", "--check-config", code=2)


def body(cases):
    return cases.run()


if __name__ == "__main__":
    drive.main(suite, body)
