"""A run's process for tests: it ends as the study's text says, without Flower and torch."""

import json
import os
import signal
import sys
import time
from pathlib import Path

order = Path(sys.argv[1])
values = json.loads(order.read_text())["values"]
order.unlink()
out = Path(values["out"])
with (out / "starts").open("a") as file:
    file.write(f"{os.getpid()}\n")
if values["initial"] == "dies":
    print("ValueError: it dies")
    os.kill(os.getpid(), signal.SIGKILL)
if values["initial"] == "dies once" and len((out / "starts").read_text().splitlines()) == 1:
    os.kill(os.getpid(), signal.SIGKILL)
if values["initial"] == "stays":
    time.sleep(60)
(out / "state.json").write_text('{"state": "finished"}')
if values["initial"] == "lingers":
    time.sleep(60)
