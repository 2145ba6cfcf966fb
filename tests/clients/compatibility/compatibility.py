"""Every client against the network and against the model server behind it.

What a client cannot do with the model server is the model's or the server's matter; what it cannot
do through the network alone is ours, and fails the suite. The results make the page
`docs/compatibility.md`.

    compatibility.py             runs everything and compares the page
    compatibility.py --write     runs everything and writes the page
    compatibility.py --long      fuzzes the gateway for an hour instead of two minutes
    COCOON_SUITES=tour,node      runs only these
"""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import xml.etree.ElementTree

import board as results
from board import DIRECT, FAILED, HERE, NETWORK, PASSED, ROOT, SKIPPED, Target

import drive
import page
from guides import guides
from studio import Studio

FRAMEWORKS = os.path.join(ROOT, "target/check-frameworks/bin")
NODE = os.path.join(ROOT, "target/check-node")
MODEL = "smollm2-135m-instruct"
TRIES = 3  # a small model does not always do as it is told
FUZZ_S, LONG_FUZZ_S = int(os.environ.get("COCOON_FUZZ_S", "120")), 3600


def run(arguments, **more):
    """A program to its end; both outputs as text."""
    more = {"timeout": 600, "env": {**os.environ, **more.pop("env", {})}, **more}
    done = subprocess.run(arguments, capture_output=True, text=True, check=False,
                          preexec_fn=drive.with_parent, **more)  # fmt: skip
    return done.stdout, done.stderr, done.returncode


def tour(board, target):
    from tour import tour as cases

    cases.run(board, target)


def program(suite, arguments, board, target):
    """A program that prints its cases."""
    began = time.monotonic()
    output, errors, _ = run(arguments)
    if not results.read_lines(board, suite, target, output):
        board.put(suite, "starts", target.name, FAILED, errors[-1500:])
    board.tell(suite, target.name, began)


def node(board, target):
    script = os.path.join(NODE, "compatibility.mjs")
    program("openai (Node)", ["node", script, target.url, target.model, "openai"], board, target)
    program("Vercel AI SDK (Node)", ["node", script, target.url, target.model, "ai"], board, target)


def frameworks(board, target):
    python = os.path.join(FRAMEWORKS, "python")
    script = os.path.join(HERE, "frameworks.py")
    program("frameworks (Python)", [python, "-B", script, target.url, target.model], board, target)


def comply(board, target):
    """llm-comply: schemas and meaning of three forms of a chat."""
    for form, title in (("openai-chat", "chat"), ("open-responses", "responses"),
                        ("anthropic", "messages")):  # fmt: skip
        began = time.monotonic()
        suite = f"llm-comply, {title}"
        left = None
        for attempt in range(TRIES):
            target.studio.seed(attempt + 1)
            wanted = [] if left is None else ["-f", ",".join(left)]
            output, errors, _ = run([
                os.path.join(FRAMEWORKS, "llm-comply"), "--format", form, "-u", target.url,
                "-k", "none", "-m", target.model, "--json", *wanted])  # fmt: skip
            start = output.find("{")
            if start < 0:
                board.put(suite, "starts", target.name, FAILED, errors[-1500:])
                break
            found = json.loads(output[start:])["results"]
            left = [result["id"] for result in found if result["status"] == FAILED]
            last = attempt == TRIES - 1 or not left or target.name == DIRECT
            for result in found:
                if result["status"] != FAILED or last:
                    why = "; ".join(result.get("errors", []))
                    board.put(suite, result["name"], target.name, result["status"], why)
            if last:
                break
        target.studio.seed(1)
        board.tell(suite, target.name, began)


def langchain(board, target):
    """LangChain's standard tests: no fewer passes than the model server has itself."""
    began = time.monotonic()
    suite = "langchain-tests"
    with tempfile.TemporaryDirectory() as folder:
        report = os.path.join(folder, "report.xml")
        output, errors, _ = run(
            [os.path.join(FRAMEWORKS, "python"), "-B", "-m", "pytest", "-q", "-p", "no:cacheprovider",
             "-p", "no:codspeed", "-o", "asyncio_mode=auto",
             # The client keeps its connections for one event loop.
             "-o", "asyncio_default_test_loop_scope=session",
             "-o", "asyncio_default_fixture_loop_scope=session",
             f"--junit-xml={report}", os.path.join(HERE, "langchain_standard.py")],
            env={"COCOON_URL": target.url, "COCOON_MODEL": target.model}, cwd=folder)  # fmt: skip
        if not os.path.exists(report):
            board.put(suite, "starts", target.name, FAILED, (output + errors)[-1500:])
            return
        for case in xml.etree.ElementTree.parse(report).iter("testcase"):
            faults = [*case.iter("failure"), *case.iter("error")]
            skipped = next(case.iter("skipped"), None)
            outcome = FAILED if faults else PASSED
            if skipped is not None:
                outcome = FAILED if "xfail" in (skipped.get("type") or "") else SKIPPED
            why = faults[0].get("message") if faults else ""
            board.put(suite, case.get("name"), target.name, outcome, why)
    board.tell(suite, target.name, began)


