"""The control socket: how commands on the coordinator's machine, and the runs, reach the link. No port leads there.

The socket lies in a folder that only the user who started the link can open. It serves the commands of
`prostafed-server`, and of Flower the Runtime API, which a run's process asks with a token of its own.
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from prostafed.common.errors import ConfigurationError, ProstafedError
from prostafed.server.link.door import Receive, Scope, Send
from prostafed.server.link.superlink import Asgi

RUNTIME = "/v1/runtime/"
FILE = "link.json"  # in the home: where the link that runs on it answers
_ANSWER_S = 60.0
_NEWS = ("push-messages", "push-object")  # of the Runtime API: after these a site may have work

Command = Callable[[Mapping[str, Any]], Mapping[str, Any]]


@dataclass(frozen=True)
class Control:
    """An ASGI app: `commands` by name, and `runtime` for the runs; `tell_news` is called when one may have work."""

    commands: Mapping[str, Command]
    runtime: Asgi
    tell_news: Callable[[], None]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        path = str(scope["path"])
        if path.startswith(RUNTIME):
            await self.runtime(scope, receive, send)
            if path.removeprefix(RUNTIME) in _NEWS:
                self.tell_news()
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        answer, status = await asyncio.to_thread(self._obey, path.removeprefix("/"), body)
        head = {"type": "http.response.start", "status": status, "headers": [(b"content-type", b"application/json")]}
        await send(head)
        await send({"type": "http.response.body", "body": json.dumps(answer).encode()})

    def _obey(self, name: str, body: bytes) -> tuple[Mapping[str, Any], int]:
        if name not in self.commands:
            return {"error": f"The link does not know the command {name}: it is of another release."}, 404
        try:
            return self.commands[name](json.loads(body or b"{}")), 200
        except ProstafedError as error:
            return {"error": str(error), "kind": type(error).__name__}, 400


def ask_link(home: Path, command: str, **values: object) -> dict[str, Any]:
    """Return what the link that runs on `home` answers to a command; raises ConfigurationError where none runs, or it
    refuses.
    """
    try:
        socket = json.loads((home.resolve() / FILE).read_text(encoding="utf-8"))["control"]
        with httpx.Client(transport=httpx.HTTPTransport(uds=socket), trust_env=False, timeout=_ANSWER_S) as client:
            answer = client.post(f"http://link/{command}", content=json.dumps(values).encode())
    except (OSError, httpx.TransportError, ValueError, KeyError, TypeError) as error:  # of another, or damaged
        raise ConfigurationError(f"No link runs on {home}. Start it: prostafed-server start.") from error
    found: dict[str, Any] = answer.json()
    if answer.status_code != 200:
        raise ConfigurationError(str(found.get("error", "The link refused and gave no reason.")))
    return found
