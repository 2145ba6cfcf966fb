"""A gateway on another address than loopback: keys and TLS are required, and every limit holds.

A second gateway beside the network's own, from the same configuration with another wallet.
"""

import contextlib
import http.client
import json
import os
import ssl
import subprocess
import urllib.error
import urllib.request

import openai

import drive
from drive import check, equal, until

suite = drive.Suite("keys")
HELLO = [{"role": "user", "content": "Hello"}]


class Place:
    """Files of the second gateway."""

    def __init__(self, net):
        self.net = net
        self.data_dir = os.path.join(net.directory, "second")
        self.config = os.path.join(net.directory, "network", "config", "gateway.toml")
        self.log = os.path.join(net.directory, "second.log")
        self.keys_file = os.path.join(self.data_dir, "api-keys.json")
        self.certificate = os.path.join(net.directory, "certificate.pem")
        self.private_key = os.path.join(net.directory, "private.pem")
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
             "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
             "subjectAltName=IP:127.0.0.1,DNS:localhost", "-keyout", self.private_key,
             "-out", self.certificate],
            check=True, capture_output=True)  # fmt: skip
        # One after the other, gateways come back to it.
        [self.port] = drive.free_ports(1)

    def settings(self, *more):
        shared = [f"http.listen=0.0.0.0:{self.port}", "network.wallet=0:" + "7" * 64]
        flags = [flag for setting in [*shared, *more] for flag in ("--set", setting)]
        return ["--config", self.config, "--data-dir", self.data_dir, *flags]

    def tls(self):
        return (f"http.tls.certificates={self.certificate}", f"http.tls.private_key={self.private_key}")

    @contextlib.contextmanager
    def gateway(self, *settings, scheme="https"):
        arguments = [drive.COCOON, "gateway", *self.settings(*settings)]
        with drive.Process(arguments, self.log) as process:
            context = ssl.create_default_context(cafile=self.certificate)
            url = f"{scheme}://127.0.0.1:{self.port}"
            more = {"context": context} if scheme == "https" else {}

            def ready():
                check(process.child.poll() is None, process.last_words())
                try:
                    return urllib.request.urlopen(f"{url}/ready", timeout=5, **more).status == 200
                except OSError:
                    return False

            until(ready, "the second gateway")
            yield url

    def keys(self, *arguments, wanted=0):
        """`cocoon gateway keys`, as JSON."""
        done = subprocess.run(
            [drive.COCOON, "gateway", "keys", *arguments, "--keys-file", self.keys_file, "--json"],
            capture_output=True, text=True, check=False)  # fmt: skip
        equal(done.returncode, wanted, f"{arguments}: {done.stderr}")
        return json.loads(done.stdout) if wanted == 0 else done.stderr

    def user(self, url, key):
        import httpx2

        context = ssl.create_default_context(cafile=self.certificate)
        inner = httpx2.Client(verify=context) if url.startswith("https") else None
        return openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, http_client=inner)

    def status(self, url, key):
        """The status and code of one small request."""
        try:
            with self.user(url, key) as user:
                user.chat.completions.create(model=self.net.model, messages=HELLO, max_tokens=4)
        except openai.APIStatusError as refusal:
            retry = refusal.response.headers.get("retry-after")
            check(refusal.status_code != 429 or int(retry) >= 1, "no Retry-After")
            return refusal.status_code, refusal.code
        return 200, None


@suite.case("on another address than loopback, plain HTTP is refused before anything starts")
def plain(place):
    for check_only in (["--check-config"], []):
        done = subprocess.run(
            [drive.COCOON, "gateway", *place.settings(), *check_only],
            capture_output=True, text=True, check=False, timeout=60)  # fmt: skip
        equal(done.returncode, 2, done.stderr)
        check("TLS is required" in done.stderr, done.stderr)


