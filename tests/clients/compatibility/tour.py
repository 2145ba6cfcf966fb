"""The official Python client of OpenAI through every feature that the gateway has."""

import base64
import io
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer

import openai

import studio as studio_module
from board import NETWORK, Cases

tour = Cases("openai (Python)")
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
TOOL = {"type": "function",
        "function": {"name": "look_up", "description": "Looks a place up.", "parameters": CITY}}  # fmt: skip
FORCED = {"type": "function", "function": {"name": "look_up"}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "c", "strict": True, "schema": CITY}}


def check(condition, *what):
    if not condition:
        raise AssertionError(" ".join(str(part) for part in what)[:600])


def equal(got, wanted, what=""):
    check(got == wanted, f"{what}: got {got!r}, wanted {wanted!r}")


def user(target, **more):
    more = {"api_key": "none", "max_retries": 0, "timeout": 60, **more}
    return openai.OpenAI(base_url=target.url, **more)


def ask(target, **members):
    members = {"max_tokens": 24, "messages": HELLO, "seed": 7, **members}
    return user(target).chat.completions.create(model=target.model, **members)


def text_of(chunks):
    return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)


def fits(text):
    value = json.loads(text)
    equal(sorted(value), ["city", "days"], text)
    check(len(value["city"]) <= 10 and 1 <= value["days"] <= 9, text)


def refused(kind, call):
    try:
        call()
    except kind as refusal:
        return refusal
    raise AssertionError("answered")


@tour.case("a whole answer with usage")
def whole(target):
    answer = ask(target)
    choice = answer.choices[0]
    equal((choice.message.role, answer.object, choice.index), ("assistant", "chat.completion", 0))
    check(answer.id.startswith("chatcmpl-") and choice.finish_reason in ("stop", "length"), answer)
    usage = answer.usage
    equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens, "total")
    check(0 < usage.completion_tokens <= 24, usage)
    # Required by OpenAI's schema although null.
    raw = json.loads(user(target).chat.completions.with_raw_response.create(
        model=target.model, messages=HELLO, max_tokens=4).text)  # fmt: skip
    check(raw["choices"][0]["logprobs"] is None, raw)
    check(raw["choices"][0]["message"]["refusal"] is None, raw)


@tour.case("a stream says the same, and hides usage that nobody asked for")
def stream(target):
    still = {"temperature": 0, "max_tokens": 20}
    chunks = list(ask(target, stream=True, **still))
    equal(text_of(chunks), ask(target, **still).choices[0].message.content, "text")
    check(chunks[0].choices[0].delta.role == "assistant", chunks[0])
    equal([c.usage for c in chunks if c.usage], [], "usage")
    equal([c for c in chunks if c.choices and c.choices[0].finish_reason][-1], chunks[-1], "last")


@tour.case("stream_options: usage is null in every chunk but the last")
def stream_usage(target):
    raw = user(target).chat.completions.with_streaming_response.create(
        model=target.model, messages=HELLO, max_tokens=8, stream=True,
        stream_options={"include_usage": True})  # fmt: skip
    with raw as answer:
        data = [line[6:] for line in answer.iter_lines() if line.startswith("data: ")]
    equal(data[-1], "[DONE]", "end")
    chunks = [json.loads(text) for text in data[:-1]]
    check(all("usage" in chunk for chunk in chunks), chunks)
    check(all(chunk["usage"] is None for chunk in chunks[:-1]), chunks)
    equal(chunks[-1]["choices"], [], "last choices")
    check(chunks[-1]["usage"]["completion_tokens"] > 0, chunks[-1])


@tour.case("n choices, whole and streamed")
def choices(target):
    warm = {"n": 2, "temperature": 1.0}
    equal([choice.index for choice in ask(target, **warm).choices], [0, 1], "choices")
    chunks = ask(target, stream=True, **warm)
    equal({choice.index for chunk in chunks for choice in chunk.choices}, {0, 1}, "streamed")


