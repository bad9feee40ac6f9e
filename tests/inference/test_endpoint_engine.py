"""The endpoint engine against a server that speaks OpenAI's chat protocol: order, refusals, limits, cost, what it is asked."""

import json
import threading

import pytest

from nightshift.errors import BadEnvironment, BadInput
from nightshift.inference.endpoint_engine import EndpointEngine
from nightshift.settings.application import Application
from nightshift.settings.intake import Source

SOURCES = [Source(uri="rows.jsonl", columns={"prompt": "text", "answer": "answer"})]


def row(text, answer=None, tools=None, **turn):
    messages = [{"role": "user", "content": text}]
    if answer is not None:
        messages.append({"role": "assistant", "content": answer, **turn})
    return {"digest": f"digest of {text}", "messages": messages, "tools": tools}


def silent(_done, _of):
    pass


@pytest.fixture
def engine_at(serve):
    """A function that makes an engine and the server that it asks."""

    def make(reply, most=16, endpoint=None, **settings):
        server = serve(reply)
        where = {"url": server.url, "model": "hosted-1", "requests_at_once": 4, **(endpoint or {})}
        application = Application(**{"name": "bank", "sources": SOURCES, "inference": {"endpoint": where}, **settings})
        return EndpointEngine(application.inference.hosted.identity, application, max_new_tokens=most), server

    return make


def echo(body):
    return 200, f"you said {body['messages'][-1]['content']}"


def test_answers_come_in_the_order_of_the_rows_and_equal_ones_are_paid_once(engine_at):
    engine, server = engine_at(echo, endpoint={"price": {"input": 2, "output": 10}})
    rows = [row(str(number % 20)) for number in range(40)]
    done = []
    answers = engine.answer(rows, lambda now, of: done.append((now, of)))
    assert [answer.text for answer in answers] == [f"you said {number % 20}" for number in range(40)]
    assert len(server.requests) == 20
    assert done[-1] == (40, 40)
    # The server counts a token a word: one that is read, three that are written.
    assert sum(answer.paid for answer in answers) == pytest.approx(20 * (1 * 2 + 3 * 10) / 1e6)
    assert len({answer.cost for answer in answers}) == 1, "each counts with what it would cost"
    assert engine.about["served_as"] == ["hosted-1"]


def test_equal_texts_are_asked_apart_where_the_prompt_takes_other_metadata(engine_at):
    prompt = {"file": {"template": "{{$plan}}: {{$prompt}}", "input_variables": [{"name": "plan", "default": "new"}]}}
    sources = [{"uri": "rows.csv", "columns": {"prompt": "text", "metadata": ["plan"]}}]
    engine, server = engine_at(echo, prompt=prompt, sources=sources)
    rows = [row("a") | {"metadata": [("plan", plan), ("place", place)]} for plan, place in (("old", "x"), ("", "y"))]
    rows += [row("a") | {"metadata": [("plan", "old"), ("place", "z")]}, row("a")]
    said = [response.text for response in engine.answer(rows, silent)]
    assert said == ["you said old: a", "you said new: a", "you said old: a", "you said new: a"]
    assert len(server.requests) == 2


def test_an_endpoint_is_asked_with_the_settings_of_the_application(engine_at, monkeypatch):
    monkeypatch.setenv("NIGHTSHIFT_ENDPOINT_KEY", "secret-key")
    engine, server = engine_at(
        echo,
        most=99,
        endpoint={"connection": "hosted"},
        prompt={"system": "You work for a bank.", "user": "Customer: {prompt}", "template": {"enable_thinking": False}},
        decoding={
            "temperature": 0.5,
            "top_p": 0.9,
            "stop": ["END"],
            "presence_penalty": 1,
            "json_schema": {"type": "object"},
        },
    )
    tools = json.dumps([{"type": "function", "function": {"name": "look_up"}}])
    engine.answer([row("hi", tools=tools)], silent)
    engine.answer([row("hi", tools=tools)], silent, sample=1)
    path, headers, body = server.requests[0]
    other = server.requests[1][2]
    assert (path, headers["Authorization"]) == ("/v1/chat/completions", "Bearer secret-key")
    assert body["seed"] != other["seed"]
    assert body | {"seed": 0} == other | {"seed": 0} == {
        "model": "hosted-1",
        "messages": [
            {"role": "system", "content": "You work for a bank."},
            {"role": "user", "content": "Customer: hi"},
        ],
        "max_tokens": 99, "temperature": 0.5, "top_p": 0.9, "stop": ["END"], "presence_penalty": 1, "seed": 0,
        "response_format": {
            "type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}, "strict": True}
        },
        "chat_template_kwargs": {"enable_thinking": False}, "tools": json.loads(tools),
    }  # fmt: skip