@suite.case("with a certificate, keys are required; they live, count, and die while it runs")
def life(place):
    with place.gateway(*place.tls()) as url:
        equal(place.status(url, "none"), (401, "invalid_api_key"), "without a key")
        made = place.keys("create", "team a")
        key, name = made["key"], made["id"]
        until(lambda: place.status(url, key)[0] == 200, "the key is accepted", every_s=0.2)
        with open(place.keys_file, encoding="utf-8") as file:
            check(key not in file.read(), "the key is on disk")
        check(oct(os.stat(place.keys_file).st_mode).endswith("600"), "others may read the keys")
        used = lambda: place.keys("usage", name)[0]["usage"]  # noqa: E731
        until(lambda: used()["requests"] >= 1, "usage is written down", every_s=0.2)
        totals = used()
        check(totals["cost_nanoton"] > 0 and totals["prompt_tokens"] > 0, totals)
        for option, value, refusal in (
            ("--models", "other", (403, "model_not_allowed")),
            ("--budget", "0.000000001", (402, "key_budget_used")),
            ("--expires", "0m", (401, "expired_api_key")),
        ):
            place.keys("limit", name, option, value)
            until(lambda w=refusal: place.status(url, key) == w, f"{option} {value}", every_s=0.2)
            place.keys("limit", name, "--models", "all", "--budget", "none", "--expires", "never")
            until(lambda: place.status(url, key)[0] == 200, "lifted again", every_s=0.2)
        place.keys("limit", name, "--rate", "2")
        until(lambda: place.status(url, key) == (429, "key_rate_limit"), "--rate", every_s=0.05)
        place.keys("revoke", name)
        until(lambda: place.status(url, key) == (401, "revoked_api_key"), "revoked", every_s=0.2)
        equal([entry["id"] for entry in place.keys("list")], [name], "list")
    check("no API key" in place.keys("revoke", "key_none", wanted=2), "an unknown id")
    place.keys("create", "x", "--budget", "a lot", wanted=2)


@suite.case("plain HTTP speaks to the TLS port in vain")
def no_plain(place):
    with place.gateway(*place.tls()):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{place.port}/health", timeout=5)
        except (OSError, http.client.HTTPException):
            return  # an alert of TLS is no answer of HTTP
        raise drive.Failed("answered")


@suite.case("behind a trusted proxy: only from there, and each of its users has limits")
def behind(place):
    trust = ("http.behind_trusted_proxy=true", "http.limits.requests_per_minute_per_address=3")
    key = place.keys("create", "behind")["key"]
    with place.gateway(*trust, 'http.trusted_proxies=["127.0.0.1"]', scheme="http") as url:
        with place.user(url, key) as user:

            def ask(address):
                try:
                    user.chat.completions.create(
                        model=place.net.model, messages=HELLO, max_tokens=2,
                        extra_headers={"x-forwarded-for": f"203.0.113.9, {address}"})  # fmt: skip
                except openai.RateLimitError as refusal:
                    check(int(refusal.response.headers["retry-after"]) >= 1, "Retry-After")
                    return refusal.code
                return "ok"

            until(lambda: ask("192.0.2.1") == "ok", "the key is known", every_s=0.2)
            answers = [ask("192.0.2.2") for _ in range(4)]
            equal(answers, ["ok"] * 3 + ["address_rate_limit"], "one address")
            equal(ask("192.0.2.3"), "ok", "another address")
    arguments = place.settings(*trust, 'http.trusted_proxies=["192.0.2.99"]')
    with drive.Process([drive.COCOON, "gateway", *arguments], place.log):
        url = f"http://127.0.0.1:{place.port}/health"

        def refused():
            try:
                urllib.request.urlopen(url, timeout=5)
            except urllib.error.URLError as fault:
                # Not started yet is refused by the system, not by the gateway.
                return not isinstance(fault.reason, ConnectionRefusedError)
            except OSError:
                return True
            raise drive.Failed("another machine than the proxy was answered")

        until(refused, "the connection is closed")


def body(_):
    with drive.scratch() as directory, drive.Mock(directory) as mock:
        with drive.Network(directory, "--engine", mock.url) as net:
            return suite.run(Place(net))


if __name__ == "__main__":
    drive.main(suite, body)
