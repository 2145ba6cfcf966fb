"""Makes half of what the fuzzer sends reach a worker: with a model that exists."""

import os

import schemathesis

MODEL = os.environ["COCOON_MODEL"]


SHORTEST_S = 5


def patient(value):
    """A deadline that the user sets too short is a 504, and rightly: such ones prove nothing."""
    try:
        return value if not 0 < float(value) < SHORTEST_S else type(value)(SHORTEST_S)
    except (TypeError, ValueError):
        return value


@schemathesis.hook
def map_headers(context, headers):
    for name in list(headers or {}):
        if name.lower() == "x-cocoon-timeout":
            headers[name] = patient(headers[name])
    return headers


@schemathesis.hook
def map_body(context, body):
    for place in (body, body.get("cocoon") if isinstance(body, dict) else None):
        if isinstance(place, dict) and "timeout" in place:
            place["timeout"] = patient(place["timeout"])
    if isinstance(body, dict) and isinstance(body.get("model"), str) and len(body["model"]) % 2:
        body["model"] = MODEL
        # The fuzzer looks for faults, not for long answers.
        for name in ("max_tokens", "max_completion_tokens", "max_output_tokens"):
            if isinstance(body.get(name), int) and body[name] > 8:
                body[name] = 8
    return body
