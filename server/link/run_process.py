"""The process of one run: the coordinator's ServerApp over the link's socket. The link starts it and sees it end."""

import json
import sys
from pathlib import Path

from prostafed.server.link.superlink import take_up_run


def main(order: Path) -> None:
    """Run what the file `order` says, and remove it first: it holds the token of this run."""
    given = json.loads(order.read_text(encoding="utf-8"))
    order.unlink()
    grid, context = take_up_run(Path(given["socket"]), given["token"], given["values"])
    from prostafed.server.app import main as run_server  # torch: seconds, while the SuperLink waits for the run already

    run_server(grid, context)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
