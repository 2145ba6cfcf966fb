"""The verifier for browsers against the command: the same evidence gives the same words.

The directory named on the command line holds what the tests of `tool/cli/tests/proof` kept: NAME.bundle
and NAME.trust of honest machines and of one machine for each lie, and a receipt.
"""

import glob
import json
import os
import subprocess
import sys

import drive
from drive import check, equal

suite = drive.Suite("web")
WEB = os.path.join(drive.ROOT, "tool", "verifier-web")
BUILT = os.path.join(drive.ROOT, "target", "web")
PAGE = os.path.join(drive.ROOT, "node", "gateway", "src", "verify.html")
# The one in the gateway, and the one that this machine's compiler made.
MODULES = (PAGE, os.path.join(BUILT, "verifier.wasm"))
LONG_AFTER = "2099-01-01T00:00:00Z"
LONG_AFTER_MS = 4_070_908_800_000
HONEST = ("tdx", "snp", "gpu")
# Lies that a machine's own node notices are not among the bundles.
BUNDLES_MIN = 40


def native(*arguments):
    """Exit code, standard output and the sentence on standard error."""
    done = subprocess.run(
        [drive.COCOON, *arguments, "--json"], capture_output=True, text=True, timeout=60, check=False
    )
    check("panicked" not in done.stderr, done.stderr)
    return done.returncode, done.stdout.strip(), done.stderr.strip()


