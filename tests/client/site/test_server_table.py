"""The table [server] is set, and nothing else changes."""

import tomllib

import pytest

from prostafed.client.site.server_table import set_server
from prostafed.client.site.setup import SITE_FILE
from prostafed.common.errors import ConfigurationError

VALUES = {"address": "fl.example.org:8000", "root_certificates": "ca.crt", "key": "north.key"}
TABLE = '[server]\naddress = "fl.example.org:8000"\nroot_certificates = "ca.crt"\nkey = "north.key"\n'


def test_the_example_gives_way() -> None:
    before = SITE_FILE.format(name="north")
    after = set_server(before, VALUES, "site.toml")
    assert after == before[: before.index("# [server]")] + TABLE
    assert set_server(after, VALUES, "site.toml") == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('name = "a"', f'name = "a"\n\n{TABLE}'),
        (f'{TABLE}# mine\n[[x]]\nkey = "y"\n', f'{TABLE}# mine\n[[x]]\nkey = "y"\n'),
        (
            "[ server ] # old\nkey='k' # kept\n# why\naddress = \"a\"\n"
            'root_certificates = "b"\n[x]\naddress = "c"\n',
            '[ server ] # old\nkey="north.key" # kept\n# why\naddress = "fl.example.org:8000"\n'
            'root_certificates = "ca.crt"\n[x]\naddress = "c"\n',
        ),
        ('[server]\naddress = "a"\n', '[server]\nroot_certificates = "ca.crt"\nkey = "north.key"\n'
            'address = "fl.example.org:8000"\n'),
        (
            '# [server]\n# address = "a"\n# mine\nthreads = 4\n',
            f'# [server]\n# address = "a"\n# mine\nthreads = 4\n\n{TABLE}',
        ),
    ],
)  # fmt: skip
def test_what_a_person_wrote_stays(before: str, after: str) -> None:
    assert set_server(before, VALUES, "site.toml") == after
    assert tomllib.loads(after) == {**tomllib.loads(before), "server": VALUES}


@pytest.mark.parametrize("before", ['server = {address = "a"}', 'server.address = "a"', "[server]\nkey = '''k'''"])
def test_a_form_that_is_not_understood_is_left_to_a_person(before: str) -> None:
    with pytest.raises(ConfigurationError, match=r'\[server\] with address = "fl.example.org:8000", root_cert'):
        set_server(before, VALUES, "site.toml")
