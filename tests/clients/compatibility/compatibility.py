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
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import xml.etree.ElementTree

import board as results
from board import DIRECT, FAILED, HERE, NETWORK, PASSED, ROOT, SKIPPED, Target

import drive
import page
import thinker
from fuzzing import schemathesis
from guides import guides
from studio import Studio

FRAMEWORKS = os.path.join(ROOT, "target/check-frameworks/bin")
NODE = os.path.join(ROOT, "target/check-node")
MODEL = "smollm2-135m-instruct"
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
    """llm-comply: schemas and meaning of three forms of a chat. What it skips for a model that is not
    known to think runs with one that does."""
    for form, title in (("openai-chat", "chat"), ("open-responses", "responses"),
                        ("anthropic", "messages")):  # fmt: skip
        began = time.monotonic()
        suite = f"llm-comply, {title}"
        found, errors = complied(form, target.url, target.model)
        if not found:
            board.put(suite, "starts", target.name, FAILED, errors)
            continue
        thoughtful = [result["id"] for result in found if result["status"] == SKIPPED]
        again, errors = complied(form, target.thinker, thinker.MODEL, "--filter", ",".join(thoughtful))
        better = {result["id"]: result for result in again}
        for result in found:
            name, why = result["name"], result.get("errors", [])
            if result["id"] in thoughtful:
                name = f"{name} (a mock model that thinks)"
                result = better.get(result["id"], {"status": FAILED, "errors": [errors]})
                # Its warnings say that no thoughts came.
                why = result.get("errors", []) + result.get("warnings", [])
                if why and result["status"] == PASSED:
                    result["status"] = FAILED
            board.put(suite, name, target.name, result["status"], "; ".join(why))
        board.tell(suite, target.name, began)


def complied(form, url, model, *more):
    """The results of one form, or none and what the program said instead."""
    output, errors, _ = run([
        os.path.join(FRAMEWORKS, "llm-comply"), "--format", form, "-u", url,
        "-k", "none", "-m", model, "--json", *more])  # fmt: skip
    start = output.find("{")
    return (json.loads(output[start:])["results"], "") if start >= 0 else ([], errors[-1500:])


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


def crate(board, target):
    """The examples of the crate `cocoon-client`, on the network of the other suites."""
    began = time.monotonic()
    suite = "cocoon-client (Rust)"
    up = os.path.join(target.network.directory, "network")
    for name, arguments in (("chat", ["Say hello."]), ("stream", [target.model, "Say hello."]),
                            ("embeddings", [target.model]), ("verify", [])):  # fmt: skip
        program = os.path.join(ROOT, "target/release/examples", name)
        drive.check(os.access(program, os.X_OK), f"{program} is missing: cargo build --release --all-targets")
        output, errors, code = run([program, up, *arguments], timeout=120)
        good = code == 0 and output.strip()
        board.put(suite, f"example {name}", target.name, PASSED if good else FAILED, output + errors)
    board.tell(suite, target.name, began)


def fuzz(board, target):
    seconds = LONG_FUZZ_S if "--long" in sys.argv else FUZZ_S
    schemathesis(board, target, seconds, run, os.path.join(FRAMEWORKS, "schemathesis"))


# In the order of the page.
SUITES = {"tour": tour, "node": node, "frameworks": frameworks, "comply": comply,
          "langchain": langchain, "guides": guides, "crate": crate,
          "schemathesis": fuzz}  # fmt: skip
# What runs beside what: the tour reads the books and must be alone with the network.
STAGES = [
    [[("tour", NETWORK)], [("tour", DIRECT)]],
    [
        [(name, NETWORK) for name in ("node", "frameworks", "comply", "langchain", "guides", "crate")],
        [(name, DIRECT) for name in ("node", "frameworks", "comply", "langchain")],
        [("schemathesis", NETWORK)],
    ],
]


def lane(jobs, targets, boards):
    """Suites one after another, each with a board of its own."""
    for name, side in jobs:
        board = boards[name, side] = results.Board()
        try:
            SUITES[name](board, targets[side])
        except Exception as fault:  # a suite that breaks is a suite that fails
            board.put(name, "runs to its end", side, FAILED, results.explain(fault))


def run_all(targets, wanted):
    """All suites that are wanted; lanes of a stage run side by side."""
    boards = {}
    for stage in STAGES:
        threads = []
        for jobs in stage:
            jobs = [job for job in jobs if job[0] in wanted]
            threads.append(threading.Thread(target=lane, args=(jobs, targets, boards), daemon=True))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    board = results.Board()
    for name in SUITES:
        for side in (NETWORK, DIRECT):
            if (name, side) in boards:
                board.add(boards[name, side])
    return board


@contextlib.contextmanager
def engine(directory):
    """The embedded engine alone, with its default model."""
    [port] = drive.free_ports(1)
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
    wanted = os.environ.get("COCOON_SUITES", ",".join(SUITES)).split(",")
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(drive.scratch())
        server = stack.enter_context(engine(directory))
        # Each side has its own eyes and ears: they run at the same time.
        ours, theirs = (stack.enter_context(Studio(server)) for _ in range(2))
        os.mkdir(os.path.join(directory, "thinker"))
        network = stack.enter_context(drive.Network(
            directory, "--engine", ours.url, "--engine-model", MODEL))  # fmt: skip
        mock = stack.enter_context(thinker.Thinker())
        thoughtful = stack.enter_context(drive.Network(
            os.path.join(directory, "thinker"), "--engine", mock.url, "--engine-model",
            thinker.MODEL, "--workers", "1"))  # fmt: skip
        targets = {NETWORK: Target(NETWORK, network.endpoint, MODEL, ours, network, thoughtful.endpoint),
                   DIRECT: Target(DIRECT, f"{theirs.url}/v1", MODEL, theirs, None, f"{mock.url}/v1")}  # fmt: skip
        board = run_all(targets, wanted)
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
