"""A server on loopback that stands for an OpenAI-compatible endpoint."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "sk-very-secret-7f3a"
KEY_FROM = "JUDGE_KEY"


class Server:
    """It says what `says` makes of the last message; `behaviours` go first."""

    def __init__(self, says: Callable[[str], Any]) -> None:
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.behaviours: list[Any] = []
        """Statuses with bodies, or answers, of the next questions."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.asked.append(asked)
                outer.keys.append(self.headers.get("Authorization"))
                does = outer.behaviours.pop(0) if outer.behaviours else says(asked["messages"][-1]["content"])
                status, body = does if isinstance(does, tuple) else (200, answer(does))
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Location", "http://127.0.0.1:9/elsewhere")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()


def answer(text: str, finish: str = "stop") -> bytes:
    usage = {"prompt_tokens": 100, "completion_tokens": 10}
    return json.dumps({"choices": [{"message": {"content": text}, "finish_reason": finish}], "usage": usage}).encode()
