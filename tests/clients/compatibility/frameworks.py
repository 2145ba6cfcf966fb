"""Frameworks, each with a tool call and a structured answer: frameworks.py URL MODEL

Run with the environment of `requirements.txt`; prints a JSON object for each case.
"""

import asyncio
import json
import os
import sys
import traceback

os.environ.update(
    LITELLM_LOCAL_MODEL_COST_MAP="True", OPENAI_API_KEY="none", OPENAI_AGENTS_DISABLE_TRACING="1",
    LITELLM_LOG="ERROR",
)  # fmt: skip
URL, MODEL = sys.argv[1:3]
from typing import Annotated  # noqa: E402

from pydantic import BaseModel, Field  # noqa: E402

QUESTION = "What is the weather in Bern?"
SHORT = Annotated[str, Field(max_length=10)]


class Weather(BaseModel):
    """How the weather is."""

    city: SHORT
    degrees: Annotated[int, Field(ge=-50, le=60)]


PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 10}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": PARAMETERS}}
CASES = []


def case(title):
    def add(function):
        CASES.append((title, function))
        return function

    return add


def called(name, arguments):
    assert name == "get_weather", name
    value = json.loads(arguments) if isinstance(arguments, str) else arguments
    assert isinstance(value["city"], str), arguments


def weather_of(value):
    assert isinstance(value, Weather) and -50 <= value.degrees <= 60, value


@case("litellm: tool call")
def litellm_tool():
    import litellm

    answer = litellm.completion(
        model=f"openai/{MODEL}", api_base=URL, messages=[{"role": "user", "content": QUESTION}],
        tools=[TOOL], tool_choice="required", max_tokens=200, num_retries=0,
    )  # fmt: skip
    function = answer.choices[0].message.tool_calls[0].function
    called(function.name, function.arguments)


@case("litellm: structured answer, streamed text")
def litellm_structured():
    import litellm

    ask = dict(model=f"openai/{MODEL}", api_base=URL, max_tokens=200, num_retries=0,
               messages=[{"role": "user", "content": QUESTION}])  # fmt: skip
    schema = {"name": "w", "strict": True, "schema": {**Weather.model_json_schema(),
              "additionalProperties": False}}  # fmt: skip
    answer = litellm.completion(**ask, response_format={"type": "json_schema", "json_schema": schema})
    weather_of(Weather.model_validate_json(answer.choices[0].message.content))
    chunks = list(litellm.completion(**ask, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks), chunks


@case("instructor: structured answer by tool call")
def instructor_tool():
    import instructor
    import openai

    client = instructor.from_openai(openai.OpenAI(base_url=URL, api_key="none"))
    weather_of(client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": QUESTION}], response_model=Weather,
        max_tokens=200, max_retries=0))  # fmt: skip


@case("instructor: structured answer by JSON schema")
def instructor_schema():
    import instructor
    import openai

    client = instructor.from_openai(
        openai.OpenAI(base_url=URL, api_key="none"), mode=instructor.Mode.JSON_SCHEMA)  # fmt: skip
    weather_of(client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": QUESTION}], response_model=Weather,
        max_tokens=200, max_retries=0))  # fmt: skip


def pydantic_model():
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    return OpenAIChatModel(MODEL, provider=OpenAIProvider(base_url=URL, api_key="none"))


@case("pydantic-ai: structured answer by tool call")
def pydantic_tool():
    from pydantic_ai import Agent

    agent = Agent(pydantic_model(), output_type=Weather, model_settings={"max_tokens": 200})
    weather_of(agent.run_sync(QUESTION).output)


@case("pydantic-ai: structured answer by JSON schema, and a tool that is called")
def pydantic_schema():
    from pydantic_ai import Agent, NativeOutput
    from pydantic_ai.direct import model_request_sync
    from pydantic_ai.messages import ModelRequest, ToolCallPart
    from pydantic_ai.models import ModelRequestParameters
    from pydantic_ai.tools import ToolDefinition

    agent = Agent(pydantic_model(), output_type=NativeOutput(Weather),
                  model_settings={"max_tokens": 200})  # fmt: skip
    weather_of(agent.run_sync(QUESTION).output)
    tool = ToolDefinition(name="get_weather", parameters_json_schema=PARAMETERS)
    answer = model_request_sync(
        pydantic_model(), [ModelRequest.user_text_prompt(QUESTION)],
        model_settings={"max_tokens": 200},
        model_request_parameters=ModelRequestParameters(
            function_tools=[tool], allow_text_output=False),
    )  # fmt: skip
    part = next(part for part in answer.parts if isinstance(part, ToolCallPart))
    called(part.tool_name, part.args)


