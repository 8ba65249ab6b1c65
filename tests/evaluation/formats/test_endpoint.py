import json
import socket
import threading
import time
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest

from tests.evaluation.formats.server import ConstructedClock, ConstructedServer, chat, completion, echo, send
from trimpot.core.errors import UsageError
from trimpot.core.rows import Message
from trimpot.evaluation.formats.endpoint import Endpoint, endpoint
from trimpot.evaluation.formats.http_client import Clock, HttpSettings, retry_after
from trimpot.evaluation.language_model import Request
from trimpot.evaluation.runner import evaluate_task
from trimpot.evaluation.task import Decoding, Item, Task


@pytest.fixture
def serve():
    servers = []

    def start(reply):
        servers.append(ConstructedServer(reply))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def failing(times, fail, answer=None):
    """Fails so many times, then answers."""
    count = iter(range(10**6))

    def reply(handler, body):
        fail(handler) if next(count) < times else send(handler, answer or completion("yes"))

    return reply


def model(server, clock=None, answered=None, **settings):
    clock = clock or ConstructedClock()
    more = {} if answered is None else {"answered": answered}
    times = Clock(clock.now, clock.sleep, clock.wall)
    return Endpoint(server.address, "m", settings=HttpSettings(**settings), clock=times, **more)


def ask(model, count=1):
    return model.generate_until([Request(f"prompt {n}", 5) for n in range(count)])


def one_line(caught):
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_task_runs_on_an_endpoint_by_chat(serve):
    def reply(handler, body):
        question = body["messages"][0]["content"]
        send(handler, chat(f"{eval(question)}\nand more"))

    server = serve(reply)
    items = tuple(Item((Message("user", f"{n}+1"),), answer=str(n + 1)) for n in range(3))
    task = Task("sums", "generate", items, "exact", Decoding(max_tokens=9, stop=("\n",)))
    found = evaluate_task(model(server), task, "r")
    assert [one.score for one in found] == [1.0, 1.0, 1.0]
    assert [one.output for one in found] == ["1", "2", "3"]
    assert {path for path, _, _ in server.seen} == {"/v1/chat/completions"}
    assert server.seen[0][2]["stop"] == ["\n"]
    assert "seed" not in server.seen[0][2]


def test_answers_are_in_the_order_of_requests_and_texts_and_chats_go_their_ways(serve):
    def reply(handler, body):
        if "messages" in body:
            send(handler, chat(body["messages"][0]["content"]))
        else:
            time.sleep(0.03 if body["prompt"] == "0" else 0)
            send(handler, completion(body["prompt"]))

    requests = [Request(str(n) if n % 2 == 0 else (Message("user", str(n)),), 5) for n in range(9)]
    done = []
    found = model(serve(reply)).generate_until(requests, lambda *told: done.append(told))
    assert [one.text for one in found] == [str(n) for n in range(9)]
    assert done == [(n, 9) for n in range(1, 10)]


def test_an_answer_that_was_cut_is_unfinished_and_a_stop_string_ends_one(serve):
    server = serve(lambda handler, body: send(handler, completion("one STOP two", 7, "length")))
    plain, stopped = model(server).generate_until([Request("a", 7), Request("a", 7, stop=("never", "STOP"))])
    assert (plain.text, plain.finished, plain.tokens) == ("one STOP two", False, 7)
    assert (stopped.text, stopped.finished) == ("one ", True)


def test_draws_have_their_own_seeds_which_stay_the_same(serve):
    server = serve(lambda handler, body: send(handler, completion("a")))
    requests = [Request("a", 5, temperature=1.0, sample=n) for n in (0, 1)]
    for _ in range(2):
        model(server, at_once=1).generate_until(requests)
    seeds = [body["seed"] for _, _, body in server.seen]
    assert seeds[0] != seeds[1]
    assert seeds[:2] == seeds[2:]
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_no_more_than_at_once_are_under_way(serve):
    def reply(handler, body):
        time.sleep(0.02)
        send(handler, completion("a"))

    server = serve(reply)
    ask(model(server, at_once=3), 12)
    assert server.most == 3


