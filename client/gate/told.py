"""What a site has told of its test patients: once per study and stage, whoever asks again and with whatever.

Summaries and histograms of several models over the same few patients, held against each other, tell of single ones
(differencing). So the first answer about the test split is kept, in memory/told, and given again to the very same
request; any other is refused. It is kept by study and stage, not by run: another name for the run opens nothing. It
cannot know a study that was changed in a detail from a new one: that is what approving studies is for.
"""

import json
from collections.abc import Callable
from pathlib import Path

from prostafed.common.errors import AlreadyToldError
from prostafed.common.exchange.messages import Reply, Request
from prostafed.common.shell.files import holding, make_folder, write_text


def tell_once(memory: Path, request: Request, digest: str, answer: Callable[[], Reply]) -> Reply:
    """Return `answer()` to the first request about the test patients of a stage of a study, and that again to the same
    request; `digest` is that of its tensors. Raises AlreadyToldError for any other request.

    The answer has no tensors. It is on the disk before it is returned; two requests at a time are taken in turn.
    """
    path = make_folder(memory / "told") / f"{request.study_hash}-stage-{request.stage}.json"
    asked = {"round": request.round, "splits": list(request.splits), "tensors": digest}
    with holding(path.with_suffix(".lock"), wait=True):
        if path.exists():
            kept = json.loads(path.read_text(encoding="utf-8"))
            if kept["asked"] != asked:
                raise AlreadyToldError(
                    f"The coordinator asks about the test patients of stage {request.stage} with another model than in "
                    f"the run {kept['run']}, which was answered. To answer once more, remove {path}; answers about "
                    "several models can tell of single patients."
                )
            return Reply(**kept["reply"])
        reply = answer()
        about = {name: value for name, value in vars(reply).items() if name != "masks"}  # an evaluation has none
        write_text(path, json.dumps({"run": request.run, "asked": asked, "reply": about}) + "\n")
        return reply
