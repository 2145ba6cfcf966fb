"""The examples of cocoon-client, as a reader would start them, against the embedded engine."""

import os
import re
import subprocess

import drive
from drive import check, equal, until

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
    told = re.compile(r"channel: proxy \S+ (\d+) tokens counted here, (\d+) by it")

    def alike():
        said = run(net, "stream", net.model, "Count to five.")
        check(int(re.search(r"cost: (\d+) nanoTON", said).group(1)) > 0, said)
        own, proxy = (int(number) for number in told.search(said).groups())
        # The proxy's count may come after the last part, when the program has ended.
        check(own > 0, said)
        return own == proxy

    until(alike, "both counts")


@suite.case("embeddings: like texts are alike")
def embeddings(net):
    said = run(net, "embeddings", net.model)
    alike, other = (float(number) for number in re.findall(r": (-?\d\.\d+)", said))
    check(alike > other, said)


@suite.case("on a chain: funded, topped up, used, charged, emptied and closed, to the last coin")
def channel(_):
    with drive.scratch() as directory, drive.Network(directory, "--workers", "1", ground=()) as net:
        program = [os.path.join(EXAMPLES, "channel"), net.ready["data_dir"]]
        with drive.Process(program, os.path.join(directory, "channel.log")) as example:
            order = re.search(r"fund it: cocoon (.*)", example.line()).group(1).split()
            done = subprocess.run([drive.COCOON, *order], capture_output=True, text=True, check=False,
                                  timeout=drive.PATIENCE_S)  # fmt: skip
            equal(done.returncode, 0, done.stderr)
            said = []
            # A close takes the delay of this network: a minute of the chain's time.
            while "close: done" not in (said or [""])[-1]:
                said.append(example.line(patience_s=200))
            equal(example.wait(), 0, example.last_words())
    text = "".join(said)
    for step, word in (("top up", "normal"), ("charge", "normal"), ("withdraw", "normal"),
                       ("close", "closed")):  # fmt: skip
        check(re.search(rf"{step}: done, \S+ TON there, {word}", text), text)
    check("close: done, 0 TON there" in text, text)
    return text.splitlines()[-1]


@suite.case("on a network without a chain the channel example says so in one sentence")
def no_chain(net):
    done = subprocess.run([os.path.join(EXAMPLES, "channel"), net.ready["data_dir"]],
                          capture_output=True, text=True, check=False, timeout=drive.PATIENCE_S)  # fmt: skip
    check(done.returncode != 0 and "has no chain" in done.stderr, done.stderr)


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
