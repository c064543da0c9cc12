"""What stands on the outside of a message, for whoever passes it on unread: its kind, and that it is a
refusal or says that its sender has gone.
"""

from collections.abc import Mapping

MESSAGE_TYPES: Mapping[str, str] = {"hello": "query.hello", "train": "train.round", "evaluate": "evaluate.round"}
REFUSED = 100  # the error code of a refusal; Flower's own lie below
NODE_LOST = 5  # Flower's error code where a site has gone
