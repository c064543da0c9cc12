"""Metrics over case predictions; numpy only. A metric that the cases do not define is None, never NaN and never 0."""
