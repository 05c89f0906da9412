"""The official Python client against a running turnout: one function per promise.

Reads TURNOUT_URL (…/v1), TURNOUT_MODEL (served by the scripted vendor) and TURNOUT_DIALECT. Prints one line
per scenario and ends with status 1 if any failed. The vendor's script stands in tests/tests/it/sdk.rs.
"""

import asyncio
import json
import os
import sys
import traceback

import openai
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

URL = os.environ["TURNOUT_URL"]
MODEL = os.environ["TURNOUT_MODEL"]
PROVIDER = MODEL.split("/")[0]  # whose other models fail as their names say
DIALECT = os.environ["TURNOUT_DIALECT"]
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "unit": {"type": "string"}},
            "required": ["city"],
        },
    },
}
CITY = {
    "type": "json_schema",
    "json_schema": {
        "name": "city",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "population": {"type": "integer"}},
            "required": ["city", "population"],
            "additionalProperties": False,
        },
    },
}


class City(BaseModel):
    city: str
    population: int


class GetWeather(BaseModel):
    """The weather in a city"""

    city: str
    unit: str


def client(answers=None, **settings):
    """A client whose every HTTP answer is noted in `answers`."""
    hooks = {"response": [answers.append]} if answers is not None else {}
    http = openai.DefaultHttpxClient(event_hooks=hooks)
    return OpenAI(base_url=URL, api_key="unused", http_client=http, timeout=30, **settings)


def say(text, **more):
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], **more}


def plain():
    answer = client().chat.completions.create(**say("greet me"))
    assert answer.choices[0].message.content == "Hello there, friend", answer
    assert answer.choices[0].message.role == "assistant", answer
    assert answer.choices[0].finish_reason == "stop", answer
    assert answer.object == "chat.completion" and answer.id, answer
    assert answer.model == MODEL, answer.model
    assert answer._request_id, "x-request-id is missing"
    usage = answer.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (20, 5, 25), usage
    assert usage.prompt_tokens_details.cached_tokens == 8, usage


def auto():
    answer = client().chat.completions.create(**{**say("greet me"), "model": "auto"})
    assert answer.choices[0].message.content == "Hello there, friend", answer
    assert answer.model == MODEL, answer.model


def stream():
    chunks = list(client().chat.completions.create(**say("greet me", stream=True)))
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == "Hello there, friend", text
    assert chunks[0].choices[0].delta.role == "assistant", chunks[0]
    assert sum(1 for c in chunks if c.choices and c.choices[0].delta.content) >= 3, "it came in one piece"
    ends = [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason]
    assert ends == ["stop"], ends
    assert len({c.id for c in chunks}) == 1, "the id changes within the stream"
    assert all(c.usage is None for c in chunks), "usage nobody asked for"


def stream_usage():
    options = {"include_usage": True}
    chunks = list(client().chat.completions.create(**say("greet me", stream=True, stream_options=options)))
    last = chunks[-1]
    assert last.choices == [], last
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (20, 5), last.usage
    assert last.usage.prompt_tokens_details.cached_tokens == 8, last.usage
    assert all(c.usage is None for c in chunks[:-1]), "usage before the last chunk"


def tools():
    api = client()
    question = {"role": "user", "content": "what is the weather"}
    first = api.chat.completions.create(model=MODEL, messages=[question], tools=[WEATHER])
    assert first.choices[0].finish_reason == "tool_calls", first
    (call,) = first.choices[0].message.tool_calls
    assert call.type == "function" and call.id and call.function.name == "get_weather", call
    assert json.loads(call.function.arguments) == {"city": "Paris", "unit": "celsius"}, call
    turn = [question, first.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "sunny-17"}]
    second = api.chat.completions.create(model=MODEL, messages=turn, tools=[WEATHER])
    assert second.choices[0].message.content == "The tool said sunny-17", second


def tools_stream():
    body = say("what is the weather, twice", stream=True, tools=[WEATHER], parallel_tool_calls=True)
    calls, ends, role = {}, [], None
    for chunk in client().chat.completions.create(**body):
        if not chunk.choices:
            continue
        choice = chunk.choices[0]
        role = role or choice.delta.role
        if choice.finish_reason:
            ends.append(choice.finish_reason)
        for piece in choice.delta.tool_calls or []:
            if piece.index not in calls:
                assert piece.id and piece.type == "function" and piece.function.name, piece
                calls[piece.index] = {"id": piece.id, "name": piece.function.name, "arguments": ""}
            else:
                assert not piece.id and not piece.function.name, f"named twice: {piece}"
            calls[piece.index]["arguments"] += piece.function.arguments or ""
    assert role == "assistant" and ends == ["tool_calls"], (role, ends)
    assert sorted(calls) == [0, 1], calls
    assert [json.loads(calls[i]["arguments"])["city"] for i in (0, 1)] == ["Paris", "Oslo"], calls
    assert calls[0]["id"] != calls[1]["id"], calls


