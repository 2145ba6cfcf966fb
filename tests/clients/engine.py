"""The whole network with the embedded model server, through the official clients.

First with a tiny model of random weights, whose answers are nonsense of a known shape; then with
the default model, where only the shape is looked at.
"""

import json
import os
import subprocess

import openai

import drive
from drive import check, equal

suite = drive.Suite("engine")
TINY_GGUF = os.environ.get(
    "COCOON_TINY_GGUF_BIN", os.path.join(os.path.dirname(drive.COCOON), "tiny_gguf")
)
NODE_DIRECTORY = os.path.join(drive.ROOT, "target/check-node")
HELLO = [{"role": "user", "content": "Say hello."}]
CITY = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 10},
        "days": {"type": "integer", "minimum": 1, "maximum": 9},
    },
    "required": ["city", "days"],
    "additionalProperties": False,
}
TOOL = {
    "type": "function",
    "function": {"name": "look_up", "description": "Looks a place up.", "parameters": CITY},
}


def ask(user, net, **members):
    members.setdefault("max_tokens", 16)
    return user.chat.completions.create(model=net.model, messages=HELLO, **members)


def text_of(chunks):
    return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)


@suite.case("a whole answer, with usage, and the model's name in the list")
def whole(net, user):
    answer = ask(user, net)
    choice = answer.choices[0]
    equal(choice.message.role, "assistant", "role")
    check(isinstance(choice.message.content, str), answer)
    check(choice.finish_reason in ("stop", "length"), choice.finish_reason)
    check(0 < answer.usage.completion_tokens <= 16, answer.usage)
    equal(answer.usage.total_tokens,
          answer.usage.prompt_tokens + answer.usage.completion_tokens, "total")  # fmt: skip
    check(net.model in [model.id for model in user.models.list()], "models")


@suite.case("a stream says the same as a whole answer, and its usage when asked")
def stream(net, user):
    still = {"temperature": 0, "seed": 1}
    chunks = list(ask(user, net, stream=True, stream_options={"include_usage": True}, **still))
    answer = ask(user, net, **still)
    equal(text_of(chunks), answer.choices[0].message.content, "text")
    equal(chunks[-1].usage.completion_tokens, answer.usage.completion_tokens, "usage")
    equal([c for c in ask(user, net, stream=True, **still) if c.usage], [], "hidden usage")


@suite.case("two choices")
def choices(net, user):
    answer = ask(user, net, n=2, temperature=1.0, seed=3)
    equal(sorted(choice.index for choice in answer.choices), [0, 1], "choices")
    chunks = ask(user, net, n=2, temperature=1.0, seed=3, stream=True)
    equal({choice.index for chunk in chunks for choice in chunk.choices}, {0, 1}, "streamed")


