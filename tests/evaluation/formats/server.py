"""A small HTTP server that answers as told, and fails on purpose. Constructed, as its name says."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = Callable[[BaseHTTPRequestHandler, dict[str, Any]], None]


def send(handler, value, status=200, headers=()):
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    handler.send_response(status)
    for name, told in (("Content-Type", "application/json"), *headers):
        handler.send_header(name, told)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


class ConstructedServer:
    """``reply(handler, body)`` answers a request; ``seen`` are path, headers and body of all of them."""

    def __init__(self, reply: Reply) -> None:
        self.reply, self.seen = reply, []
        self.lock, self.running, self.most = threading.Lock(), 0, 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer.lock:
                    outer.seen.append((self.path, dict(self.headers), body))
                    outer.running += 1
                    outer.most = max(outer.most, outer.running)
                try:
                    outer.reply(self, body)
                finally:
                    with outer.lock:
                        outer.running -= 1

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None
        self.address = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class ConstructedClock:
    """Time that passes only in sleeps, which take none."""

    def __init__(self):
        self.time, self.slept, self.lock = 0.0, [], threading.Lock()

    def now(self):
        return self.time

    def sleep(self, seconds, stop):
        with self.lock:
            self.slept.append(seconds)
            self.time += seconds

    def wall(self):
        return 1_000_000.0 + self.time


def completion(text, tokens=3, reason="stop"):
    return {"choices": [{"text": text, "finish_reason": reason}], "usage": {"completion_tokens": tokens}}


def chat(text, tokens=3, reason="stop"):
    message = {"role": "assistant", "content": text}
    return {"choices": [{"message": message, "finish_reason": reason}], "usage": {"completion_tokens": tokens}}


def echo(prompt, begin="", usage=True):
    """Log-probabilities as vLLM gives them: words with their space are tokens of −1, −2 …; then one token, ``!``."""
    tokens, word = [], ""
    for letter in prompt:
        if letter == " " and word:
            tokens.append(word)
            word = ""
        word += letter
    tokens = [*([begin] if begin else []), *tokens, word, "!"]
    offsets = [sum(map(len, tokens[:place])) for place in range(len(tokens))]
    logprobs = [None, *(-float(place) for place in range(1, len(tokens)))]
    tops = [None, *({"x": -2.0} for _ in tokens[1:])]
    told = {"tokens": tokens, "token_logprobs": logprobs, "text_offset": offsets, "top_logprobs": tops}
    counted = {"usage": {"prompt_tokens": len(tokens) - 1, "completion_tokens": 1}} if usage else {}
    return {"choices": [{"text": "".join(tokens), "logprobs": told, "finish_reason": "length"}], **counted}