def schemathesis(board, target, seconds):
    """Requests made from our OpenAPI document, good ones and bad ones: no server error."""
    if target.name != NETWORK:
        return
    began = time.monotonic()
    suite = "schemathesis"
    arguments = [
        os.path.join(FRAMEWORKS, "schemathesis"), "run", f"{target.base}/openapi.json",
        "--url", target.base, "--max-time", str(seconds), "--workers", "4",
        "--checks", "not_a_server_error", "--continue-on-failure", "--max-failures", "20",
        "--request-timeout", "30", "--suppress-health-check", "all", "--no-color",
        "--seed", str(time.time_ns() % 2**31),
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        hooks = os.path.join(HERE, "fuzz_hooks.py")
        output, errors, code = run(
            arguments, timeout=seconds + 300, cwd=folder,
            env={"SCHEMATHESIS_HOOKS": os.path.relpath(hooks, folder), "COCOON_MODEL": target.model,
                 "PYTHONPATH": HERE})  # fmt: skip
    tested = re.search(r"([\d,]+) generated", output)
    count = int(tested.group(1).replace(",", "")) if tested else 0
    # What counts is what the gateway answered. The fuzzer's own faults (CPython 3.11 cannot parse
    # some of its generators' sources) end one operation's cases and are told, not judged.
    good = "Server error" not in output and count >= 100
    case = "no server error from any documented request"
    told = output[max(0, output.find("Server error") - 300) :] + errors[-500:]
    board.put(suite, case, target.name, PASSED if good else FAILED, told)
    own = "" if code == 0 or not good else ", with a fault of the fuzzer's own"
    print(f"schemathesis: {count} requests{own}", flush=True)
    board.tell(suite, target.name, began)


SUITES = {"tour": tour, "node": node, "frameworks": frameworks, "comply": comply,
          "langchain": langchain, "guides": guides}  # fmt: skip


@contextlib.contextmanager
def engine(directory):
    """The embedded engine alone, with its default model."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    arguments = [drive.COCOON, "engine", "--listen", f"127.0.0.1:{port}"]
    with drive.Process(arguments, os.path.join(directory, "engine.log")) as process:

        def ready():
            drive.check(process.child.poll() is None, process.last_words())
            try:
                return urllib.request.urlopen(f"{url}/health", timeout=5).status == 200
            except (urllib.error.URLError, OSError):
                return False

        drive.until(ready, "the engine", patience_s=120, every_s=0.1)
        yield url


def main():
    wanted = os.environ.get("COCOON_SUITES", "tour,node,frameworks,comply,langchain,guides,schemathesis")
    wanted = wanted.split(",")
    board = results.Board()
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(drive.scratch())
        studio = stack.enter_context(Studio(stack.enter_context(engine(directory))))
        network = stack.enter_context(drive.Network(
            directory, "--engine", studio.url, "--engine-model", MODEL))  # fmt: skip
        targets = [Target(NETWORK, network.endpoint, MODEL, studio, network),
                   Target(DIRECT, f"{studio.url}/v1", MODEL, studio)]  # fmt: skip
        for name, suite in SUITES.items():
            for target in targets:
                if name in wanted:
                    suite(board, target)
        if "schemathesis" in wanted:
            long = "--long" in sys.argv
            schemathesis(board, targets[0], LONG_FUZZ_S if long else FUZZ_S)
    faults = board.judge()
    more = board.passed("langchain-tests", DIRECT) - board.passed("langchain-tests", NETWORK)
    faults += [f"langchain-tests: {case}: passes only without the network" for case in sorted(more)]
    faults = sorted(set(faults))
    if not faults:
        faults += page.settle(board, write="--write" in sys.argv)
    for fault in faults:
        print(f"FAIL {fault}", flush=True)
    count = sum(row.get(NETWORK) == PASSED for rows in board.suites.values() for row in rows.values())
    print(f"compatibility: {count} passed, {len(faults)} failed ({time.monotonic() - began:.0f} s)")
    return 1 if faults or not count else 0


if __name__ == "__main__":
    drive.main(None, lambda _: main())