@tour.case("a seed repeats an answer; stop ends it, as a string, as a list, never leaking")
def stops(target):
    warm = {"temperature": 1.1, "max_tokens": 40}
    first = ask(target, **warm).choices[0].message.content
    equal(ask(target, **warm).choices[0].message.content, first, "again")
    word = first[len(first) // 2 :][:3]
    for stop in (word, [word, "\u2603"]):
        stopped = ask(target, stop=stop, **warm).choices[0]
        equal(stopped.message.content, first.split(word)[0], "before the stop word")
        equal(stopped.finish_reason, "stop", "finish")
    equal(text_of(ask(target, stop=word, stream=True, **warm)), first.split(word)[0], "streamed")


@tour.case("logprobs and top_logprobs, whole and streamed")
def logprobs(target):
    members = {"logprobs": True, "top_logprobs": 3, "max_tokens": 5}
    answer = ask(target, **members)
    entries = answer.choices[0].logprobs.content
    equal(len(entries), answer.usage.completion_tokens, "entries")
    check(all(entry.logprob <= 0 and len(entry.top_logprobs) == 3 for entry in entries), entries)
    pieces = [entry for chunk in ask(target, stream=True, **members) for choice in chunk.choices
              if choice.logprobs for entry in choice.logprobs.content]  # fmt: skip
    equal([piece.token for piece in pieces], [entry.token for entry in entries], "streamed")


@tour.case("sampling parameters: logit_bias, penalties, max_completion_tokens, user, metadata")
def sampling(target):
    answer = ask(target, logit_bias={"100": -100}, frequency_penalty=0.5, presence_penalty=0.5,
                 top_p=0.9, user="u", metadata={"a": "b"}, store=False)  # fmt: skip
    check(answer.choices[0].message.content is not None, answer)
    short = user(target).chat.completions.create(
        model=target.model, messages=HELLO, max_completion_tokens=3)  # fmt: skip
    check(short.usage.completion_tokens <= 3, short.usage)


@tour.case("a JSON schema is kept, whole, streamed, and by the client's own parser")
def schema(target):
    import pydantic

    answer = ask(target, response_format=SCHEMA, max_tokens=300)
    fits(answer.choices[0].message.content)
    fits(text_of(ask(target, response_format=SCHEMA, max_tokens=300, stream=True)))
    City = pydantic.create_model("City", days=(int, ...))
    parsed = user(target).chat.completions.parse(
        model=target.model, messages=HELLO, response_format=City, max_tokens=300, seed=7)  # fmt: skip
    check(isinstance(parsed.choices[0].message.parsed.days, int), parsed)


@tour.case("JSON mode")
def json_mode(target):
    messages = [{"role": "user", "content": "Answer with a JSON object: your name."}]
    answer = ask(target, messages=messages, response_format={"type": "json_object"}, max_tokens=300)
    check(isinstance(json.loads(answer.choices[0].message.content), dict), answer)


@tour.case("tools: a named function is called, whole and streamed")
def tools(target):
    members = {"tools": [TOOL], "tool_choice": FORCED, "max_tokens": 300}
    choice = ask(target, **members).choices[0]
    call = choice.message.tool_calls[0]
    equal((call.type, call.function.name), ("function", "look_up"), "call")
    fits(call.function.arguments)
    pieces = [piece for chunk in ask(target, stream=True, **members) for choice in chunk.choices
              for piece in choice.delta.tool_calls or []]  # fmt: skip
    check(pieces[0].id and pieces[0].function.name == "look_up", pieces[0])
    equal("".join(piece.function.arguments or "" for piece in pieces), call.function.arguments)


@tour.case("tool_choice required and none; parallel calls by index")
def tool_choice(target):
    other = {"type": "function", "function": {"name": "other", "parameters": CITY}}
    members = {"tools": [TOOL, other], "max_tokens": 400}
    choice = ask(target, tool_choice="required", **members).choices[0]
    equal(choice.finish_reason, "tool_calls", "finish")
    check(choice.message.tool_calls[0].function.name in ("look_up", "other"), choice)
    none = ask(target, tool_choice="none", **members).choices[0]
    check(not none.message.tool_calls, none)
    chunks = list(ask(target, tool_choice="required", parallel_tool_calls=True, stream=True, **members))
    calls = {}
    for piece in (p for c in chunks for ch in c.choices for p in ch.delta.tool_calls or []):
        calls[piece.index] = calls.get(piece.index, "") + (piece.function.arguments or "")
    equal(sorted(calls), list(range(len(calls))), "indices")
    for index in sorted(calls)[:-1]:  # the last one may be cut by the limit
        fits(calls[index])


@tour.case("the result of a tool goes back: content null, role tool, parts")
def tool_result(target):
    call = {"id": "call_1", "type": "function",
            "function": {"name": "look_up", "arguments": '{"city":"Bern","days":2}'}}  # fmt: skip
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Look Bern up."}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "sunny"}]},
    ]
    answer = ask(target, messages=messages, tools=[TOOL])
    check(answer.choices[0].message.content is not None or answer.choices[0].message.tool_calls)


