"""The masks of a study, from their files to one convention, and whether they fit what is known of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import SimpleITK as sitk

from prostafed.client.findings import SourceError
from prostafed.client.ingest.images.candidates import Report
from prostafed.client.ingest.images.sources import Source
from prostafed.client.ingest.labels import LesionCoding, ZonesCoding, is_empty, order_zones, read_mask, select_lesions
from prostafed.common.imaging.agreement import list_missing_zones


@dataclass(frozen=True)
class MaskFiles:
    """The masks of a study, which image they were drawn on and what their values mean."""

    files: Mapping[str, Path]  # name of MASKS -> file
    space: Literal["t2w", "adc", "dwi"] = "t2w"
    lesion_coding: LesionCoding = "binary"
    zones_coding: ZonesCoding = "pz1_tz2"
    isup_by_label: Mapping[int, int | None] = field(default_factory=dict)


def read_masks(
    files: MaskFiles, sources: Mapping[str, Source], cspca: bool | None, report: Report
) -> dict[str, sitk.Image]:
    """Return the masks of a study with one convention (see MASKS); those in which nobody drew are left out.

    Reports MASK_EMPTY, LABEL_CONFLICT (a lesion where there is no csPCa, or none where there is) and what reading
    raises.
    """
    drawn_on = sources.get({"t2w": "t2w", "adc": "adc", "dwi": "hbv"}[files.space])
    masks: dict[str, sitk.Image] = {}
    for name, path in files.files.items():
        try:
            if drawn_on is None:
                text = f"expected the image the {name} mask was drawn on ({files.space}), found none in this study; "
                raise SourceError("MASK_SPACE", f"{text}correct mask_space.")
            mask = read_mask(path, drawn_on.image)
            blank = is_empty(mask)
            if name == "lesion":
                mask = select_lesions(mask, files.lesion_coding, files.isup_by_label)
                if cspca is not None and cspca == is_empty(mask):
                    text = "a lesion with csPCa where case_csPCa is YES and none where it is NO, found "
                    text += "YES without one" if cspca else "NO with one"
                    raise SourceError("LABEL_CONFLICT", f"expected {text}; correct studies.csv or the mask.")
            elif name == "zones":
                mask = order_zones(mask, files.zones_coding)
        except SourceError as error:
            report(error, None)
            continue
        if blank and not (name == "lesion" and cspca is False):
            text = f"expected a delineation in the {name} mask, found none; draw it, or take the file out."
            report(SourceError("MASK_EMPTY", text), None)
            continue
        if name == "zones" and (missing := list_missing_zones(mask)):
            text = f"expected both zones in the zones mask, found no {missing[0]} zone; draw it, or take the file out."
            report(SourceError("MASK_EMPTY", text), None)
        masks[name] = mask
    return masks