def schema():
    answer = client().chat.completions.create(**say("Paris as json", response_format=CITY))
    assert json.loads(answer.choices[0].message.content) == {"city": "Paris", "population": 2100000}, answer


def schema_stream():
    text = ""
    for chunk in client().chat.completions.create(**say("Paris as json", response_format=CITY, stream=True)):
        text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
    assert json.loads(text) == {"city": "Paris", "population": 2100000}, text


def parsed():
    # The SDK's own helpers: they make the schema from a class, and an object of the answer.
    answer = client().chat.completions.parse(**say("Paris as json", response_format=City))
    assert answer.choices[0].message.parsed == City(city="Paris", population=2100000), answer
    assert answer.choices[0].message.refusal is None, answer
    with client().chat.completions.stream(**say("Paris as json", response_format=City)) as events:
        kinds = [event.type for event in events]
        final = events.get_final_completion()
    assert final.choices[0].message.parsed == City(city="Paris", population=2100000), final
    assert kinds.count("content.delta") >= 1 and kinds.count("content.done") == 1, kinds


def parsed_tools():
    tool = openai.pydantic_function_tool(GetWeather, name="get_weather")
    with client().chat.completions.stream(**say("what is the weather", tools=[tool])) as events:
        kinds = [event.type for event in events]
        streamed = events.get_final_completion()
    whole = client().chat.completions.parse(**say("what is the weather", tools=[tool]))
    assert kinds.count("tool_calls.function.arguments.done") == 1, kinds
    for answer in (streamed, whole):
        assert answer.choices[0].finish_reason == "tool_calls", answer
        (call,) = answer.choices[0].message.tool_calls
        assert call.function.parsed_arguments == GetWeather(city="Paris", unit="celsius"), call


def cut_short():
    # Helpers refuse to make an object of an answer that is not whole.
    if DIALECT != "openai_chat":
        return  # the script has the words of this dialect alone
    try:
        client().chat.completions.parse(**say("cut short as json", response_format=City))
    except openai.LengthFinishReasonError as error:
        assert error.completion.choices[0].finish_reason == "length", error.completion
    else:
        raise AssertionError("half of an object was parsed")


def raw_response():
    raw = client().chat.completions.with_raw_response.create(**say("greet me"))
    assert raw.headers["content-type"] == "application/json", dict(raw.headers)
    assert raw.headers["x-request-id"] == raw.request_id and raw.headers["x-turnout-model"] == MODEL, dict(raw.headers)
    assert raw.parse().choices[0].message.content == "Hello there, friend", raw.text
    create = client().chat.completions.with_streaming_response.create
    with create(**say("greet me", stream=True)) as streaming:
        assert streaming.headers["content-type"].startswith("text/event-stream"), dict(streaming.headers)
        lines = [line for line in streaming.iter_lines() if line and not line.startswith(":")]
    assert all(line.startswith("data: ") for line in lines) and lines[-1] == "data: [DONE]", lines


def conversation():
    # Answers go back into the history as objects and as dictionaries with all that they hold.
    api = client()
    system = [{"type": "text", "text": "Be brief."}]
    turns = [{"role": "developer", "content": system}, {"role": "user", "content": "greet me"}]
    for back in (lambda m: m, lambda m: m.model_dump(), lambda m: m.to_dict()):
        answer = api.chat.completions.create(model=MODEL, messages=turns, stop=["\n\n"], seed=7, user="ada")
        assert answer.choices[0].message.content == "Hello there, friend", answer
        turns += [back(answer.choices[0].message), {"role": "user", "content": "greet me"}]


