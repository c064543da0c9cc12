"""TOML files written by people -> frozen, typed records; a mistake names its key, the file and the nearest valid key.

Sections are pydantic models, or plain frozen dataclasses where the training core (which does without pydantic) reads
them.
"""

import json
import tomllib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, get_args, get_origin, get_type_hints

from pydantic import AfterValidator, BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from prostafed.common.errors import ConfigurationError, nearest
from prostafed.common.settings import describe_range


class Section(BaseModel):
    """A table of a configuration file: frozen, strictly typed, unknown keys forbidden."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    renamed: ClassVar[Mapping[str, str]] = {}  # what keys of the last release are called now


SectionT = TypeVar("SectionT")
# bounds as pydantic names them -> as a setting does
BOUNDS = {"gt": "above", "ge": "at_least", "lt": "below", "le": "at_most"}


def one_of(table: Collection[str], what: str) -> AfterValidator:
    """Return what refuses a name that `table` does not list; `what` says of what it is the name."""

    def check(name: str) -> str:
        if name not in table:
            raise ValueError(f"unknown {what} '{name}'{nearest(name, table)}")
        return name

    return AfterValidator(check)


def read_toml(path: Path, model: type[SectionT]) -> SectionT:
    """Read `path` into `model`; raises ConfigurationError, one sentence per mistake."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"Cannot read {path}: {error.strerror}. Check the path.") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is not UTF-8 text. Save it as UTF-8.") from error
    return parse_toml(text, model, str(path))


def parse_toml(text: str, model: type[SectionT], where: str) -> SectionT:
    """Read the TOML `text` into `model`; `where` names its origin in the ConfigurationError."""
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{where} is not valid TOML: {error}.") from error
    return parse(values, model, where)


def parse(values: Mapping[str, Any], model: type[SectionT], where: str) -> SectionT:
    """Validate `values` against `model`; `where` names their origin in the ConfigurationError.

    Validated as JSON: pydantic's strict mode then still takes arrays for tuples and tables for dataclasses.
    """
    try:
        return TypeAdapter(model).validate_json(json.dumps(values, default=str))
    except ValidationError as error:
        details = error.errors()
        # A list with a wrong item is also reported as too short: only the item's own mistake helps.
        real = [detail for detail in details if detail["type"] != "too_short"] or details
        # Where the key that says what a table is has a mistake, what else is wrong with the table says nothing.
        wrong = [detail for detail in real if _says_kind(model, detail)]
        tables = [detail["loc"][:-1] for detail in wrong]
        real = [detail for detail in real if detail in wrong or detail["loc"][:-1] not in tables]
        mistakes = [_sentence(detail, model) for detail in real]
        raise ConfigurationError("\n".join(f"{where}: {mistake}" for mistake in mistakes)) from error


def _sentence(detail: ErrorDetails, model: type) -> str:
    section, key = _follow(model, detail["loc"])
    context, found = detail.get("ctx", {}), detail["input"]
    match detail["type"]:
        case "extra_forbidden" | "unexpected_keyword_argument":
            name = str(detail["loc"][-1])
            now = getattr(section, "renamed", {}).get(name)
            said = f": it is called '{now}' now. Rename it." if now else nearest(name, _fields(section))
            return f"unknown key '{key}'{said}"
        case "missing" if isinstance(detail["loc"][-1], int):
            said = f"{key.rpartition('.')[0]}: expected more values, found {len(found)}."
        case "missing":
            said = f"the key '{key}' is missing. Add it."
        case "union_tag_invalid":
            said = (
                f"{key}: {context['discriminator']} is '{context['tag']}', expected one of {context['expected_tags']}."
            )
        case "union_tag_not_found":
            said = f"{key}: the key {context['discriminator']} is missing. Add it."
        case "value_error":
            said = f"{key}: {context['error']}" if key else str(context["error"])
        case "string_pattern_mismatch":
            said = f"{key}: found '{found}', expected {_describe(section, detail['loc'][-1])}."
        case _:
            bounds = {ours: context[its] for its, ours in BOUNDS.items() if its in context}
            broken = f"must be {describe_range(bounds)}" if bounds else detail["msg"].lower()
            said = f"{key}: {broken}, found {found!r} ({type(found).__name__})."
    return said


def _says_kind(model: type, detail: ErrorDetails) -> bool:
    return bool(detail["loc"]) and getattr(_follow(model, detail["loc"])[0], "kind_key", None) == detail["loc"][-1]


def _describe(section: type, name: int | str) -> str:
    """Return what a text key is, in the words of its description."""
    found = section.model_fields.get(str(name)) if issubclass(section, BaseModel) else None
    return (found.description if found else None) or "another form"


def _follow(model: type, location: tuple[int | str, ...]) -> tuple[type, str]:
    """Return the innermost section an error's location passes through, and the key as its author wrote it."""
    key: list[str] = []
    options: list[type] = []
    for part in location:
        tagged = [option for option in options if len(options) > 1 and part in _tags(option)]
        if tagged:  # pydantic names the member of a union by its tag; the author did not write that
            model, options = tagged[0], []
            continue
        key.append(str(part + 1) if isinstance(part, int) else part)
        if isinstance(part, str) and part in _fields(model):
            options = list(_sections_in(_fields(model)[part]))
            model = options[0] if len(options) == 1 else model
    return model, ".".join(key)


def _fields(section: type) -> dict[str, Any]:
    names = list(section.model_fields) if issubclass(section, BaseModel) else []
    if is_dataclass(section):
        names = [each.name for each in fields(section)]
    hints = get_type_hints(section, include_extras=True)
    return {name: hints[name] for name in names}


def _sections_in(annotation: Any) -> Iterable[type]:
    if isinstance(annotation, type) and (issubclass(annotation, BaseModel) or is_dataclass(annotation)):
        yield annotation
    for argument in get_args(annotation):
        yield from _sections_in(argument)


def _tags(section: type) -> tuple[Any, ...]:
    """The value of a union member's tag: its `tag`, or its field that can hold one text only."""
    if tag := getattr(section, "tag", ""):
        return (tag,)
    for annotation in _fields(section).values():
        if get_origin(annotation) is Literal and len(get_args(annotation)) == 1:
            return get_args(annotation)
    return ()
