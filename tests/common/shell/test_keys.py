import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from prostafed.common.errors import ConfigurationError
from prostafed.common.shell.keys import (
    create_node_key,
    is_signed,
    open_node_key,
    read_private_key,
    read_public_key,
    read_public_keys,
    say_fingerprint,
    say_public_key,
    sign,
    write_once,
)


def test_key_pair_is_what_ssh_keygen_makes(tmp_path: Path) -> None:
    public = create_node_key(tmp_path / "site.key", "north")
    assert public == tmp_path / "site.key.pub"
    assert public.read_text().startswith("ecdsa-sha2-nistp384 ")
    assert public.read_text().endswith(" north\n")
    assert stat.S_IMODE((tmp_path / "site.key").stat().st_mode) == 0o600
    keygen = shutil.which("ssh-keygen")
    if keygen is None:
        pytest.skip("ssh-keygen is not installed")
    derived = subprocess.run([keygen, "-y", "-f", tmp_path / "site.key"], capture_output=True, check=True).stdout
    assert derived.split()[:2] == read_public_key(public).split()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    public = create_node_key(tmp_path / "site.key", "north")
    before = (tmp_path / "site.key").read_bytes(), public.read_bytes()
    with pytest.raises(ConfigurationError, match="exists and is not overwritten"):
        create_node_key(tmp_path / "site.key", "north")
    public.rename(tmp_path / "moved")
    with pytest.raises(ConfigurationError, match="exists and is not overwritten"):
        create_node_key(tmp_path / "site.key", "north")
    assert ((tmp_path / "site.key").read_bytes(), (tmp_path / "moved").read_bytes()) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["moved", "site.key"]  # no temporary file is left


def test_a_file_is_written_with_its_mode(tmp_path: Path) -> None:
    write_once(tmp_path / "new" / "a", b"1", mode=0o644)
    assert (tmp_path / "new" / "a").read_bytes() == b"1"
    assert stat.S_IMODE((tmp_path / "new" / "a").stat().st_mode) == 0o644


def test_what_is_no_p384_public_key_is_refused(tmp_path: Path) -> None:
    create_node_key(tmp_path / "site.key", "north")
    with pytest.raises(ConfigurationError, match="not an OpenSSH public key"):
        read_public_key(tmp_path / "site.key")
    other = tmp_path / "other.pub"
    other.write_text("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl\n")
    with pytest.raises(ConfigurationError, match="not an ECDSA key on P-384"):
        read_public_key(other)
    with pytest.raises(ConfigurationError, match="Cannot read"):
        read_public_key(tmp_path / "absent.pub")


def test_a_signature_is_of_one_key_and_one_message(tmp_path: Path) -> None:
    north, south = (open_node_key(tmp_path / f"{name}.key", name) for name in ("north", "south"))
    signature = sign(north, b"message")
    assert is_signed(north.public_key(), b"message", signature)
    wrong = [(south, b"message", signature), (north, b"massage", signature), (north, b"message", b"")]
    for key, message, proof in wrong:
        assert not is_signed(key.public_key(), message, proof)


def test_a_key_is_opened_as_it_is_and_its_public_half_made_again(tmp_path: Path) -> None:
    key = open_node_key(tmp_path / "north.key", "north")
    public = tmp_path / "north.key.pub"
    before = public.read_bytes()
    public.unlink()
    again = open_node_key(tmp_path / "north.key", "north")
    assert again.private_numbers() == key.private_numbers()
    assert public.read_bytes() == before
    assert read_public_key(public) == say_public_key(key.public_key())


@pytest.mark.parametrize("content", [b"", b"none", b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n"])
def test_what_is_no_private_key_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "site.key").write_bytes(content)
    with pytest.raises(ConfigurationError, match="not an OpenSSH private key without a password"):
        read_private_key(tmp_path / "site.key")
    with pytest.raises(ConfigurationError, match="Cannot read the private key"):
        read_private_key(tmp_path / "absent.key")


def test_a_key_with_a_password_is_refused(tmp_path: Path) -> None:
    keygen = shutil.which("ssh-keygen")
    if keygen is None:
        pytest.skip("ssh-keygen is not installed")
    path = tmp_path / "site.key"
    subprocess.run([keygen, "-q", "-t", "ecdsa", "-b", "384", "-N", "secret", "-f", path], check=True)
    with pytest.raises(ConfigurationError, match="without a password"):
        read_private_key(path)


def test_a_fingerprint_is_that_of_ssh_keygen(tmp_path: Path) -> None:
    public = create_node_key(tmp_path / "site.key", "north")
    keygen = shutil.which("ssh-keygen")
    if keygen is None:
        pytest.skip("ssh-keygen is not installed")
    told = subprocess.run([keygen, "-l", "-f", public], capture_output=True, text=True, check=True).stdout
    assert told.split()[1] == say_fingerprint(read_public_key(public).decode())


def test_the_keys_of_a_folder_are_named_by_their_files(tmp_path: Path) -> None:
    keys = {name: create_node_key(tmp_path / name, "comment") for name in ("north", "south")}
    assert read_public_keys(tmp_path) == {name: read_public_key(path).decode() for name, path in keys.items()}
    assert read_public_keys(tmp_path / "none") == {}
