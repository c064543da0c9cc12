"""From a PACS export to cases: headers -> series -> volumes -> a case on the study's grid, or a finding that says why.

The way, one room each: `walk` (which files) -> `headers` (pixels unread; `instances` reads one file, `grouping` makes
studies of them) -> `b_values`, `series` (what is what, by the table in `rules`) ->
`stack` (`pixels` and geometry) -> `sources` (which series is used as T2W, ADC and high b: `candidates`, `b_images`,
`diffusion`), `masks` (`labels`) -> `assemble` (one study) -> `index` (a site: `plan` joins studies with the manifest,
`entries` is what is written, `series_map` what a person may choose).
Nothing here writes a path, a name, a date or a tag's value anywhere but into memory: see `identity`.
"""