def test_a_busy_server_is_waited_for_as_long_as_it_says(serve):
    clock = ConstructedClock()
    busy = failing(1, lambda handler: send(handler, {"error": "busy"}, 429, [("Retry-After", "7")]))
    server = serve(busy)
    assert ask(model(server, clock))[0].text == "yes"
    assert len(server.seen) == 2
    assert clock.time == pytest.approx(7.0)


def test_waits_double_with_jitter_in_their_upper_half(serve):
    clock = ConstructedClock()
    server = serve(failing(4, lambda handler: send(handler, b"oops", 500)))
    ask(model(server, clock))
    assert len(clock.slept) == 4
    for number, slept in enumerate(clock.slept):
        assert 2**number / 2 <= slept <= 2**number
    assert clock.slept != [0.5, 1.0, 2.0, 4.0]
    again = ConstructedClock()
    ask(model(serve(failing(4, lambda handler: send(handler, b"oops", 500))), again))
    assert len(again.slept) == 4


def test_a_server_that_stays_broken_is_one_line(serve):
    server = serve(lambda handler, body: send(handler, {"error": {"message": "CUDA out\nof memory"}}, 500))
    with pytest.raises(UsageError) as caught:
        ask(model(server, attempts=3))
    assert "request 1: answered with status 500: CUDA out of memory in 3 attempts" in one_line(caught)
    assert len(server.seen) == 3


def cut(handler):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
    handler.wfile.flush()
    handler.connection.shutdown(socket.SHUT_RDWR)
    handler.close_connection = True


@pytest.mark.parametrize(
    ("fail", "words"),
    [(cut, "cut the connection"), (lambda handler: send(handler, b"<html>"), "what is no JSON")],
)
def test_cut_and_malformed_answers_are_asked_for_again(serve, fail, words):
    assert ask(model(serve(failing(2, fail))))[0].text == "yes"
    with pytest.raises(UsageError, match=words) as caught:
        ask(model(serve(failing(99, fail)), attempts=2))
    one_line(caught)


def test_a_late_answer_is_asked_for_again(serve):
    late = threading.Event()

    def fail(handler):
        late.wait(0.1)
        send(handler, completion("late"))

    server = serve(failing(1, fail))
    assert ask(model(server, seconds=0.05))[0].text == "yes"
    assert len(server.seen) == 2
    late.set()


def test_a_server_that_drips_is_late_as_a_whole(serve):
    clock = ConstructedClock()

    def fail(handler):
        clock.time += 200
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"1\r\n{\r\n")

    with pytest.raises(UsageError, match="no whole answer within 120 s"):
        ask(model(serve(failing(9, fail)), clock, attempts=1))


def test_where_nothing_listens_is_one_line_at_once():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    clock = ConstructedClock()
    with pytest.raises(UsageError, match="request 1: is not reachable") as caught:
        ask(Endpoint(address, "m", clock=Clock(clock.now, clock.sleep)))
    assert "Start the server" in one_line(caught)
    assert clock.slept == []


def test_a_server_that_goes_down_is_tried_again_and_what_was_answered_is_kept(serve):
    server = serve(lambda handler, body: send(handler, completion("a")))
    kept, clock = [], ConstructedClock()
    asked = model(server, clock, lambda *told: kept.append(told), attempts=3, at_once=1)
    ask(asked, 2)
    server.close()
    with pytest.raises(UsageError, match="in 3 attempts"):
        ask(asked)
    assert [(request.prompt, answer.text) for request, answer in kept] == [("prompt 0", "a"), ("prompt 1", "a")]
    assert len(clock.slept) == 2


def test_answers_before_and_beside_a_failure_are_handed_out_and_nothing_more_is_asked(serve):
    def reply(handler, body):
        if body["prompt"] == "prompt 2":
            send(handler, {"detail": "too long"}, 400)
        else:
            time.sleep(0.04)
            send(handler, completion(body["prompt"]))

    server, kept = serve(reply), []
    with pytest.raises(UsageError, match=r"request 3: answered with status 400: too long. Shorten"):
        ask(model(server, answered=lambda asked, answer: kept.append(answer.text), at_once=3), 20)
    assert sorted(kept) == ["prompt 0", "prompt 1"]
    assert len(server.seen) == 3