def test_a_key_goes_to_no_other_address_than_that_of_the_settings(engine_at):
    _, server = engine_at(echo)
    where = {"url": "https://api.example.org/v1", "model": "hosted-2", "connection": "hosted"}
    application = Application(name="bank", sources=SOURCES, inference={"endpoint": where})
    with pytest.raises(BadInput, match="the key of hosted is sent there alone"):
        EndpointEngine({"url": server.url, "model": "hosted-1"}, application, max_new_tokens=4)


def test_a_row_that_is_refused_says_why_and_costs_no_other(engine_at):
    def reply(body):
        text = body["messages"][-1]["content"]
        if text == "bad":
            return 400, '{"error": {"message": "The prompt was filtered by our content policy"}}'
        if text == "long":
            return 400, '{"error": {"message": "maximum context length is 8192 tokens"}}'
        return (200, {"content": "", "finish_reason": "content_filter"}) if text == "cut" else (200, "fine")

    engine, _ = engine_at(reply)
    fine, bad, long, cut = engine.answer([row("ok"), row("bad"), row("long"), row("cut")], silent)
    assert (fine.text, fine.finish_reason, fine.refusal) == ("fine", "stop", "")
    assert (bad.text, bad.finish_reason) == ("", "refused")
    assert "filtered by our content policy" in bad.refusal
    assert (long.finish_reason, long.too_long) == ("length", True)
    assert (cut.text, cut.finish_reason, cut.refusal) == ("", "refused", "content_filter")


def test_words_of_a_refusal_are_no_refusal_of_a_setting_that_was_taken_before(engine_at):
    def reply(body):
        if body["messages"][-1]["content"] == "bad":
            return 400, "flagged: 'stop' this, at any temperature"
        return 200, "fine"

    engine, _ = engine_at(
        reply, endpoint={"requests_at_once": 1}, decoding={"temperature": 0.7, "stop": ["END"], "seed": 3}
    )
    answers = engine.answer([row("ok"), row("bad"), row("fine")], silent)
    assert [answer.finish_reason for answer in answers] == ["stop", "refused", "stop"]


def test_an_endpoint_that_refuses_everything_is_no_night_of_refusals(engine_at):
    engine, server = engine_at(lambda body: (400, '{"error": {"message": "unknown field"}}'))
    with pytest.raises(BadInput, match="refuses every row: status 400"):
        engine.answer([row(str(number)) for number in range(100)], silent)
    assert len(server.requests) < 30


def test_what_an_endpoint_does_not_take_is_left_out_from_then_on_and_told(engine_at):
    """A reasoning model: the newer name of the limit, and no temperature but its own."""

    def reply(body):
        if "max_tokens" in body:
            return 400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
        if "temperature" in body:
            return 400, "Unsupported value: 'temperature' does not support 0 with this model."
        return 200, "fine"

    engine, server = engine_at(reply, endpoint={"requests_at_once": 1})
    assert [one.text for one in engine.answer([row("a"), row("b")], silent)] == ["fine", "fine"]
    assert [sorted(body.keys() - {"model", "messages"}) for _, _, body in server.requests] == [
        ["max_tokens", "temperature"], ["max_completion_tokens", "temperature"],
        ["max_completion_tokens"], ["max_completion_tokens"],
    ]  # fmt: skip
    assert engine.about["left_out"] == ["max_tokens", "temperature"]


@pytest.mark.parametrize(
    ("decoding", "said", "named"),
    [
        ({"temperature": 0.7}, "'temperature' does not support 0.7", "decoding.temperature"),
        ({"stop": ["END"]}, "Unsupported parameter: 'stop'", "decoding.stop"),
        ({"json_schema": {"type": "object"}}, "response_format is not supported", "decoding.json_schema"),
    ],
)
def test_a_decoding_setting_that_is_refused_is_an_error_and_not_left_out(engine_at, decoding, said, named):
    engine, _ = engine_at(lambda body: (400, said), decoding=decoding)
    with pytest.raises(BadInput, match=rf"refuses {named}"):
        engine.answer([row("a")], silent)