def agents(api):
    import agents as library
    import openai

    library.set_tracing_disabled(True)
    client = openai.AsyncOpenAI(base_url=URL, api_key="none")
    kind = {"chat": library.OpenAIChatCompletionsModel, "responses": library.OpenAIResponsesModel}
    seen = []

    @library.function_tool
    def get_weather(city: SHORT) -> str:
        """The weather of a city."""
        seen.append(city)
        return "sunny"

    shared = dict(name="a", model=kind[api](model=MODEL, openai_client=client))
    caller = library.Agent(
        **shared, tools=[get_weather], tool_use_behavior="stop_on_first_tool",
        model_settings=library.ModelSettings(tool_choice="required", max_tokens=200))  # fmt: skip
    result = library.Runner.run_sync(caller, QUESTION)
    assert seen and result.final_output == "sunny", (seen, result.final_output)
    writer = library.Agent(
        **shared, output_type=Weather, model_settings=library.ModelSettings(max_tokens=200))  # fmt: skip
    weather_of(library.Runner.run_sync(writer, QUESTION).final_output)


@case("openai-agents over chat completions: tool that runs, structured answer")
def agents_chat():
    agents("chat")


@case("openai-agents over responses: tool that runs, structured answer")
def agents_responses():
    agents("responses")


@case("anthropic: whole, streamed, system, stop sequences")
def anthropic_text():
    import anthropic

    client = anthropic.Anthropic(base_url=URL.removesuffix("/v1"), api_key="none", max_retries=0)
    ask = dict(model=MODEL, max_tokens=40, system="Be brief.", extra_body={"temperature": 0},
               messages=[{"role": "user", "content": "Say hello."}])  # fmt: skip
    answer = client.messages.create(**ask)
    assert answer.type == "message" and answer.content[0].text, answer
    assert answer.usage.input_tokens > 0 and answer.usage.output_tokens > 0, answer.usage
    with client.messages.stream(**ask) as stream:
        text = "".join(stream.text_stream)
        last = stream.get_final_message()
    assert text == answer.content[0].text, (text, answer.content)
    assert last.stop_reason == answer.stop_reason, (last, answer)
    word = text[len(text) // 2 :][:2]
    stopped = client.messages.create(**ask, stop_sequences=[word])
    assert stopped.content[0].text == text.split(word)[0], stopped


@case("anthropic: tools whole and streamed, results, pictures, errors")
def anthropic_tools():
    import anthropic

    client = anthropic.Anthropic(base_url=URL.removesuffix("/v1"), api_key="none", max_retries=0)
    tool = {"name": "get_weather", "description": "Weather.", "input_schema": PARAMETERS}
    ask = dict(model=MODEL, max_tokens=200, tools=[tool], tool_choice={"type": "any"})
    question = {"role": "user", "content": QUESTION}
    answer = client.messages.create(**ask, messages=[question])
    call = next(block for block in answer.content if block.type == "tool_use")
    called(call.name, call.input)
    assert answer.stop_reason == "tool_use", answer
    with client.messages.stream(**ask, messages=[question]) as stream:
        last = stream.get_final_message()
    called(last.content[-1].name, last.content[-1].input)
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "sunny"}
    after = client.messages.create(
        model=MODEL, max_tokens=32, tools=[tool],
        messages=[question, {"role": "assistant", "content": answer.content},
                  {"role": "user", "content": [result]}])  # fmt: skip
    assert after.content, after
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/gif",
               "data": "R0lGODlhAQABAAAAACw="}}  # fmt: skip
    seen = client.messages.create(
        model=MODEL, max_tokens=32, messages=[{"role": "user", "content": [picture]}])  # fmt: skip
    assert "gif of 14 bytes" in seen.content[0].text, seen
    try:
        client.messages.create(model="no-such-model", max_tokens=1, messages=[question])
        raise AssertionError("answered")
    except anthropic.NotFoundError as refusal:
        assert refusal.body["error"]["type"] == "not_found_error", refusal.body


def main():
    for title, function in CASES:
        result = {"case": title, "outcome": "passed"}
        try:
            function()
        except Exception as fault:
            where = traceback.extract_tb(fault.__traceback__)[-1]
            result["outcome"] = "failed"
            result["why"] = f"{type(fault).__name__}: {str(fault)[:500]} ({where.filename}:{where.lineno})"
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    asyncio.set_event_loop(asyncio.new_event_loop())
    main()