def test_an_error_that_stays_is_not_asked_again(serve):
    server = serve(lambda handler, body: send(handler, {"error": {"message": "no such model"}}, 404))
    with pytest.raises(UsageError, match=r"404: no such model. Check the address"):
        ask(model(server))
    assert len(server.seen) == 1


def test_a_server_that_asks_for_an_hour_is_not_waited_for(serve):
    clock = ConstructedClock()
    server = serve(lambda handler, body: send(handler, {}, 429, [("Retry-After", "3600")]))
    with pytest.raises(UsageError, match="asks to wait 3600 s"):
        ask(model(server, clock))
    assert clock.slept == []


def test_requests_begin_at_the_rate_that_was_set(serve):
    clock = ConstructedClock()
    server = serve(lambda handler, body: send(handler, completion("a")))
    ask(model(server, clock, per_minute=30.0, at_once=1), 4)
    assert clock.time == pytest.approx(6.0)  # 3 gaps of 60 / 30 s


def test_the_key_comes_from_the_named_variable_and_is_shown_nowhere(serve, monkeypatch):
    monkeypatch.setenv("CONSTRUCTED_KEY", "constructed-secret")

    def reply(handler, body):
        send(handler, {"error": {"message": f"wrong key: {handler.headers['Authorization']}"}}, 401)

    server = serve(reply)
    asked = model(server, key_variable="CONSTRUCTED_KEY")
    with pytest.raises(UsageError, match="401") as caught:
        ask(asked)
    assert server.seen[0][1]["Authorization"] == "Bearer constructed-secret"
    assert "constructed-secret" not in str(caught.value)
    assert "Bearer ***" in str(caught.value)
    assert "constructed-secret" not in json.dumps([repr(vars(asked)), str(asked.identity)])
    monkeypatch.delenv("CONSTRUCTED_KEY")
    with pytest.raises(UsageError, match="CONSTRUCTED_KEY is not set"):
        ask(asked)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ([], "a list, not an object"),
        ({"choices": []}, "without choices"),
        ({"choices": [{"text": 5}], "usage": {"completion_tokens": 1}}, "int in place of a text"),
        ({"choices": [{"text": "a"}]}, "without usage.completion_tokens"),
    ],
)
def test_an_answer_of_another_form_is_one_line_and_never_an_empty_text(serve, answer, words):
    with pytest.raises(UsageError, match=words) as caught:
        ask(model(serve(lambda handler, body: send(handler, answer))))
    one_line(caught)


def test_log_likelihoods_are_of_the_continuations_tokens(serve):
    server = serve(lambda handler, body: send(handler, echo(body["prompt"])))
    first, second, third = model(server).loglikelihood([("a b =", " four"), ("a b = ", "four five"), ("a", " b")])
    # Tokens "a" " b" " =" " four" (−3) and, in the second, " five" (−4); the most likely token has −2.
    assert (first.logprob, first.tokens, first.greedy) == (-3.0, 1, False)
    assert (second.logprob, second.tokens, second.greedy) == (-7.0, 2, False)
    assert (third.logprob, third.tokens, third.greedy) == (-1.0, 1, True)


@pytest.mark.parametrize("usage", [True, False])
def test_a_beginning_token_shifts_no_border_and_gives_whole_texts_a_likelihood(serve, usage):
    server = serve(lambda handler, body: send(handler, echo(body["prompt"], "<s>", usage)))
    asked = model(server)
    (pair,) = asked.loglikelihood([("a b", " c")])
    assert (pair.logprob, pair.tokens) == (-3.0, 1)
    whole, empty = asked.loglikelihood_rolling(["a b c", ""])
    assert (whole.logprob, whole.tokens) == (-6.0, 3)
    assert (empty.logprob, empty.tokens) == (0.0, 0)
    assert len(server.seen) == 2


def without(key):
    def reply(handler, body):
        answer = echo(body["prompt"])
        answer["choices"][0]["logprobs"][key] = None
        send(handler, answer)

    return reply