def test_a_busy_endpoint_is_asked_again_as_late_as_it_wishes_and_not_for_ever(engine_at, monkeypatch):
    from nightshift import endpoint_client

    monkeypatch.setattr(endpoint_client, "FIRST_PAUSE_SECONDS", 60)  # the endpoint's wish counts

    lock, left = threading.Lock(), [5]

    def reply(body):
        with lock:
            left[0] -= 1
            return (429, "slow down", {"Retry-After": "0"}) if left[0] >= 0 else (200, "fine")

    engine, server = engine_at(reply, endpoint={"requests_at_once": 2})
    assert [one.text for one in engine.answer([row("a"), row("b"), row("c")], silent)] == ["fine"] * 3
    assert len(server.requests) == 8
    monkeypatch.setattr(endpoint_client, "TRIES", 2)
    monkeypatch.setattr(endpoint_client, "FIRST_PAUSE_SECONDS", 0.01)
    down, server = engine_at(lambda body: (503, "overloaded"), endpoint={"requests_at_once": 2})
    with pytest.raises(BadEnvironment, match="status 503: overloaded"):
        down.answer([row(str(number)) for number in range(50)], silent)
    assert len(server.requests) <= 8


@pytest.mark.parametrize("status", [401, 404])
def test_a_wrong_key_or_model_is_told_at_once(engine_at, status):
    engine, server = engine_at(lambda body: (status, "no such thing"), endpoint={"requests_at_once": 1})
    with pytest.raises(BadInput, match=r"no such thing\. Check inference\.endpoint and the password of its connection"):
        engine.answer([row(str(number)) for number in range(100)], silent)
    assert len(server.requests) < 20  # the next ones may be on their way while the first answer is read


def test_thoughts_are_told_from_answers_wherever_an_endpoint_puts_them(engine_at):
    says = {
        "a": "<think>hm</think>card arrival",
        "b": {"content": "card arrival", "reasoning_content": "hm", "reasoning_tokens": 7},
    }
    engine, _ = engine_at(lambda body: (200, says[body["messages"][-1]["content"]]))
    one, other = engine.answer([row("a"), row("b")], silent)
    assert (one.text, one.reasoning) == (other.text, other.reasoning) == ("card arrival", "hm")
    assert other.reasoning_tokens == 7


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ({"content": [{"type": "text", "text": "card"}, {"type": "text", "text": " arrival"}]}, "card arrival"),
        ({"content": "cut within an emoji \ud83d"}, "cut within an emoji ?"),
        ({"content": "card arrival", "reasoning_content": "hm \udc00"}, "card arrival"),
        ({"content": None, "tool_calls": [None]}, "null"),
        ({"content": None, "tool_calls": [{"function": "look_up"}]}, '{"function": "look_up"}'),
        ({"content": None, "tool_calls": {"function": {"name": "a"}}}, '{"arguments": null, "name": "a"}'),
        (
            {"content": None, "tool_calls": [{"function": {"name": "a", "arguments": "[" * 100_000}}]},
            json.dumps({"arguments": "[" * 100_000, "name": "a"}),
        ),
        (
            {"content": None, "tool_calls": [{"function": {"name": "a", "arguments": '"\\ud83d"'}}]},
            '{"arguments": "?", "name": "a"}',
        ),
    ],
)
def test_an_answer_of_an_unusual_form_is_kept_as_text_that_can_be_stored(engine_at, said, answer):
    engine, _ = engine_at(lambda body: (200, dict(said)))
    (response,) = engine.answer([row("a")], silent)
    assert response.text == answer
    assert (response.text + response.reasoning).encode()


@pytest.mark.parametrize(
    "usage",
    [
        [1],
        "many",
        {"prompt_tokens": "many", "completion_tokens": 1},
        {"prompt_tokens": -5, "completion_tokens": -7},
        {"prompt_tokens": float("nan"), "completion_tokens": float("inf")},
        {"prompt_tokens": 1, "completion_tokens": 10**12},
        {"prompt_tokens": 1, "completion_tokens": 1, "completion_tokens_details": "none"},
    ],
)
def test_counts_of_tokens_that_cannot_be_believed_cost_no_answer_and_are_never_below_zero(engine_at, usage):
    price = {"input": 2, "output": 10}
    engine, _ = engine_at(lambda body: (200, {"content": "fine", "usage": usage}), endpoint={"price": price})
    (response,) = engine.answer([row("a")], silent)
    assert response.text == "fine"
    assert 0 <= response.tokens < 2**31
    assert 0 <= response.cost < 1