def judged(module, jobs):
    done = subprocess.run(
        ["node", os.path.join(WEB, "judge.mjs"), module],
        input=json.dumps(jobs), capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    equal(done.returncode, 0, done.stderr)
    return json.loads(done.stdout)


def read(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


class Cases:
    """Questions in both forms, and what the command says."""

    def __init__(self):
        self.names, self.wanted, self.jobs = [], [], []

    def add(self, name, file, arguments, question, kind="bundle", command=("verify", "--offline"), **files):
        self.names.append(name)
        self.wanted.append(native(*command, file, *arguments))
        subject = "" if kind == "receipt" else f"bundle {file}"
        self.jobs.append({"kind": kind, "file": file, "question": {"subject": subject, **question}, **files})

    def compare(self):
        for module in MODULES:
            answers = judged(module, self.jobs)
            equal(len(answers), len(self.jobs), "answers")
            for name, job, (code, out, why), answer in zip(
                self.names, self.jobs, self.wanted, answers, strict=True
            ):
                at = f"{name} by {os.path.basename(module)}"
                if code == 2:
                    check("fault" in answer, at, answer)
                    # The command names the file, the module the fault.
                    check(answer["fault"] in why.replace("\n", " "), at, answer, why)
                else:
                    equal(answer.get("text"), out, f"{at}, {job['file']}")
                    equal(code, 0 if json.loads(out)["ok"] else 1, f"{at}: exit code")
        return len(self.jobs)


@suite.case("good evidence and evidence of every lie: the same words in Node")
def lies(directory):
    cases, refused = Cases(), 0
    bundles = sorted(glob.glob(os.path.join(directory, "*-gateway.bundle")))
    check(len(bundles) >= BUNDLES_MIN, f"{len(bundles)} bundles")
    for bundle in bundles:
        name = os.path.basename(bundle).removesuffix("-gateway.bundle")
        trust = bundle.removesuffix(".bundle") + ".trust"
        nonce = read(bundle)["nonce"]
        own = ["--trust", trust]
        cases.add(name, bundle, own, {}, trust=trust)
        refused += cases.wanted[-1][0]
        gpu = ["worker.gpu", "image", "freshness"]
        cases.add(
            f"{name}, its nonce", bundle, [*own, "--nonce", nonce, "--require", ",".join(gpu)],
            {"nonce": nonce, "require": gpu}, trust=trust)  # fmt: skip
        cases.add(f"{name}, makers' roots", bundle, [], {})
        cases.add(
            f"{name}, long after", bundle, [*own, "--at", LONG_AFTER], {"at_ms": LONG_AFTER_MS},
            trust=trust)  # fmt: skip
    for name in HONEST:
        code, out, why = cases.wanted[cases.names.index(name)]
        equal(code, 0, f"{name}: {out} {why}")
    check(refused >= BUNDLES_MIN - len(HONEST) - 8, f"only {refused} bundles were refused")
    return f"{cases.compare()} questions, {len(bundles)} bundles, {refused} refused"


@suite.case("a receipt, with and without its answer, and with another one")
def receipts(directory):
    cases = Cases()
    base = os.path.join(directory, "receipt")
    file, trust, answer = f"{base}.receipt", f"{base}-gateway.trust", f"{base}.answer"
    if not os.path.exists(trust):
        trust = os.path.join(directory, "tdx-gateway.trust")
    for name, given in (("alone", None), ("its answer", answer), ("another answer", file)):
        arguments = ["--trust", trust] + (["--answer", given] if given else [])
        files = {"trust": trust} | ({"answer": given} if given else {})
        cases.add(name, file, arguments, {}, kind="receipt", command=("receipt", "verify"), **files)
    equal([code for code, _, _ in cases.wanted][2], 1, "another answer")
    return f"{cases.compare()} questions"


@suite.case("files that are none, and damaged ones, are refused with the same sentence")
def damaged(directory):
    cases = Cases()
    good = os.path.join(directory, "tdx-gateway.bundle")
    trust = os.path.join(directory, "tdx-gateway.trust")
    with open(good, "rb") as file:
        whole = file.read()
    for number, wrong in enumerate((
        b"", b"{}", b"\xff\xfe", b"[" * 100_000, whole[: len(whole) // 2],
        whole.replace(b'"version":1', b'"version":2', 1), whole.replace(b"cocoon.bundle", b"cocoon.trust", 1),
        whole.replace(b'"collateral":0', b'"collateral":77', 1),
    )):  # fmt: skip
        path = os.path.join(directory, f"damaged-{number}.json")
        with open(path, "wb") as file:
            file.write(wrong)
        cases.add(f"damaged {number}", path, ["--trust", trust], {}, trust=trust)
        equal(cases.wanted[-1][0], 2, f"damaged {number}: {cases.wanted[-1]}")
    cases.add("a bundle as trust", good, ["--trust", good], {}, trust=good)
    cases.add("a short nonce", good, ["--nonce", "12"], {"nonce": "12"})
    equal([code for code, _, _ in cases.wanted[-2:]], [2, 2], "mistakes")
    # The command's own sentence about its option differs.
    for kept in (cases.names, cases.wanted, cases.jobs):
        kept.pop()
    # One bit at a time: judged alike, whatever comes out.
    for number in range(64):
        flipped = bytearray(whole)
        flipped[number * len(whole) // 64] ^= 1 << (number % 7)
        path = os.path.join(directory, f"flipped-{number}.json")
        with open(path, "wb") as file:
            file.write(flipped)
        cases.add(f"flipped {number}", path, ["--trust", trust], {}, trust=trust)
    return f"{cases.compare()} questions"


def browsed(url, picture, *files):
    done = subprocess.run(
        ["node", os.path.join(WEB, "browse.mjs"), url, os.path.join(BUILT, picture), *files],
        capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    equal(done.returncode, 0, done.stderr)
    said = json.loads(done.stdout)
    equal(said["faults"], [], "faults in the page")
    return said


@suite.case("the page from a disk, in a browser: the same words, and it talks to nobody")
def from_disk(directory):
    trust = os.path.join(directory, "tdx-gateway.trust")
    for name, words in (("tdx", "Every required claim holds."), ("DebugTd", "Not verified.")):
        bundle = os.path.join(directory, f"{name}-gateway.bundle")
        own = trust.replace("tdx-", f"{name}-")
        said = browsed(f"file://{PAGE}", f"page-{name}.png", own, bundle)
        _, out, _ = native("verify", "--offline", bundle, "--trust", own)
        wanted = json.loads(out) | {"subject": f"bundle {os.path.basename(bundle)}"}
        equal(json.loads(said["json"]), wanted, name)
        check(said["outcome"].startswith(words), said["outcome"])
        others = [url for url in said["asked"] if not url.startswith(("file:", "data:", "blob:"))]
        equal(others, [], "who was asked")


@suite.case("the page from a gateway asks it with a nonce of its own")
def from_gateway(directory):
    with drive.scratch() as home, drive.Mock(home) as mock:
        with drive.Network(home, "--engine", mock.url) as net:
            trust = os.path.join(home, "own.trust")
            data = ["--chain", "local", "--data-dir", os.path.join(home, "network")]
            code, out, why = native("verify", *data, "--save-trust", trust)
            equal(code, 0, why)
            url = f"http://{net.host}:{net.port}"
            said = browsed(f"{url}/verify", "page-gateway.png", trust)
            shown = json.loads(said["json"])
            check(shown["ok"], shown)
            kinds = [
                [(line["subject"], line["claim"], line["verdict"]) for line in found["claims"]]
                for found in (shown, json.loads(out))
            ]
            equal(kinds[0], kinds[1], "claims")
            check(("worker 1", "freshness", "holds") in kinds[0], kinds[0])
            equal([u for u in said["asked"] if not u.startswith((url, "data:"))], [], "who was asked")
            # Without trust of one's own nothing of the simulated platform is believed.
            shown = json.loads(browsed(f"{url}/verify", "page-strict.png")["json"])
            check(not shown["ok"], shown)


def body(cases):
    directory = sys.argv[1]
    return cases.run(directory)


if __name__ == "__main__":
    drive.main(suite, body)