class Gallery(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(studio_module.DOT)))
        self.end_headers()
        self.wfile.write(studio_module.DOT)


@tour.case("pictures as data and by address, two in one message, streamed")
def pictures(target):
    gallery = HTTPServer(("127.0.0.1", 0), Gallery)
    threading.Thread(target=gallery.serve_forever, daemon=True).start()
    big = b"\xff\xd8\xff" + bytes(range(256)) * 4000
    urls = [f"http://127.0.0.1:{gallery.server_address[1]}/dot.png",
            "data:image/jpeg;base64," + base64.b64encode(big).decode()]  # fmt: skip
    parts = [{"type": "image_url", "image_url": {"url": url, "detail": "low"}} for url in urls]
    messages = [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, *parts]}]
    answer = ask(target, messages=messages).choices[0].message.content
    for picture in (studio_module.DOT, big):
        check(studio_module.seen(picture) in answer, answer)
    equal(text_of(ask(target, messages=messages, stream=True)), answer, "streamed")
    gallery.shutdown()


@tour.case("completions: whole, streamed, several prompts, echo and logprobs")
def completions(target):
    ask = lambda **members: user(target).completions.create(  # noqa: E731
        **{"model": target.model, "prompt": "One, two,", "max_tokens": 8, "seed": 7, **members})
    answer = ask()
    equal(answer.object, "text_completion", "object")
    streamed = "".join(c.choices[0].text for c in ask(stream=True) if c.choices)
    equal(streamed, answer.choices[0].text, "streamed")
    equal(len(ask(prompt=["One,", "Two,"]).choices), 2, "prompts")
    echoed = ask(echo=True, logprobs=2, max_tokens=2).choices[0]
    check(echoed.text.startswith("One, two,"), echoed)
    check(len(echoed.logprobs.tokens) == len(echoed.logprobs.token_logprobs) > 2, echoed)


@tour.case("embeddings, as numbers and as base64")
def embeddings(target):
    answer = user(target).embeddings.create(model=target.model, input=["one", "another"])
    vectors = [entry.embedding for entry in answer.data]
    check(len(vectors) == 2 and len(vectors[0]) == len(vectors[1]) > 8, "vectors")
    check(all(abs(sum(x * x for x in vector) - 1) < 1e-3 for vector in vectors), "unit length")
    plain = user(target).embeddings.create(
        model=target.model, input="one", encoding_format="float").data[0].embedding  # fmt: skip
    check(max(abs(a - b) for a, b in zip(plain, vectors[0])) < 1e-2, "the same either way")


@tour.case("models: list and retrieve")
def models(target):
    entries = {entry.id: entry for entry in user(target).models.list()}
    check(target.model in entries, entries)
    equal(user(target).models.retrieve(target.model).id, target.model, "retrieved")
    if target.name == NETWORK:
        entry = entries[target.model].model_dump()
        check(entry["context_length"] > 500 and entry["tools"] is True, entry)
        equal(entry["modalities"]["input"], ["text", "image", "audio"], "modalities")
        equal(entry["tee_kinds"], ["simulated"], "kinds")
        check(len(entry["workers"]) >= 1, entry)
        for side in ("in", "out"):
            check(entry["price_per_million_tokens"][side]["text"].endswith(" TON"), entry)
    refused(openai.NotFoundError, lambda: user(target).models.retrieve("no-such-model"))


@tour.case("responses: whole, instructions, conversation, JSON schema")
def responses(target):
    create = user(target).responses.create
    answer = create(model=target.model, input="Say hello.", instructions="Be brief.",
                    max_output_tokens=300)  # fmt: skip
    equal((answer.object, answer.status), ("response", "completed"), "state")
    check(answer.output_text and answer.usage.output_tokens > 0, answer)
    turns = [{"role": "user", "content": "I am Ann."}, {"role": "assistant", "content": "Hi Ann."},
             {"role": "user", "content": [{"type": "input_text", "text": "Who am I?"}]}]  # fmt: skip
    check(create(model=target.model, input=turns, max_output_tokens=16).output_text is not None)
    form = {"format": {"type": "json_schema", "name": "c", "strict": True, "schema": CITY}}
    fits(create(model=target.model, input="Where?", text=form, max_output_tokens=300).output_text)


