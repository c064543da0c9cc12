"""From slices to volumes, and from the series of a study to its T2W, ADC and high-b image."""
