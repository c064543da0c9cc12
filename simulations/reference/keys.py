"""keys.md: every key of the study, federation and site file, from the models."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from prostafed.client.site.site_file import Site
from prostafed.common.aggregation import AGGREGATORS, NoParameters
from prostafed.common.settings import describe_range
from prostafed.common.shell.configuration import BOUNDS
from prostafed.common.ssl import METHODS
from prostafed.common.study import Study
from prostafed.simulations.federation.federation_file import Federation


def describe_keys() -> str:
    """Return the page."""
    parts = ["# Every key\n"]
    for title, model in (("Study file", Study), ("Federation file", Federation), ("Site file", Site)):
        parts += [f"## {title}\n", *describe_section(model, "")]
    parts.append(
        "## Parameters of the self-supervised methods\n\nGiven in a pretraining stage as `[stage.parameters]`.\n"
    )
    for name, entry in METHODS.items():
        parts += describe_section(entry.parameters, f'parameters, method = "{name}"')
    bare = ", ".join(f"`{name}`" for name, entry in AGGREGATORS.items() if entry.parameters is NoParameters)
    parts.append(
        "## Parameters of the aggregators\n\nGiven in a stage as `[stage.aggregate_parameters]`. "
        f"Nothing can be set for {bare}.\n"
    )
    for name, aggregator in AGGREGATORS.items():
        if aggregator.parameters is not NoParameters:
            parts += describe_section(aggregator.parameters, f'aggregate_parameters, aggregate = "{name}"')
    return "\n".join(parts)


def describe_section(section: type, path: str) -> Iterator[str]:
    """Yield a Markdown table of a section's keys, then one for each section inside it."""
    title = f"### `[{path}]`\n\n" if path else ""
    rows = ["| key | type | default | meaning |", "|---|---|---|---|"]
    inner: list[tuple[str, type]] = []
    for name, annotation, default, description, limits in _keys(section):
        sections = list(_sections(annotation))
        inner += [(f"{path.split(',', maxsplit=1)[0]}.{name}" if path else name, each) for each in sections]
        kind = (
            "tables, one or more"
            if sections and get_origin(annotation) is tuple
            else "table"
            if sections
            else _type(annotation)
        )
        said = ", ".join(each for each in (kind, limits) if each)
        rows.append(f"| `{name}` | {said} | {_default(default)} | {description} |")
    yield f"{title}{(section.__doc__ or '').splitlines()[0]}\n\n" + "\n".join(rows) + "\n"
    for inner_path, each in inner:
        tag = next(
            (f', {name} = "{get_args(annotation)[0]}"' for name, annotation, *_ in _keys(each) if _is_tag(annotation)),
            "",
        )
        yield from describe_section(
            each, inner_path + (tag if len([p for p, _ in inner if p == inner_path]) > 1 else "")
        )


def _keys(section: type) -> Iterator[tuple[str, Any, Any, str, str]]:
    """Yield (name, annotation, default, description, range) of every key."""
    if issubclass(section, BaseModel):
        for name, info in section.model_fields.items():
            default = "see its table" if list(_sections(type(info.default))) else info.default
            bounds = {
                ours: getattr(each, its) for each in info.metadata for its, ours in BOUNDS.items() if hasattr(each, its)
            }
            yield name, info.annotation, default, info.description or "", describe_range(bounds)
    elif dataclasses.is_dataclass(section):
        hints = get_type_hints(section)
        for field in dataclasses.fields(section):
            limits = describe_range(field.metadata["bounds"])
            yield field.name, hints[field.name], field.default, field.metadata["description"], limits


def _sections(annotation: Any) -> Iterator[type]:
    if isinstance(annotation, type) and (issubclass(annotation, BaseModel) or dataclasses.is_dataclass(annotation)):
        yield annotation
    for argument in get_args(annotation):
        yield from _sections(argument)


def _is_tag(annotation: Any) -> bool:
    return get_origin(annotation) is Literal and len(get_args(annotation)) == 1


def _type(annotation: Any) -> str:
    arguments = [each for each in get_args(annotation) if each is not type(None)]
    if type(None) in get_args(annotation):
        return _type(arguments[0])
    if get_origin(annotation) is Literal:
        return " or ".join(f'"{value}"' for value in arguments)
    if get_origin(annotation) is tuple:
        return (
            f"list of {_type(arguments[0])}"
            if Ellipsis in arguments
            else f"list of {len(arguments)}: {_type(arguments[0])}"
        )
    return {bool: "true or false", float: "number", int: "whole number", str: "text", Path: "path"}.get(
        annotation, "table"
    )


def _default(default: Any) -> str:
    if default is PydanticUndefined or default is dataclasses.MISSING:
        return "required"
    if default is None:
        return "none"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, tuple):
        return f"`[{', '.join(_default(value).strip('`') for value in default)}]`"
    return f"`{default}`" if not isinstance(default, str) or default != "see its table" else default
