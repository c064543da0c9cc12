"""Instances as series: what shares SeriesInstanceUID, ImageType, EchoTime and component, and is one stack."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from prostafed.client.ingest.records import Header, Kind, Series, Slice
from prostafed.client.ingest.scan.instances import Instance
from prostafed.client.ingest.scan.series import classify, find_plane, split_planes
from prostafed.client.ingest.scan.stacks import join_parts, split_acquisitions

_ONE_STACK: tuple[Kind, ...] = ("t2w", "adc", "hbv_calc")  # of other kinds, places repeat as they should
_Key = tuple[tuple[str, ...], float | None, str]


@dataclass(frozen=True)
class _Part:
    """Images under one SeriesInstanceUID; `name` tells apart what its header does not."""

    uid: str
    number: int | None
    header: Header
    slices: list[Slice]
    name: str = ""


def group_series(instances: Iterable[Instance]) -> tuple[Series, ...]:
    """Return the series of `instances`.

    Slices belong together that share SeriesInstanceUID, ImageType, EchoTime and component, and so do stacks that
    complete each other though ImageType or EchoTime differ. They are apart where they lie in another plane than most,
    and, of what must be one stack, where they were acquired again.
    """
    parts: dict[str, dict[_Key, _Part]] = defaultdict(dict)
    for each in instances:
        for group in each.groups:
            header = group.header
            key = header.image_type, header.echo_time_ms, header.component
            part = parts[each.series].setdefault(
                key, _Part(each.series, each.series_number, header, [], header.component)
            )
            part.slices.extend(group.slices)
    return _set_echo_trains_aside([each for of_uid in parts.values() for each in _make_series(list(of_uid.values()))])


def _make_series(parts: Sequence[_Part]) -> list[Series]:
    known = [replace(part, slices=list(mark_unweighted(part.slices, part.header.image_type))) for part in parts]
    flat = [each for part in known for each in _split_planes(part)]
    return [each for part in _join(flat) for each in _split_acquisitions(part)]


def _split_planes(part: _Part) -> list[_Part]:
    most, others = split_planes(part.slices)
    name = f"{part.name} other plane".strip()
    return [replace(part, slices=most), *([replace(part, slices=others, name=name)] if others else [])]


def _join(parts: Sequence[_Part]) -> list[_Part]:
    """Join the parts of one kind that complete each other, those of the nearest echo times and image types first."""
    if len(parts) == 1:
        return list(parts)
    kinds = [_classify(part)[0] for part in parts]
    joined: list[tuple[int, _Part]] = []
    for kind, component in dict.fromkeys(zip(kinds, (part.header.component for part in parts), strict=True)):
        alike = [at for at, part in enumerate(parts) if (kinds[at], part.header.component) == (kind, component)]
        alike.sort(key=lambda at: (parts[at].header.echo_time_ms or 0.0, parts[at].header.image_type, at))
        for members in join_parts([parts[at].slices for at in alike]):
            one = [parts[alike[member]] for member in members]
            slices = [each for part in one for each in part.slices]
            header = replace(
                one[0].header,
                lossy=any(part.header.lossy for part in one),
                burned_in=any(part.header.burned_in for part in one),
            )
            joined.append((min(alike[member] for member in members), replace(one[0], header=header, slices=slices)))
    return [part for _, part in sorted(joined, key=lambda one: one[0])]


def _split_acquisitions(part: _Part) -> list[Series]:
    kind, _ = _classify(part)
    stacks = split_acquisitions(part.slices) if kind in _ONE_STACK else [tuple(part.slices)]
    names = [part.name, *(f"{part.name} acquisition {number}".strip() for number in range(2, len(stacks) + 1))]
    return [_finish(replace(part, slices=list(stack), name=name)) for stack, name in zip(stacks, names, strict=True)]


def _finish(part: _Part) -> Series:
    kind, reason = _classify(part)
    header = _count_time_points(part)
    return Series(part.uid, part.number, header, tuple(part.slices), kind, find_plane(part.slices), reason, part.name)


def _classify(part: _Part) -> tuple[Kind, str]:
    return classify(_count_time_points(part), part.slices)


def _count_time_points(part: _Part) -> Header:
    """Return the header with how often the same place was imaged with the same b-value, where it says less."""
    places = Counter((each.position_mm, each.b_value_s_per_mm2) for each in part.slices if each.position_mm)
    return replace(part.header, time_points=max(part.header.time_points, max(places.values(), default=1)))


def _set_echo_trains_aside(series: Sequence[Series]) -> tuple[Series, ...]:
    """Call T2-weighted what a T2 map is computed from "other": three echo times or more at one place of a series."""
    echoes = defaultdict(set)
    for each in series:
        for place in {one.position_mm for one in each.slices}:
            echoes[each.uid, place].add(each.header.echo_time_ms)
    aside = {uid for (uid, _), times in echoes.items() if len(times) > 2}
    return tuple(
        replace(each, kind="other", reason="one of many echoes") if each.kind == "t2w" and each.uid in aside else each
        for each in series
    )


def mark_unweighted(slices: Iterable[Slice], image_type: Iterable[str]) -> tuple[Slice, ...]:
    """Return the slices of a series, those without a b-value as b=0 where they must be.

    Canon and Toshiba write b=0 so: others have a b-value, none of them 0, and lie at the same positions, at half of
    them at least, as either may lack some. A b-value that is there and cannot be read stays unknown, and so do derived
    images, which may be a map.
    """
    every = tuple(slices)
    if "DERIVED" in image_type:
        return every
    bare = {each.position_mm for each in every if _is_bare(each)}
    weighted = {each.position_mm for each in every if each.b_value_s_per_mm2}
    has_zero = any(each.b_value_s_per_mm2 == 0 for each in every)
    if has_zero or not bare or 2 * len((bare & weighted) - {None}) < len(weighted) or not weighted:
        return every
    return tuple(replace(each, b_value_s_per_mm2=0.0) if _is_bare(each) else each for each in every)


def _is_bare(each: Slice) -> bool:
    return each.b_value_s_per_mm2 is None and not each.b_value_garbled