@suite.case("a seed repeats an answer, a stop word ends it")
def seed(net, user):
    warm = {"temperature": 1.2, "seed": 7, "max_tokens": 40}
    first = ask(user, net, **warm).choices[0].message.content
    equal(ask(user, net, **warm).choices[0].message.content, first, "again")
    check(len(first) > 2, first)
    word = first[len(first) // 2]
    stopped = ask(user, net, stop=[word], **warm).choices[0]
    equal(stopped.message.content, first.split(word)[0], "before the stop word")
    equal(stopped.finish_reason, "stop", "finish")


@suite.case("log-probabilities")
def logprobs(net, user):
    answer = ask(user, net, logprobs=True, top_logprobs=3, max_tokens=5)
    entries = answer.choices[0].logprobs.content
    equal(len(entries), answer.usage.completion_tokens, "entries")
    for entry in entries:
        check(entry.logprob <= 0 and len(entry.top_logprobs) == 3, entry)


@suite.case("JSON of a schema")
def schema(net, user):
    form = {"type": "json_schema", "json_schema": {"name": "c", "strict": True, "schema": CITY}}
    answer = ask(user, net, response_format=form, temperature=1.0, seed=2, max_tokens=300)
    fits(answer.choices[0].message.content)


def fits(text):
    value = json.loads(text)
    equal(sorted(value), ["city", "days"], text)
    check(len(value["city"]) <= 10 and 1 <= value["days"] <= 9, text)


@suite.case("a forced tool call, whole and streamed")
def tool(net, user):
    forced = {"type": "function", "function": {"name": "look_up"}}
    members = {"tools": [TOOL], "tool_choice": forced, "temperature": 1.0, "seed": 3}
    answer = ask(user, net, max_tokens=300, **members)
    call = answer.choices[0].message.tool_calls[0]
    equal(call.function.name, "look_up", "function")
    fits(call.function.arguments)
    deltas = [
        piece
        for chunk in ask(user, net, max_tokens=300, stream=True, **members)
        for choice in chunk.choices
        for piece in choice.delta.tool_calls or []
    ]
    equal("".join(piece.function.arguments or "" for piece in deltas),
          call.function.arguments, "streamed arguments")  # fmt: skip


@suite.case("embeddings")
def embeddings(net, user):
    answer = user.embeddings.create(model=net.model, input=["one", "another"])
    vectors = [entry.embedding for entry in answer.data]
    check(len(vectors) == 2 and len(vectors[0]) == len(vectors[1]) > 8, "vectors")
    for vector in vectors:
        check(abs(sum(x * x for x in vector) - 1) < 1e-3, "unit length")


@suite.case("an unknown model is a 404")
def unknown(net, user):
    try:
        user.chat.completions.create(model="no-such-model", messages=HELLO)
    except openai.NotFoundError as refusal:
        equal(refusal.code, "model_not_found", "code")
        check(refusal.param == "model", refusal.body)
    else:
        raise drive.Failed("answered")


@suite.case("the official Node client goes the same way")
def node(net, user):
    script = os.path.join(NODE_DIRECTORY, "tour.mjs")
    done = subprocess.run(
        ["node", script, net.endpoint, net.model],
        capture_output=True, text=True, timeout=drive.PATIENCE_S * 3, check=False,
    )  # fmt: skip
    check(done.returncode == 0, done.stdout, done.stderr)
    return done.stdout.strip()


@suite.case("the books agree")
def books(net, user):
    ask(user, net)
    last = {}

    def agree():
        last.update(net.books())
        sums = {last[name] for name in ("proxy", "earned", "client", "told", "workers")}
        return len(sums) == 1 and last["reserved"] == 0

    drive.until(agree, "one sum everywhere", patience_s=20, every_s=0.2)
    check(last["proxy"] > 0, last)
    return f"{last['proxy']} tokens"


real = drive.Suite("engine, default model")


@real.case("answers, streams and forced forms of the default model have their shape")
def shape(net, user):
    for question in ("What is the capital of France?", "Count to five."):
        messages = [{"role": "user", "content": question}]
        answer = user.chat.completions.create(model=net.model, messages=messages, max_tokens=24)
        check(answer.choices[0].message.content.strip(), answer)
        check(0 < answer.usage.completion_tokens <= 24, answer.usage)
    chunks = list(ask(user, net, stream=True, max_tokens=24))
    check(text_of(chunks).strip(), chunks)
    schema(net, user)
    tool(net, user)


@real.case("the official Node client, with the default model")
def real_node(net, user):
    return node(net, user)


def tour(suite, directory, *options):
    with drive.Network(directory, *options) as net:
        print(f"{suite.name}: {net.model} after {net.ready['ms']} ms", flush=True)
        with openai.OpenAI(base_url=net.endpoint, api_key="none", max_retries=0) as user:
            return suite.run(net, user)


def body(_):
    with drive.scratch() as directory:
        tiny = os.path.join(directory, "tiny.gguf")
        subprocess.run([TINY_GGUF, tiny], check=True)
        with_tiny = tour(suite, directory, "--model-file", tiny)
    with drive.scratch() as directory:
        return tour(real, directory) | with_tiny


if __name__ == "__main__":
    drive.main(suite, body)
