"""The door: all that the network reaches of the coordinator. It serves enrolled sites and nobody else.

It passes the questions of Flower's Fleet API that a site asks, and no other: no bundle is handed out, nobody registers,
and neither the Control API nor the Runtime API is behind it. Who asks is told from the key that signed the request,
before a byte of the body is read. A site that is cut off or killed is handed again what it has not answered.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from prostafed.common.exchange.joining import JOIN_PATH, MOST_BYTES
from prostafed.server.link.superlink import BESIDE, TIMES, Asgi, Member, SuperLink, identify, read_answer, read_pulled

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Note = Callable[[str, str, str], None]  # who, what they asked for, why they were refused

FLEET, HEALTH = "/v1/fleet/", "/health"
_SMALL, _LARGE = 4096, 8 * 1024 * 1024  # Flower cuts tensors into objects of 5 MiB
LARGEST = {  # what of the Fleet API is served, and the bytes that a question may have
    "activate-node": _SMALL,
    "deactivate-node": _SMALL,
    "send-node-heartbeat": _SMALL,
    "pull-messages": _SMALL,
    "push-messages": _LARGE,
    "get-run": _SMALL,
    "pull-object": _SMALL,
    "push-object": _LARGE,
    "confirm-message-received": _SMALL,
}
HOLD_S = 20.0  # a question for work is held so long while there is none
SILENT_S, WHOLE_S = 30.0, 600.0  # without a byte, and for a whole body: 8 MiB at 1 Mbit/s take 67 s
AT_ONCE = 8  # questions of one site
CLOCK_S = 300.0  # that a site's clock may be behind
_PATIENCE, _FORGIVE_S = 20, 60.0  # refusals of one address in so many seconds, before it is not even told why


@dataclass(frozen=True)
class Answer:
    """An HTTP answer, whole."""

    status: int
    body: bytes = b""
    kind: bytes = b"text/plain; charset=utf-8"


class RefusedError(Exception):
    """A request that is not served: `status` and the text go out, `why` to the coordinator's audit."""

    def __init__(self, status: int, why: str, text: str = "") -> None:
        super().__init__(text)
        self.status, self.why = status, why


@dataclass
class _Handed:
    """A message that a site has been handed and has not answered, or not told that it has sent all of the answer."""

    message_id: str
    run_id: int
    content: bytes
    taken: bool = False  # the site has told that it has all of it
    again: bool = False  # a new process of the site asks
    answered: bool = False  # the outside of an answer came; what it holds comes after it
    bytes_out: int = 0  # of what it holds, handed out
    bytes_in: int = 0  # of what the answer holds, taken in: the SuperLink keeps it in memory


