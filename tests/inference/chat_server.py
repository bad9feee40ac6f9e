"""A server of OpenAI's chat, batch and embedding protocols, whose answers a test decides."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class ChatServer(ThreadingHTTPServer):
    """Answers each request with what `reply(body)` returns: a status and the text of the completion, or of the error.

    In place of a text it may be a message with more than its content, or bytes that are sent as they are; headers may follow.
    A token is a word.
    Asked to embed, `reply` returns the vectors of the texts of `input`; they are sent back last one first.
    Batches of requests are taken too: each looks as if it ended when somebody has looked at it `looks` times before.
    """

    def __init__(self, reply):
        super().__init__(("127.0.0.1", 0), _Completions)
        self.reply = reply
        self.requests = []
        self.files, self.batches, self.looks = {}, {}, 0
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Completions(BaseHTTPRequestHandler):
    def do_POST(self):
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/v1/files":
            name = f"file-{len(self.server.files)}"
            self.server.files[name] = [json.loads(line) for line in content.splitlines() if line.startswith(b"{")]
            return self._send(200, {"id": name})
        body = json.loads(content)
        if self.path == "/v1/batches":
            name = f"batch-{len(self.server.batches)}"
            self.server.batches[name] = {"id": name, "status": "in_progress", "looks": self.server.looks, **body}
            return self._send(200, self.server.batches[name])
        self.server.requests.append((self.path, dict(self.headers), body))
        status, text, *headers = self.server.reply(body)
        answer = _embeddings if self.path == "/v1/embeddings" else _completion
        as_it_is = status != 200 or isinstance(text, bytes)
        return self._send(status, text if as_it_is else answer(body, text), dict(*headers))

    def do_GET(self):
        _, _, kind, *rest = self.path.partition("?")[0].split("/")
        if kind == "files":
            return self._send(
                200, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in self.server.files[rest[0]])
            )
        if not rest:
            return self._send(200, {"data": list(self.server.batches.values())[::-1], "has_more": False})
        batch = self.server.batches[rest[0]]
        batch["looks"] -= 1
        if batch["looks"] < 0 and batch["status"] == "in_progress":
            lines = self.server.files[batch["input_file_id"]]
            said = [(line, self.server.reply(line["body"])) for line in lines]
            answered = [(line, text) for line, (status, text) in said if status == 200]
            name = f"file-{len(self.server.files)}"
            self.server.files[name] = [
                {
                    "custom_id": line["custom_id"],
                    "response": {"status_code": 200, "body": _completion(line["body"], text)},
                }
                for line, text in answered
            ]
            counts = {"total": len(lines), "completed": len(answered), "failed": len(lines) - len(answered)}
            batch.update(status="completed", output_file_id=name, request_counts=counts)
        return self._send(200, batch)

    def _send(self, status, said, headers=()):
        said = said.encode() or b"{}" if isinstance(said, str) else said
        data = said if isinstance(said, bytes) else json.dumps(said).encode()
        self.send_response(status)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


def _completion(body, said):
    message = dict(said) if isinstance(said, dict) else {"content": said}
    reason, thought = message.pop("finish_reason", "stop"), message.pop("reasoning_tokens", 0)
    asked = sum(len((one["content"] or "").split()) for one in body["messages"])
    usage = {
        "prompt_tokens": asked,
        "completion_tokens": len(str(message["content"] or "").split()),
        "completion_tokens_details": {"reasoning_tokens": thought},
    }
    return {
        "model": body.get("model"),
        "usage": message.pop("usage", usage),
        "choices": [{"index": 0, "message": {"role": "assistant", **message}, "finish_reason": reason}],
    }


def _embeddings(body, vectors):
    data = [{"object": "embedding", "index": at, "embedding": vector} for at, vector in enumerate(vectors)]
    tokens = sum(len(text.split()) for text in body["input"])
    return {"model": body["model"], "data": data[::-1], "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}
