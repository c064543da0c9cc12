"""From a PACS export to cases: headers -> series -> volumes -> a case on the study's grid, or a finding that says why.

The way, one room each: `walk` (which files) -> `headers` (pixels unread) -> `b_values`, `series` (what is what) ->
`stack` (pixels, geometry) -> `diffusion` (ADC, high b), `labels` (masks) -> `assemble` (one study) -> `index` (a site).
Nothing here writes a path, a name, a date or a tag's value anywhere but into memory: see `identity`.
"""