@pytest.mark.parametrize(
    ("reason", "finish", "text"),
    [
        ("model_length", "length", "half"),
        ("eos", "stop", "half"),
        (["length"], "stop", "half"),
    ],
)
def test_an_answer_that_the_server_broke_off_is_not_a_finished_one(engine_at, reason, finish, text):
    engine, _ = engine_at(lambda body: (200, {"content": "half", "finish_reason": reason}))
    (response,) = engine.answer([row("a")], silent)
    assert (response.finish_reason, response.text) == (finish, text)


@pytest.mark.parametrize(
    "body", [b"<html>sign in</html>", b"[" * 200_000, b'{"choices": [{"message": {"content": 5}}]}']
)
def test_what_is_no_completion_is_told(engine_at, body):
    engine, _ = engine_at(lambda _body: (200, body, {"Content-Type": "text/html"}))
    with pytest.raises(BadEnvironment, match="not a chat completion"):
        engine.answer([row("a")], silent)


@pytest.mark.parametrize(
    "bad", [{"content": {"text": "hi"}}, {"content": "half", "finish_reason": "error"}], ids=["form", "error"]
)
def test_an_answer_that_cannot_be_read_or_broke_off_costs_its_row_unless_all_are_such(engine_at, monkeypatch, bad):
    from nightshift import endpoint_client

    monkeypatch.setattr(endpoint_client, "FIRST_PAUSE_SECONDS", 0.01)

    def reply(body):
        return 200, bad if body["messages"][-1]["content"].startswith("bad") else "fine"

    engine, _ = engine_at(reply, endpoint={"requests_at_once": 1})
    answers = engine.answer([row("ok"), row("bad"), row("fine")], silent)
    assert [(one.text, one.finish_reason) for one in answers] == [("fine", "stop"), ("", "refused"), ("fine", "stop")]
    assert answers[1].refusal
    many = [row(f"bad {number}") for number in range(40)]
    for rows in (many, [row("ok"), *many]):
        engine, server = engine_at(reply, endpoint={"requests_at_once": 1})
        with pytest.raises(BadEnvironment, match="gave no answer"):
            engine.answer(rows, silent)
        assert len(server.requests) < 30


def test_an_answer_that_the_server_broke_off_is_asked_for_again(engine_at, monkeypatch):
    from nightshift import endpoint_client

    monkeypatch.setattr(endpoint_client, "FIRST_PAUSE_SECONDS", 0.01)
    left = [{"content": "half", "finish_reason": "error"}]
    engine, server = engine_at(lambda body: (200, left.pop() if left else "whole"))
    (response,) = engine.answer([row("a")], silent)
    assert (response.text, response.finish_reason, len(server.requests)) == ("whole", "stop", 2)


def test_calls_of_tools_are_compared_by_name_and_arguments(engine_at):
    call = {"id": "1", "type": "function", "function": {"name": "look_up", "arguments": '{"b": 1, "a": "x"}'}}
    engine, server = engine_at(lambda body: (200, {"content": None, "tool_calls": [call]}))
    wanted = [{"id": "9", "type": "function", "function": {"name": "look_up", "arguments": {"a": "x", "b": 1}}}]
    (answer,) = engine.answer([row("a", "", tool_calls=json.dumps(wanted))], silent, references=True)
    assert answer.text == answer.reference.text == '{"arguments": {"a": "x", "b": 1}, "name": "look_up"}'
    assert server.requests[0][2]["messages"] == [{"role": "user", "content": "a"}]


def test_a_row_that_is_never_answered_costs_itself_and_a_silent_endpoint_the_try(engine_at):
    done = threading.Event()

    def reply(body):
        if body["messages"][-1]["content"].startswith("slow"):
            done.wait(5)
        return 200, "fine"

    where = {"requests_at_once": 2, "timeout_seconds": 0.4}
    engine, _ = engine_at(reply, endpoint=where)
    answers = engine.answer([row("ok"), row("slow"), row("fine")], silent)
    silent_one, _ = engine_at(reply, endpoint=where)
    with pytest.raises(BadEnvironment, match="gave no answer: ReadTimeout"):
        silent_one.answer([row("slow 1"), row("slow 2")], silent)
    done.set()
    assert [answer.finish_reason for answer in answers] == ["stop", "refused", "stop"]
    assert "ReadTimeout" in answers[1].refusal
