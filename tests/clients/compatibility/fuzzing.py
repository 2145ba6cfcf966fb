"""Requests made from our OpenAPI document, good ones and bad ones, at the running gateway.

Judged is what the gateway answered, as the hooks wrote it down: no server error, an answer to
every request, and enough requests to every operation. The fuzzer's own faults (CPython 3.11 cannot
parse some of its generators' sources) end one operation's cases; they are told, and the count of
requests shows whether they mattered.
"""

import collections
import glob
import json
import os
import shutil
import threading
import time
import urllib.request

from board import FAILED, HERE, NETWORK, PASSED, ROOT

SUITE = "schemathesis"
# What the hooks keep, a folder for each seed; it stays for whoever looks into a fault.
FOLDERS = os.path.join(ROOT, "target/check-fuzz-http")
# What any run passes by far; the page says these. Of a request without anything to vary there are
# few kinds.
LEAST_REQUESTS, LEAST_WITH_BODY, LEAST = 1000, 10, 2
# On a slow machine it takes further seeds; after so long no other one is begun.
LONGEST_S = 600
# Fuzzers side by side. Within a lane each operation with a body has its own share of the time: the
# fuzzer finishes one before it begins the next. Only what the gateway keeps has states.
PAGES = "pages"
LANES = [
    ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/audio/transcriptions"],
    ["/v1/responses", "/v1/messages", "/v1/audio/speech", "/v1/images/generations"],
    [PAGES],
]
INFERENCE = [path for paths in LANES for path in paths if path != PAGES]


def schemathesis(board, target, seconds, run, program):
    """Fuzzes for a time; `run` starts a program to its end, `program` is the fuzzer."""
    if target.name != NETWORK:
        return
    began = time.monotonic()
    seeds = [os.environ.get("COCOON_FUZZ_SEED", str(time.time_ns() % 2**31))]
    wanted = documented(target)
    codes = with_seed(target, seconds, seeds[0], (run, program))
    while lacks(count(seeds)[0], wanted) and time.monotonic() - began + seconds < LONGEST_S:
        seeds.append(str(int(seeds[-1]) + 1))
        codes += with_seed(target, seconds, seeds[-1], (run, program))
    put(board, target, wanted, (seeds, codes))
    board.tell(SUITE, target.name, began)


def with_seed(target, seconds, seed, programs):
    """All lanes to their end; returns the fuzzers' exit codes."""
    folder = os.path.join(FOLDERS, seed)
    shutil.rmtree(folder, ignore_errors=True)
    codes = []

    def lane(paths):
        for path in paths:
            codes.append(fuzz(path, target, (seconds // len(paths), seed), folder, programs))

    lanes = [threading.Thread(target=lane, args=(paths,), daemon=True) for paths in LANES]
    for thread in lanes:
        thread.start()
    for thread in lanes:
        thread.join()
    return codes


def fuzz(path, target, asked, folder, programs):
    """One fuzzer to its end, on one path or on all that reach no model; returns its exit code."""
    (seconds, seed), (run, program) = asked, programs
    if path == PAGES:
        chosen = [word for other in INFERENCE for word in ("--exclude-path", other)]
    else:
        chosen = ["--include-path", path, "--phases", "examples,coverage,fuzzing"]
    arguments = [
        "nice", program, "run", f"{target.base}/openapi.json",
        "--url", target.base, "--max-time", str(max(1, seconds)), "--workers", "1", *chosen,
        "--checks", "not_a_server_error", "--continue-on-failure", "--max-failures", "200",
        "--request-timeout", "60", "--suppress-health-check", "all", "--no-color",
        "--generation-database", "none", "--seed", seed,
    ]  # fmt: skip
    hooks = os.path.join(HERE, "fuzz_hooks.py")
    folder = os.path.join(folder, path.strip("/").replace("/", "-"))
    os.makedirs(folder)
    # The hooks are named from here, wherever a link leads.
    hooks = os.path.relpath(os.path.realpath(hooks), os.path.realpath(folder))
    output, errors, code = run(
        arguments, timeout=seconds + 300, cwd=folder,
        env={"SCHEMATHESIS_HOOKS": hooks, "COCOON_MODEL": target.model,
             "COCOON_FUZZ_FOLDER": folder, "PYTHONPATH": HERE})  # fmt: skip
    with open(os.path.join(folder, "output.txt"), "w", encoding="utf-8") as file:
        file.write(output + errors)
    return code


def put(board, target, wanted, told):
    """The verdict of what the hooks wrote down, with every seed."""
    seeds, codes = told
    counts, statuses = count(seeds)
    faults = kept(seeds)
    few = lacks(counts, wanted)
    whole = f"{sum(counts.values())} requests, seed {', '.join(seeds)}, {dict(sorted(statuses.items()))}"
    cases = [
        ("no server error, and an answer to every request", not faults,
         "\n".join(show(fault) for fault in faults[:5])),
        (f"at least {LEAST_REQUESTS} requests, {LEAST_WITH_BODY} to each operation with a body, "
         f"{LEAST} to each other",
         not few, f"too few: {', '.join(few)}"),
    ]  # fmt: skip
    for case, good, why in cases:
        board.put(SUITE, case, target.name, PASSED if good else FAILED,
                  f"{whole}; all is in {FOLDERS}, by seed\n{why}")  # fmt: skip
    own = "" if faults or not any(codes) else ", with a fault of the fuzzer's own"
    print(f"schemathesis: {whole}{own}", flush=True)


def lacks(counts, wanted):
    """What had too few requests, and how many it had."""
    total = sum(counts.values())
    few = [f"{operation} ({counts[operation]})" for operation, least in wanted.items()
           if counts[operation] < least]  # fmt: skip
    return few + ([f"all together ({total})"] if total < LEAST_REQUESTS else [])


def written(seeds, name):
    """What the hooks of all fuzzers wrote under this name."""
    return [path for seed in seeds for path in glob.glob(os.path.join(FOLDERS, seed, "*", name))]


def count(seeds):
    """Requests by operation, and answers by status."""
    counts, statuses = collections.Counter(), collections.Counter()
    for path in written(seeds, "counts.json"):
        with open(path, encoding="utf-8") as file:
            for key, number in json.load(file).items():
                method, path, status = key.split(" ", 2)
                counts[f"{method} {path}"] += number
                statuses[status] += number
    return counts, statuses


def kept(seeds):
    """The answers that must not be, of all fuzzers."""
    faults = []
    for path in written(seeds, "faults.jsonl"):
        with open(path, encoding="utf-8") as file:
            faults += [json.loads(line) for line in file]
    return faults


def documented(target):
    """The operations, and how often each must have been tried."""
    with urllib.request.urlopen(f"{target.base}/openapi.json", timeout=10) as answer:
        paths = json.load(answer)["paths"]
    # The fuzzer leaves out where it got the document from.
    paths.pop("/openapi.json")
    methods = ("get", "post", "put", "delete", "patch")
    return {f"{method.upper()} {path}": LEAST_WITH_BODY if "requestBody" in item[method] else LEAST
            for path, item in paths.items() for method in methods if method in item}  # fmt: skip


def show(fault):
    answer = (fault["answer"] or {}).get("body", "")
    return f"{fault['operation']}: {fault['status'] or 'no answer'}: {answer[:300]}\n{fault['request'][:600]}"