def images():
    parts = [
        {"type": "text", "text": "what is in this picture"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
    ]
    answer = client().chat.completions.create(model=MODEL, messages=[{"role": "user", "content": parts}])
    assert answer.choices[0].message.content == "I see one pixel", answer


def unknown_fields():
    # `routing` is ours and is obeyed; `x_custom` is nobody's and passes through (checked at the vendor).
    extra = {"x_custom": {"a": [1]}, "routing": {"tags": {"team": "blue"}, "explain": True}}
    answer = client().chat.completions.create(**say("greet me, custom", extra_body=extra))
    assert answer.choices[0].message.content == "Hello there, friend", answer
    assert answer.model_extra.get("turnout"), "explain adds a turnout object"


def stream_trailer():
    # What the run came to is a chunk without choices, behind all content, and only where it is asked for.
    def trailers(**more):
        chunks = list(client().chat.completions.create(**say("greet me", stream=True, **more)))
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        assert text == "Hello there, friend", text
        found = [i for i, c in enumerate(chunks) if (c.model_extra or {}).get("turnout")]
        return [chunks[i] for i in found], found == [len(chunks) - 1]

    assert trailers()[0] == []
    (trailer,), is_last = trailers(extra_body={"routing": {"explain": True}})
    assert trailer.choices == [] and is_last, trailer
    assert trailer.turnout["outcome"]["status"] == "delivered", trailer.turnout
    (trailer,), _ = trailers(extra_headers={"x-turnout-explain": "true"})
    assert trailer.choices == [], trailer


def errors():
    fails("greet me", openai.NotFoundError, 404, model="nobody/nothing")
    fails("greet me", openai.BadRequestError, 400, temperature="hot")
    fails("greet me", openai.BadRequestError, 400, extra_body={"routing": {"max_cost": 1}})
    fails("fail", openai.BadRequestError, 400, model=f"{PROVIDER}/fail-400")
    # Our own key is wrong: that is not the client's authentication.
    fails("fail", openai.InternalServerError, None, model=f"{PROVIDER}/fail-401")


def fails(text, exception, status, **more):
    """The request fails with that exception after exactly one HTTP request: nothing is worth a retry."""
    answers = []
    try:
        client(answers).chat.completions.create(**{**say(text), **more})
    except exception as error:
        assert status is None or error.status_code == status, error
        assert error.request_id, "no request id"
        assert error.body["message"] and error.body["type"], error.body
    else:
        raise AssertionError(f"{text}: no {exception.__name__}")
    flags = [a.headers.get("x-should-retry") for a in answers]
    assert flags == ["false"], f"{text}: {flags}"


def rate_limited():
    told_to_wait(openai.RateLimitError, "fail-429")


def unavailable():
    told_to_wait(openai.InternalServerError, "fail-503")


def told_to_wait(exception, name):
    """Whether the SDK asks again is what `x-should-retry` says, and nothing else."""
    answers = []
    try:
        client(answers, max_retries=1).chat.completions.create(**{**say("fail"), "model": f"{PROVIDER}/{name}"})
    except exception as error:
        assert error.response.headers.get("retry-after"), dict(error.response.headers)
        named = error.response.headers["x-turnout-decision"]
        assert error.body["metadata"]["decision"] == named, error.body
    else:
        raise AssertionError(f"no {exception.__name__}")
    asked_to = answers[0].headers["x-should-retry"] == "true"
    assert len(answers) == (2 if asked_to else 1), [dict(a.headers) for a in answers]


def broken_stream():
    got = ""
    try:
        for chunk in client().chat.completions.create(**{**say("greet me", stream=True), "model": f"{PROVIDER}/cut"}):
            got += (chunk.choices[0].delta.content or "") if chunk.choices else ""
    except openai.APIError as error:
        assert got, "the failure came before the first token"
        assert error.message, error
        assert error.body["metadata"]["decision"].startswith("req_"), error.body
    else:
        raise AssertionError(f"a cut stream ended cleanly after {got!r}")


def disconnect():
    stream = client().chat.completions.create(**say("slowly please", stream=True))
    for chunk in stream:
        if chunk.choices and chunk.choices[0].delta.content:
            break
    stream.close()  # that the vendor was cancelled is checked there


def many_streams():
    async def one(api, i):
        text = ""
        async for chunk in await api.chat.completions.create(**say(f"echo {i}", stream=True)):
            text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
        assert text == f"echo number {i}", (i, text)

    async def all_of_them():
        async with AsyncOpenAI(base_url=URL, api_key="unused", timeout=60) as api:
            await asyncio.gather(*(one(api, i) for i in range(64)))

    asyncio.run(all_of_them())


def models():
    names = [m.id for m in client().models.list()]
    assert "auto" in names and MODEL in names, names
    assert client().models.retrieve(MODEL).id == MODEL
    assert client().models.retrieve("auto").id == "auto"


def feedback():
    answer = client().chat.completions.create(**say("greet me"))
    body = {"request_id": answer._request_id, "score": 1.0, "source": "sdk"}
    reply = client().post("/feedback", body=body, cast_to=object)
    assert reply is not None


SCENARIOS = [
    plain, auto, stream, stream_usage, stream_trailer, tools, tools_stream, schema, schema_stream, parsed, parsed_tools,
    cut_short, raw_response, conversation, images, unknown_fields, errors, rate_limited, unavailable, broken_stream, disconnect, many_streams, models, feedback,
]  # fmt: skip


def main():
    failed = []
    for scenario in SCENARIOS:
        try:
            scenario()
            print("ok", scenario.__name__, flush=True)
        except Exception:
            failed.append(scenario.__name__)
            print("FAILED", scenario.__name__, traceback.format_exc(), sep="\n", flush=True)
    sys.exit(f"failed against {DIALECT}: {', '.join(failed)}" if failed else 0)


main()
