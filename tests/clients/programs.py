"""The examples of cocoon-client, as a reader would start them, against the embedded engine."""

import json
import os
import re
import subprocess

import drive
from drive import check, equal

suite = drive.Suite("programs")
EXAMPLES = os.environ.get(
    "COCOON_EXAMPLES", os.path.join(os.path.dirname(drive.COCOON), "examples")
)


def run(net, name, *arguments):
    done = subprocess.run(
        [os.path.join(EXAMPLES, name), net.ready["data_dir"], *arguments],
        capture_output=True, text=True, check=False, timeout=drive.PATIENCE_S * 2)  # fmt: skip
    equal(done.returncode, 0, f"{name}: {done.stderr}")
    return done.stdout


@suite.case("one question: text, cost, and a machine that the registry lists")
def chat(net):
    said = run(net, "chat", "What is the capital of France?")
    text, _, rest = said.partition("\ncost: ")
    check(text.strip(), said)
    check(int(rest.split()[0]) > 0, said)
    check("listed: Yes" in rest and "simulated" in rest, said)


@suite.case("a stream, and the channel that paid for it")
def stream(net):
    said = run(net, "stream", net.model, "Count to five.")
    check(int(re.search(r"cost: (\d+) nanoTON", said).group(1)) > 0, said)
    channel = json.loads(re.search(r"channel: (.*)", said).group(1))
    check(channel["tokens_used_own_count"] > 0, channel)
    equal(channel["tokens_used_own_count"], channel["tokens_used_proxy_max"], "both counts")


@suite.case("embeddings: like texts are alike")
def embeddings(net):
    said = run(net, "embeddings", net.model)
    alike, other = (float(number) for number in re.findall(r": (-?\d\.\d+)", said))
    check(alike > other, said)


@suite.case("without a network one sentence says so")
def nowhere(_):
    done = subprocess.run([os.path.join(EXAMPLES, "chat"), "/no/such/place"],
                          capture_output=True, text=True, check=False, timeout=30)  # fmt: skip
    check(done.returncode != 0 and "/no/such/place/config/gateway.toml" in done.stderr, done.stderr)


def body(suite):
    with drive.scratch() as directory, drive.Network(directory) as net:
        return suite.run(net)


if __name__ == "__main__":
    drive.main(suite, body)
