"""Commands find the link by a file of the home, whatever a link that was killed left there."""

from pathlib import Path

import pytest

from prostafed.common.errors import ConfigurationError
from prostafed.server.link.home import FILE, ask_link


@pytest.mark.parametrize("left", ["", "{", "7", "[]", "{}", '{"control": 7}', '{"control": "/nowhere/control"}'])
def test_a_file_that_names_no_link_is_one_sentence(left: str, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(left)
    with pytest.raises(ConfigurationError, match=r"No link runs on .* Start it: prostafed-server start"):
        ask_link(tmp_path, "status")