@dataclass
class Door:
    """An ASGI app. `join` answers POST /v1/join, `health` says whether all is well; `note` hears of the refused."""

    link: SuperLink
    join: Callable[[bytes, str], Answer]
    health: Callable[[], Answer]
    note: Note
    seen: dict[str, str] = field(default_factory=dict)  # by site: when it asked last
    _handed: dict[int, _Handed] = field(default_factory=dict)  # by node
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _busy: Counter[str] = field(default_factory=Counter)
    _refused: dict[str, list[float]] = field(default_factory=dict)  # by address: when

    def tell_news(self) -> None:
        """Let held questions look again: there may be work."""
        self._news.set()
        self._news = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        client = scope["client"][0].removeprefix("::ffff:") if scope.get("client") else ""
        path = str(scope["path"])
        try:
            if self._is_tiresome(client):
                raise RefusedError(429, "")
            answer = await self._serve(scope, receive, path, client)
        except RefusedError as error:
            if error.why:
                self._refused.setdefault(client, []).append(time.monotonic())
                self.note(client, f"{scope['method']} {path[:80]}", error.why)
            answer = Answer(error.status, str(error).encode())
        except TimeoutError:
            answer = Answer(408)
        async with asyncio.timeout(WHOLE_S):
            close = [] if answer.status == 200 else [(b"connection", b"close")]
            length = str(len(answer.body)).encode()
            headers = [(b"content-type", answer.kind), (b"content-length", length), *close]
            await send({"type": "http.response.start", "status": answer.status, "headers": headers})
            await send({"type": "http.response.body", "body": answer.body})

    async def _serve(self, scope: Scope, receive: Receive, path: str, client: str) -> Answer:
        method = scope["method"]
        if (method, path) == ("GET", HEALTH):
            return await asyncio.to_thread(self.health)
        if (method, path) == ("POST", JOIN_PATH):
            body = await _read_body(scope, receive, MOST_BYTES)
            return await asyncio.to_thread(self.join, body, client)
        question = path.removeprefix(FLEET)
        if method != "POST" or not path.startswith(FLEET) or question not in LARGEST:
            raise RefusedError(404, "not served")
        member = await asyncio.to_thread(self._identify, scope["headers"])
        if self._busy[member.name] >= AT_ONCE:
            raise RefusedError(429, "")
        self._busy[member.name] += 1
        self.seen[member.name] = datetime.now(UTC).isoformat(timespec="seconds")
        try:
            body = await _read_body(scope, receive, LARGEST[question])
            return await self._ask_link(member, question, scope, body, receive)
        finally:
            self._busy[member.name] -= 1

    def _is_tiresome(self, client: str) -> bool:
        now = time.monotonic()
        if len(self._refused) > 10_000:
            self._refused.clear()
        recent = [when for when in self._refused.get(client, ()) if now - when < _FORGIVE_S]
        if client in self._refused:
            self._refused[client] = recent
        return len(recent) >= _PATIENCE

    def _identify(self, headers: Iterable[tuple[bytes, bytes]]) -> Member:
        """Return the site whose key signed the request."""
        try:
            named = {name.decode("ascii"): value.decode("ascii") for name, value in headers}
            return identify(named, self.link.find_member, datetime.now(UTC), CLOCK_S)
        except KeyError as error:
            raise RefusedError(401, "no enrolled key") from error
        except (ValueError, TypeError) as error:
            clock = str(error) == "clock"
            why = "a clock that differs" if clock else "a key that the sender does not hold"
            raise RefusedError(401, why, "clock" if clock else "") from error

    async def _ask_link(self, member: Member, question: str, scope: Scope, body: bytes, receive: Receive) -> Answer:
        if question == "pull-messages":
            return await self._pull(member, scope, body, receive)
        if question == "confirm-message-received":
            if handed := self._handed.get(member.node_id):
                handed.taken = True  # the SuperLink would delete it; it may have to be handed out again
                if handed.answered:  # a site tells it once its answer is there, whole
                    del self._handed[member.node_id]
                    await asyncio.to_thread(self.link.forget_message, handed.message_id)
            return Answer(200, kind=_PROTOBUF)
        if question == "activate-node":  # what was there under this name before has ended, whatever the SuperLink holds
            await asyncio.to_thread(self.link.release_node, member.node_id)
            if handed := self._handed.get(member.node_id):
                handed.again = True
        if question == "push-messages":
            return await self._push(member, scope, body)
        handed = self._handed.get(member.node_id)
        if question == "push-object":
            if handed is None:  # what it answers is not waited for
                raise RefusedError(409, "")
            if handed.bytes_in + len(body) > TIMES * handed.bytes_out + BESIDE:
                raise RefusedError(413, f"{member.name}: more than an answer may have")
            handed.bytes_in += len(body)
        answer = await _call(self.link.app, scope, body)
        if question == "pull-object" and handed:
            handed.bytes_out += len(answer.body)
        return answer

    async def _pull(self, member: Member, scope: Scope, body: bytes, receive: Receive) -> Answer:
        """Hand out the next message, or, after a while, none."""
        handed = self._handed.get(member.node_id)
        if handed and (handed.again or not (handed.taken or handed.answered)):
            if await asyncio.to_thread(self.link.is_running, handed.run_id):
                handed.again = False
                return Answer(200, handed.content, _PROTOBUF)
            self._handed.pop(member.node_id, None)
        until = time.monotonic() + HOLD_S
        gone = asyncio.ensure_future(receive())  # nothing else comes but the end of the connection
        try:
            while True:
                news = self._news
                answer = await _call(self.link.app, scope, body)
                if answer.status != 200 or answer.body or time.monotonic() >= until:
                    break
                waiting = asyncio.ensure_future(news.wait())
                await asyncio.wait({waiting, gone}, timeout=until - time.monotonic(), return_when="FIRST_COMPLETED")
                waiting.cancel()
                if gone.done():
                    break
        finally:
            gone.cancel()
        if answer.status == 200 and answer.body:
            before = self._handed.get(member.node_id)
            if before:
                await asyncio.to_thread(self.link.forget_message, before.message_id)
            self._handed[member.node_id] = _Handed(*read_pulled(answer.body), answer.body)
        return answer

    async def _push(self, member: Member, scope: Scope, body: bytes) -> Answer:
        """Take an answer, of the site that sends it and of no other."""
        try:
            sender, source, answered = read_answer(body)
        except ValueError as error:
            raise RefusedError(400, f"{member.name}: an answer that cannot be read") from error
        if {sender, source} != {member.node_id}:
            raise RefusedError(403, f"{member.name}: an answer in the name of another site")
        answer = await _call(self.link.app, scope, body)
        handed = self._handed.get(member.node_id)
        if handed and handed.message_id == answered:
            handed.answered = True
        return answer


_PROTOBUF = b"application/protobuf"


async def _read_body(scope: Scope, receive: Receive, largest: int) -> bytes:
    declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    if not declared.isdigit() or int(declared) > largest:
        raise RefusedError(413, "a body that is too large")
    body = bytearray()
    async with asyncio.timeout(WHOLE_S):
        while True:
            async with asyncio.timeout(SILENT_S):
                message = await receive()
            if message["type"] != "http.request":
                raise RefusedError(400, "")
            body += message.get("body", b"")
            if len(body) > largest:
                raise RefusedError(413, "a body that is too large")
            if not message.get("more_body"):
                return bytes(body)


async def _call(app: Asgi, scope: Scope, body: bytes) -> Answer:
    """Return what `app` answers to a request whose body has been read."""
    status, kind, parts, asked = 500, b"", list[bytes](), False

    async def receive() -> MutableMapping[str, Any]:
        nonlocal asked
        if asked:
            await asyncio.Event().wait()
        asked = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        nonlocal status, kind
        if message["type"] == "http.response.start":
            status, kind = message["status"], dict(message["headers"]).get(b"content-type", b"")
        else:
            parts.append(message.get("body", b""))

    await app(dict(scope), receive, send)
    return Answer(status, b"".join(parts), kind)
