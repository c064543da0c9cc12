"""The coordinator: stages, rounds, aggregation, checkpoints, report. Public is what a Python user does with a run's
folder; torch and plotting are loaded when a function is called.
"""

from prostafed.server.export import export_run
from prostafed.server.report import summary_table, write_report

__all__ = ["export_run", "summary_table", "write_report"]
