"""A night asked for in batches: found again after a kill, paid once, and what a batch leaves open asked one by one."""

import pytest

from nightshift.errors import BadEnvironment, BadInput
from nightshift.inference import batch_client
from nightshift.inference.endpoint_engine import EndpointEngine
from nightshift.settings.application import Application
from nightshift.settings.intake import Source

SOURCES = [Source(uri="rows.jsonl", columns={"prompt": "text", "answer": "answer"})]
ROWS = [
    {"digest": f"digest {number}", "messages": [{"role": "user", "content": f"message {number % 20}"}], "tools": None}
    for number in range(30)
]


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(batch_client, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(batch_client, "FIRST_PAUSE_SECONDS", 0.01)


def engine_of(server, *, in_batches=True, **endpoint):
    price = {"input": 2, "output": 10}
    where = {"url": server.url, "model": "hosted-1", "price": price, "batch": {"discount": 0.5}, **endpoint}
    application = Application(name="bank", sources=SOURCES, inference={"endpoint": where})
    identity = application.inference.hosted.identity
    return EndpointEngine(identity, application, max_new_tokens=16, in_batches=in_batches)


def echo(body):
    return 200, f"you said {body['messages'][-1]['content']}"


def silent(_done, _of):
    pass


def test_a_night_is_one_batch_whose_answers_come_in_order_at_its_price(serve):
    server, told = serve(echo), []
    server.looks = 2
    answers = engine_of(server).answer(ROWS, lambda done, of: told.append((done, of)))
    assert [answer.text for answer in answers] == [f"you said message {number % 20}" for number in range(30)]
    assert [len(lines) for lines in server.files.values()] == [20, 20]  # asked for once each, and answered
    assert len(server.requests) == 1  # to see what the endpoint refuses of a request
    # A token is a word: two that are read, four that are written, at half of the price.
    assert sum(answer.paid for answer in answers) == pytest.approx(20 * (2 * 2 + 4 * 10) / 1e6 / 2)
    assert {answer.latency_ms for answer in answers} == {None}
    assert told[0] == (0, 30)


def test_who_was_killed_while_a_batch_was_under_way_finds_it_and_pays_once(serve):
    server = serve(echo)
    engine_of(server).announce(ROWS[:10])
    engine_of(server).announce(ROWS[10:])
    answers = engine_of(server).answer(ROWS[:10], silent) + engine_of(server).answer(ROWS[10:], silent)
    assert [answer.text for answer in answers] == [f"you said message {number % 20}" for number in range(30)]
    assert len(server.batches) == 2
    # Other requests are another batch.
    assert engine_of(server).answer(ROWS[:9], silent)
    assert len(server.batches) == 3


def test_a_text_with_line_ends_of_its_own_is_one_answer(serve):
    rows = [{"digest": "d", "messages": [{"role": "user", "content": "a\u2028b\nc"}], "tools": None}]
    (answer,) = engine_of(serve(echo)).answer(rows, silent)
    assert answer.text == "you said a\u2028b\nc"


def test_what_a_batch_leaves_open_is_asked_one_by_one(serve):
    patience = {"message 3": 1}

    def reply(body):
        said = body["messages"][-1]["content"]
        if patience.get(said, 0) > 0:
            patience[said] -= 1
            return 400, "not now"
        return (400, "no such question") if said == "message 4" else echo(body)

    answers = engine_of(serve(reply)).answer(ROWS, silent)
    assert answers[3].text == "you said message 3"
    assert (answers[4].finish_reason, answers[4].text) == ("refused", "")
    assert "no such question" in answers[4].refusal


def test_a_line_of_a_batch_that_is_no_completion_is_asked_by_itself(serve):
    server = serve(echo)
    engine_of(server).announce(ROWS)
    client = batch_client.BatchClient(server.url, None)
    assert len(client.completions("batch-0", lambda _done: None)) == 20
    lines = server.files["file-1"]
    lines[0]["response"]["body"] = {"error": {"message": "overloaded"}}
    lines[1]["response"] = {"status_code": 200}
    lines[2]["response"]["body"] = {"choices": []}
    answers = engine_of(server).answer(ROWS, silent)
    assert [answer.text for answer in answers] == [f"you said message {number % 20}" for number in range(30)]


def test_what_an_endpoint_refuses_of_a_request_is_known_before_a_batch_is_made(serve):
    def reply(body):
        return (400, "use max_completion_tokens, not max_tokens") if "max_tokens" in body else echo(body)

    server = serve(reply)
    assert all(answer.text for answer in engine_of(server).answer(ROWS, silent))
    assert all("max_completion_tokens" in line["body"] for line in server.files["file-0"])


@pytest.mark.parametrize("ended", ["failed", "cancelled"])
def test_a_batch_that_was_not_taken_is_no_reason_to_pay_the_whole_price(serve, ended):
    server = serve(echo)
    engine_of(server).announce(ROWS)
    server.batches["batch-0"] |= {"status": ended, "errors": {"data": [{"message": "quota of tokens"}]}}
    with pytest.raises(BadInput, match=f"quota of tokens.*{ended}"):
        _answered_by(server, "batch-0")
    assert len(server.requests) == 1
    assert engine_of(server).answer(ROWS, silent)  # the next try makes another batch
    assert len(server.batches) == 2


def test_an_endpoint_without_batches_is_told_and_one_that_is_down_may_come_back(serve):
    server = serve(echo)
    server.RequestHandlerClass.do_GET, kept = (
        (lambda self: self._send(404, "no such page")),
        server.RequestHandlerClass.do_GET,
    )
    try:
        with pytest.raises(BadInput, match="that it supports batches"):
            engine_of(server).announce(ROWS)
        server.RequestHandlerClass.do_GET = lambda self: self._send(503, "down")
        with pytest.raises(BadEnvironment, match="503"):
            engine_of(server).announce(ROWS)
        server.RequestHandlerClass.do_GET = lambda self: self._send(200, "[]")
        with pytest.raises(BadEnvironment, match="does not follow the batch protocol"):
            engine_of(server).announce(ROWS)
    finally:
        server.RequestHandlerClass.do_GET = kept


def test_where_people_wait_nothing_is_asked_in_batches(serve):
    server = serve(echo)
    engine = engine_of(server, in_batches=False)
    engine.announce(ROWS)
    assert len(engine.answer(ROWS, silent)) == 30
    assert (server.batches, len(server.requests)) == ({}, 20)


def _answered_by(server, batch):
    with batch_client.BatchClient(server.url, None) as client:
        return client.completions(batch, lambda _done: None)


def test_an_answer_of_a_batch_that_the_server_broke_off_is_asked_for_alone(serve):
    seen = []

    def reply(body):
        said = body["messages"][-1]["content"]
        seen.append(said)
        broken = said == "message 3" and seen.count(said) == 1
        return (200, {"content": "half", "finish_reason": "error"}) if broken else echo(body)

    answers = engine_of(serve(reply)).answer(ROWS[:10], silent)
    assert [answer.text for answer in answers] == [f"you said message {number}" for number in range(10)]
