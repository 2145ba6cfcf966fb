"""Loaded by the fuzzer: what it sends is made to matter, and what comes back is written down.

Most requests get a model that exists and lose some of the network's wishes, so that they reach a
worker: a model that nobody has and a TEE that nobody runs are refused at once. Every answer is counted
by operation; an answer with a server error, and a request without any answer, is kept whole, as a
command line that repeats it. `COCOON_FUZZ_FOLDER` says where; `fuzzing.py` reads it.
"""

import atexit
import base64
import collections
import json
import os
import shlex
import threading
import time
import zlib

import schemathesis

MODEL = os.environ["COCOON_MODEL"]
FOLDER = os.environ["COCOON_FUZZ_FOLDER"]
COUNTS = os.path.join(FOLDER, "counts.json")
FAULTS = os.path.join(FOLDER, "faults.jsonl")

SHORTEST_S = 60
LONGEST_TOKENS = 8
GENERATING = {"/v1/chat/completions": "max_tokens", "/v1/completions": "max_tokens",
              "/v1/responses": "max_output_tokens"}  # fmt: skip
# All ways to a model read the same headers: one operation tries their values, or nothing else
# would be tried in two minutes.
WITH_HEADERS = "/v1/embeddings"
FAULTS_MAX = 200  # a gateway that is broken altogether must not fill the disk
counts = collections.Counter()
faults = 0
written_s = 0.0
lock = threading.Lock()


WISHES = ("cocoon", "max_coefficient", "timeout", "tee", "verdicts", "region", "energy")


def one_in(number, value):
    """True for one value in `number`; the same for the same value, as the fuzzer demands."""
    return zlib.crc32(repr(value).encode()) % number == 0


def patient(value):
    """A deadline that the user sets too short is a 504, and rightly: such ones prove nothing."""
    try:
        return value if not 0 < float(value) < SHORTEST_S else type(value)(SHORTEST_S)
    except (TypeError, ValueError):
        return value


@schemathesis.hook
def before_load_schema(context, raw_schema):
    for path, item in raw_schema["paths"].items():
        for operation in item.values():
            if path != WITH_HEADERS and "requestBody" in operation:
                operation.pop("parameters", None)


@schemathesis.hook
def before_call(context, case, kwargs):
    """In every phase; what is left of a bad request stays bad."""
    headers, body = case.headers, case.body
    for name in list(headers or {}):
        if name.lower() == "x-cocoon-timeout":
            headers[name] = patient(headers[name])
        elif name.lower().startswith(("x-cocoon-", "idempotency-")):
            # Most wishes made at random refuse the request, and so does the same key once more.
            if not one_in(6, (headers[name], body)):
                del headers[name]
    for place in (body, body.get("cocoon") if isinstance(body, dict) else None):
        if isinstance(place, dict) and "timeout" in place:
            place["timeout"] = patient(place["timeout"])
    if isinstance(body, dict) and isinstance(body.get("model"), str) and not one_in(5, body):
        body["model"] = MODEL
        for name in WISHES:
            if not one_in(4, body.get(name)):
                body.pop(name, None)
        # The fuzzer looks for faults, not for long answers.
        limit = GENERATING.get(case.operation.path)
        if limit and body.get(limit) is None:
            body[limit] = LONGEST_TOKENS
        for name in ("max_tokens", "max_completion_tokens", "max_output_tokens"):
            if isinstance(body.get(name), int) and body[name] > LONGEST_TOKENS:
                body[name] = LONGEST_TOKENS


@schemathesis.hook
def after_call(context, case, response):
    book(context, response.status_code)
    if response.status_code >= 500:
        answer = {"headers": {name: list(value) for name, value in response.headers.items()},
                  "body": response.content.decode("utf-8", "replace")[:20_000]}  # fmt: skip
        keep(context, response.request, response.status_code, answer)


@schemathesis.hook
def after_network_error(context, case, request):
    book(context, None)
    keep(context, request, None, None)


def book(context, status):
    """Counts an answer; the counts are on disk every second and at the end."""
    global written_s
    with lock:
        counts[f"{context.operation.label} {status or 'no answer'}"] += 1
        if time.monotonic() - written_s > 1:
            written_s = time.monotonic()
            write()


@atexit.register
def write():
    fresh = f"{COUNTS}.new"
    with open(fresh, "w", encoding="utf-8") as file:
        json.dump(counts, file)
    os.replace(fresh, COUNTS)


def keep(context, request, status, answer):
    """Writes down how to repeat a request, and what it brought."""
    global faults
    with lock:
        faults += 1
        if faults > FAULTS_MAX:
            return
        fault = {"operation": context.operation.label, "status": status,
                 "request": command(request), "answer": answer}  # fmt: skip
        with open(FAULTS, "a", encoding="utf-8") as file:
            file.write(json.dumps(fault) + "\n")


def command(request):
    """A request as a command line that sends the same bytes."""
    words = ["curl", "-i", "-X", request.method]
    for name, value in request.headers.items():
        value = value.decode("latin-1") if isinstance(value, bytes) else value
        if name.lower() != "content-length":
            words += ["-H", f"{name}: {value}" if value else f"{name};"]
    body = request.body
    if body is None:
        return shlex.join([*words, request.url])
    body = body.encode() if isinstance(body, str) else bytes(body)
    line = shlex.join([*words, "--data-binary", "@-", request.url])
    return f"echo {base64.b64encode(body).decode()} | base64 -d | {line}"