@tour.case("responses: the events of a stream, in their order")
def responses_stream(target):
    events = list(user(target).responses.create(
        model=target.model, input="Say hello.", stream=True, max_output_tokens=300))  # fmt: skip
    kinds = [event.type for event in events]
    equal(kinds[:2], ["response.created", "response.in_progress"], "begin")
    equal([event.sequence_number for event in events], list(range(len(events))), "numbers")
    said = "".join(e.delta for e in events if e.type == "response.output_text.delta")
    equal(kinds[-1], "response.completed", "end")
    equal(events[-1].response.output_text, said, "text")
    for kind in ("response.output_item.added", "response.content_part.added",
                 "response.output_text.done", "response.output_item.done"):  # fmt: skip
        check(kind in kinds, kind, kinds)


@tour.case("responses: tools, their events, and their results")
def responses_tools(target):
    tool = {"type": "function", "name": "look_up", "parameters": CITY, "strict": True}
    members = {"model": target.model, "input": "Look Bern up.", "tools": [tool],
               "tool_choice": "required", "max_output_tokens": 300}  # fmt: skip
    answer = user(target).responses.create(**members)
    call = next(item for item in answer.output if item.type == "function_call")
    fits(call.arguments)
    events = list(user(target).responses.create(stream=True, **members))
    pieces = [e.delta for e in events if e.type == "response.function_call_arguments.delta"]
    fits("".join(pieces))
    turns = [{"role": "user", "content": "Look Bern up."}, call.model_dump(),
             {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}]  # fmt: skip
    after = user(target).responses.create(
        model=target.model, input=turns, tools=[tool], max_output_tokens=32)  # fmt: skip
    check(after.output, after)


@tour.case("audio: transcriptions as JSON and text, speech")
def audio(target):
    sound = user(target).audio.speech.create(model=target.model, voice="alloy", input="Hi!").content
    equal(studio_module.spoken("Hi!"), sound, "speech")
    listen = user(target).audio.transcriptions.create
    heard = listen(model=target.model, file=("a.wav", io.BytesIO(sound)))
    equal(heard.text, f"I heard a {studio_module.seen(sound)}.", "heard")
    text = listen(model=target.model, file=("a.wav", io.BytesIO(sound)), response_format="text")
    equal(str(text).strip(), heard.text, "as text")


@tour.case("images are made")
def images(target):
    answer = user(target).images.generate(model=target.model, prompt="a red dot")
    equal(base64.b64decode(answer.data[0].b64_json), studio_module.DOT, "picture")


@tour.case("mistakes are told: model, types, ranges, JSON")
def errors(target):
    refusal = refused(openai.NotFoundError, lambda: user(target).chat.completions.create(
        model="no-such-model", messages=HELLO))  # fmt: skip
    equal((refusal.code, refusal.param), ("model_not_found", "model"), "unknown model")
    for members in ({"messages": "hi"}, {"temperature": "hot"}, {"max_tokens": -1},
                    {"messages": []}, {"stream": "yes"}):  # fmt: skip
        refusal = refused(openai.BadRequestError, lambda m=members: ask(target, **m))
        check(refusal.param and refusal.body["message"] and refusal.type, members, refusal.body)
    raw = user(target)._client.post(
        target.url + "/chat/completions", content=b"{", headers={"content-type": "application/json"})
    equal(raw.status_code, 400, "no JSON")
    check(set(raw.json()["error"]) >= {"message", "type", "param", "code"}, raw.text)


@tour.case("the client's own timeout ends a request")
def timeouts(target):
    slow = user(target, timeout=0.05)
    # Long enough that a busy machine does not have it ready when the client looks again.
    refused(openai.APITimeoutError, lambda: slow.chat.completions.create(
        model=target.model, messages=HELLO, max_tokens=250, temperature=1.5, n=8))  # fmt: skip
    ask(target, max_tokens=2)


@tour.case("many at once, on one client")
def together(target):
    client = user(target)
    one = lambda seed: client.chat.completions.create(  # noqa: E731
        model=target.model, messages=HELLO, max_tokens=8, seed=seed).usage.completion_tokens
    with ThreadPoolExecutor(12) as pool:
        check(all(0 < count <= 8 for count in pool.map(one, range(12))))


@tour.case("unknown members reach the model server", only=NETWORK)
def unknown_members(target):
    ask(target, extra_body={"min_p": 0.1, "something_new": {"a": [1]}})
    seen = json.loads(target.studio.last("/v1/chat/completions"))
    equal((seen["min_p"], seen["something_new"]), (0.1, {"a": [1]}), "members")


