"""What comes between a site and its coordinator is one sentence; answers are bounded before they are read."""

import ssl
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from prostafed.client.connect import reach
from prostafed.client.connect.reach import bound, read_clock, say_why


@pytest.mark.parametrize(
    ("minutes", "said"), [(12, "12 minutes behind the coordinator's"), (-12, "12 minutes ahead of the coordinator's")]
)
def test_a_clock_that_is_off_is_said_by_how_much(minutes: int, said: str) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(minutes=minutes), usegmt=True)
    error = read_clock(httpx.Response(401, text="clock", headers={"date": date}))
    assert str(error) == f"The clock of this machine is {said}. Set it, best by NTP."


def test_another_refusal_is_none_of_the_clock() -> None:
    assert read_clock(httpx.Response(401, text="", headers={"date": "Thu, 01 Jan 2026 00:00:00 GMT"})) is None
    assert "Set it" in str(read_clock(httpx.Response(401, text="clock")))


def certificate_error(code: int) -> httpx.ConnectError:
    cause = ssl.SSLCertVerificationError()
    cause.verify_code = code
    error = httpx.ConnectError("no")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (certificate_error(10), "has expired"),
        (certificate_error(62), "is for another host name"),
        (certificate_error(99), "is not accepted"),
        (httpx.ProxyError("407"), "The proxy that HTTPS_PROXY names"),
        (httpx.ReadTimeout("slow"), "in time"),
        (httpx.ConnectError("refused"), "cannot be reached"),
    ],
)
def test_every_way_to_fail_is_a_sentence(error: httpx.HTTPError, said: str) -> None:
    assert said in say_why(error)


def test_a_port_without_tls_is_said() -> None:
    error = httpx.ConnectError("no")
    error.__context__ = ssl.SSLError("wrong version number")
    assert "does not speak TLS" in say_why(error)


def get(response: httpx.Response) -> bytes:
    client = httpx.Client(transport=httpx.MockTransport(lambda _: response), event_hooks={"response": [bound]})
    return client.get("https://fl.example.org").content


def test_an_answer_is_read_up_to_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "MOST_AT_ONCE", 10)
    assert get(httpx.Response(200, content=iter([b"12345", b"67890"]))) == b"1234567890"
    with pytest.raises(httpx.DecodingError):
        get(httpx.Response(200, content=iter([b"12345", b"678901"])))


def test_an_answer_that_is_packed_is_not_unpacked() -> None:
    with pytest.raises(httpx.DecodingError):
        get(httpx.Response(200, stream=httpx.ByteStream(b"x"), headers={"content-encoding": "gzip"}))