def silent(handler, body):
    # As `transformers serve` of transformers 5.24 does, which leaves logprobs and echo out.
    send(handler, {"choices": [{"text": " 4"}], "usage": {"completion_tokens": 1}})


def generated_only(handler, body):
    told = {"tokens": [" 4"], "token_logprobs": [-1.0], "text_offset": [0], "top_logprobs": [{" 4": -1.0}]}
    usage = {"prompt_tokens": 3, "completion_tokens": 1}
    send(handler, {"choices": [{"text": " 4", "logprobs": told}], "usage": usage})


@pytest.mark.parametrize(
    ("reply", "pair", "words"),
    [
        (silent, ("a b", " c"), "gives no log-probabilities"),
        (lambda handler, body: send(handler, {}), ("a b", " c"), "without choices"),
        (generated_only, ("a b", " c"), "does not echo"),
        (without("text_offset"), ("a b", " c"), "of another form"),
        (without("top_logprobs"), ("a b", " c"), "gives no top_logprobs"),
        (lambda handler, body: send(handler, echo(body["prompt"])), ("", "a b"), "of a text's first token"),
        (lambda handler, body: send(handler, echo(body["prompt"])), ("a fo", "ur"), "' four' is part context"),
        (silent, ((Message("user", "a"),), "b"), "pair 1: no endpoint tells"),
        (silent, ("a", ""), "pair 1: has no continuation"),
    ],
)
def test_where_log_likelihoods_are_not_given_one_line_says_so(serve, reply, pair, words):
    with pytest.raises(UsageError, match=words) as caught:
        model(serve(reply)).loglikelihood([pair])
    one_line(caught)


def test_retry_after_may_be_a_date_counted_from_the_servers_own():
    date = format_datetime(datetime(2026, 1, 1, 0, 1, 30, tzinfo=UTC), usegmt=True)
    now = format_datetime(datetime(2026, 1, 1, 0, 1, 0, tzinfo=UTC), usegmt=True)
    assert retry_after({"retry-after": date, "date": now}, 0.0) == 30.0
    assert retry_after({"retry-after": now, "date": date}, 0.0) == 0.0
    assert retry_after({"retry-after": date}, datetime(2026, 1, 1, 0, 1, 20, tzinfo=UTC).timestamp()) == 10.0
    assert [retry_after({"retry-after": told}, 0.0) for told in ("", "soon", "-3", "1.5")] == [None, None, None, 1.5]


def test_a_name_is_address_and_model():
    found = endpoint("endpoint:http://127.0.0.1:8000/v1/#org/name?version=2026-01")
    assert (found.address, found.model) == ("http://127.0.0.1:8000/v1", "org/name")
    assert found.identity.weights == "http://127.0.0.1:8000/v1#org/name 2026-01"
    other = endpoint("endpoint:http://127.0.0.1:8000/v1#org/name?at_once=2&version=2026-02")
    assert found.identity.key != other.identity.key
    assert found.prompt_ids("a") == ()
    assert found.rendered((Message("user", "ä"),)) == '[{"role": "user", "content": "ä"}]'


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("http://127.0.0.1/v1#m", "is no endpoint"),
        ("endpoint:http://127.0.0.1/v1", "is no endpoint"),
        ("endpoint:http://127.0.0.1/v1#", "names no model"),
        ("endpoint:ftp://127.0.0.1/v1#m", "no http address"),
        ("endpoint:http:///v1#m", "no http address"),
        ("endpoint:http://user:secret@host/v1#m", "holds a password"),
        ("endpoint:http://host/v1?key=1#m", "no http address"),
        ("endpoint:http://host/v1#m?at_one=2", "Did you mean 'at_once'"),
        ("endpoint:http://host/v1#m?at_once=two", "'two' is no number"),
    ],
)
def test_names_that_are_no_endpoint_are_one_line(name, words):
    with pytest.raises(UsageError, match=words) as caught:
        endpoint(name)
    assert "secret" not in one_line(caught)


def test_settings_out_of_range_are_one_line():
    with pytest.raises(UsageError, match=r"endpoint.at_once: 0 is out of range"):
        endpoint("endpoint:http://127.0.0.1/v1#m?at_once=0")
