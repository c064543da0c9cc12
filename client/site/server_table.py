"""The table [server] of a site file, set by a program: all else in the file stays as its author wrote it."""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping

from prostafed.common.errors import ConfigurationError

_TABLE = re.compile(r"\s*\[")
_HEADER = re.compile(r"\s*\[\s*server\s*\]\s*(#.*)?$")
_EXAMPLE = re.compile(r"#\s*(\[server\]|(address|root_certificates|key)\s*=.*)\s*$")


def set_server(text: str, values: Mapping[str, str], where: str) -> str:
    """Return the site file `text` with the table [server] of `values`: in the place of the one it has, of the example
    that is commented out, or at its end. Raises ConfigurationError where that is not all that would change.
    """
    wanted = {**tomllib.loads(text), "server": dict(values)}
    for changed in _ways(text.splitlines(), {name: _quote(value) for name, value in values.items()}):
        try:
            if tomllib.loads(changed) == wanted:
                return changed
        except tomllib.TOMLDecodeError:
            continue
    lines = ", ".join(f"{name} = {_quote(value)}" for name, value in values.items())
    raise ConfigurationError(
        f"{where} names its server in a form that is not changed by a program. Remove that, and write the table "
        f"[server] with {lines}."
    )


def _ways(lines: list[str], values: Mapping[str, str]) -> Iterator[str]:
    table = ["[server]", *(f"{name} = {value}" for name, value in values.items())]
    headers = [number for number, line in enumerate(lines) if _HEADER.match(line)]
    example = [number for number, line in enumerate(lines) if _EXAMPLE.match(line)]
    if headers:
        yield _join(_set_values(lines, headers[0], values))
    elif example:
        kept = [line for number, line in enumerate(lines) if number not in example[1:]]
        yield _join([*kept[: example[0]], *table, *kept[example[0] + 1 :]])
    yield _join([*lines, "", *table])


def _set_values(lines: list[str], header: int, values: Mapping[str, str]) -> list[str]:
    """Return the lines with new values in the table that begins at `header`; comments behind them stay."""
    end = next((n for n in range(header + 1, len(lines)) if _TABLE.match(lines[n])), len(lines))
    body, missing = lines[header + 1 : end], []
    for name, value in values.items():
        pattern = re.compile(rf"""(\s*{name}\s*=\s*)(?:"(?:[^"\\]|\\.)*"|'[^']*')(\s*(?:#.*)?)$""")
        found = [(number, match) for number, line in enumerate(body) if (match := pattern.match(line))]
        if found:
            number, match = found[0]
            body[number] = match[1] + value + match[2]
        else:
            missing.append(f"{name} = {value}")
    return [*lines[: header + 1], *missing, *body, *lines[end:]]


def _join(lines: list[str]) -> str:
    return "\n".join(lines) + "\n"


def _quote(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)
