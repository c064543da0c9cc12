from tests.server.report.conftest import make_run, run, run_library

__all__ = ["make_run", "run", "run_library"]
