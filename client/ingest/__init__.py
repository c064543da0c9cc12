"""From a PACS export to cases: headers -> series -> volumes -> a case on the study's grid, or a finding that says why.

The way, one room each: `scan` (which files, what their headers say, which series is what) -> `images` (pixels,
geometry, ADC and high b) and `masks` (`labels`: one mask from whatever format) -> `assemble` (one study) -> `index` (a
site: `plan` joins studies with the manifest, `workers` runs them, `entries` is what is written, `series_map` what a
person may choose). Beside it: `pacs` (fetching studies), `quality` (the report), `findings` (codes and sentences),
`identity`. Nothing here writes a path, a name, a date or a tag's value anywhere but into memory: see `identity` and
`records`.
"""