@tour.case("the network's wishes in headers and body, cost and worker in the answer", only=NETWORK)
def wishes(target):
    create = user(target).chat.completions.with_raw_response.create
    members = {"model": target.model, "messages": HELLO, "max_tokens": 4}
    answer = create(**members, extra_headers={"x-cocoon-max-coefficient": "4000",
                                              "x-cocoon-timeout": "30", "x-request-id": "mine-1"},
                    extra_body={"cocoon": {"report": True, "tee": ["simulated"]}})  # fmt: skip
    equal(answer.headers["x-request-id"], "mine-1", "request id")
    check(int(answer.headers["x-cocoon-cost-nanoton"]) > 0, answer.headers)
    equal(answer.headers["x-cocoon-tee"], "simulated", "kind")
    report = json.loads(answer.text)["cocoon"]
    equal(str(report["cost_nanoton"]), answer.headers["x-cocoon-cost-nanoton"], "cost")
    check(report["usage"]["completion_tokens"] > 0, report)
    check("cocoon" not in json.loads(target.studio.last("/v1/chat/completions")), "travelled on")
    for wish in ({"tee": ["tdx"]}, {"max_coefficient": -1}, {"nonsense": 1}):
        refused(openai.BadRequestError, lambda w=wish: create(**members, extra_body={"cocoon": w}))
    refusal = refused(openai.APIStatusError, lambda: create(
        **members, extra_body={"cocoon": {"max_coefficient": 1}}))  # fmt: skip
    equal((refusal.status_code, refusal.code), (402, "price_cap_too_low"), "price cap")
    late = refused(openai.APIStatusError, lambda: create(
        **{**members, "max_tokens": 400}, extra_headers={"x-cocoon-timeout": "0.05"}))  # fmt: skip
    equal((late.status_code, late.code), (504, "timeout"), "deadline")


@tour.case("an idempotency key never pays twice", only=NETWORK)
def idempotency(target):
    create = user(target).chat.completions.with_raw_response.create
    members = {"model": target.model, "messages": HELLO, "max_tokens": 16, "temperature": 1.5,
               "extra_headers": {"idempotency-key": f"k-{time.time_ns()}"}}  # fmt: skip
    before = target.network.books()["proxy"]
    first = create(**members)
    spent = target.network.books()["proxy"] - before
    check(spent > 0, "nothing was booked")
    equal(create(**members).text, first.text, "the same answer")
    equal(target.network.books()["proxy"] - before, spent, "booked once")
    other = {**members, "max_tokens": 17}
    refused(openai.UnprocessableEntityError, lambda: create(**other))


@tour.case("files and batches: upload, run, read, delete", only=NETWORK)
def batches(target):
    client = user(target)
    body = {"model": target.model, "messages": HELLO, "max_tokens": 8}
    lines = [{"custom_id": f"r{index}", "method": "POST", "url": "/v1/chat/completions",
              "body": body if index < 3 else {**body, "model": "no-such-model"}}
             for index in range(4)]  # fmt: skip
    text = "\n".join(json.dumps(line) for line in lines).encode()
    file = client.files.create(file=("in.jsonl", io.BytesIO(text)), purpose="batch")
    equal(client.files.content(file.id).content, text, "kept")
    batch = client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")  # fmt: skip
    deadline = time.monotonic() + 60
    while batch.status not in ("completed", "failed", "expired"):
        check(time.monotonic() < deadline, batch)
        time.sleep(0.1)
        batch = client.batches.retrieve(batch.id)
    counts = batch.request_counts
    equal((counts.completed, counts.failed, counts.total), (3, 1, 4), "counts")
    results = [json.loads(line) for line in client.files.content(batch.output_file_id).text.splitlines()]
    equal(sorted(result["custom_id"] for result in results), ["r0", "r1", "r2"], "answers")
    check(all(result["response"]["body"]["usage"] for result in results), results)
    check(batch.id in [entry.id for entry in client.batches.list()], "list")
    client.files.delete(file.id)
    refused(openai.NotFoundError, lambda: client.files.retrieve(file.id))


@tour.case("streams that are closed stop the model", only=NETWORK)
def closed(target):
    stream = ask(target, stream=True, max_tokens=400, temperature=1.5)
    next(iter(stream))
    stream.close()
    deadline = time.monotonic() + 20
    while target.network.books()["reserved"]:
        check(time.monotonic() < deadline, "still reserved")
        time.sleep(0.05)
