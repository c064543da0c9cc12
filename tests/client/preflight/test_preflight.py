"""Preflight: each check against a site where it holds and sites where it does not; a real TLS server, a real proxy."""

import socket
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from prostafed.client.preflight import CHECKS, Situation, network, run_checks
from prostafed.client.preflight.records import Remark
from prostafed.client.site.setup import init_site
from prostafed.client.site.site_file import Server, read_site_file
from prostafed.common.imaging.case_folder import write_case
from prostafed.common.imaging.cases import MASKS, CaseRecord, Grid
from prostafed.common.study import Data
from prostafed.server.link.pki import Pki, create_pki

GRID = Grid((3.0, 1.0, 1.0), (2, 4, 4))
DATA = Data(spacing_mm=GRID.spacing_mm, size=GRID.size)
ALL = {"t2w": "acquired", "adc": "vendor map", "hbv": "acquired b=1400"}


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return create_pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def situation(tmp_path: Path, pki: Pki) -> Situation:
    """A site whose checks all pass, but for its cases."""
    made = init_site(tmp_path / "north", "north")
    server = Server(address="localhost:1", root_certificates=pki.ca_certificate, key=made.public_key.with_suffix(""))
    site = read_site_file(made.site_file).model_copy(update={"server": server, "device": "cpu"})
    return Situation(made.site_file, site, DATA, datetime.now(UTC))


def ask(name: str, situation: Situation) -> list[Remark]:
    return list(CHECKS[name](situation))


def wrong(name: str, situation: Situation) -> Remark:
    """The one finding of a check."""
    (result,) = [each for each in ask(name, situation) if not each.ok]
    return result


def change(situation: Situation, **settings: object) -> Situation:
    return replace(situation, site=situation.site.model_copy(update=settings))


def add_cases(situation: Situation, count: int = 20, **about: object) -> None:
    for number in range(count):
        values = {"cspca": number % 2 == 0, "sequences": ALL, "patient_id": f"p{number}", **about}
        image = np.zeros((3, *GRID.size), np.float16)
        masks = np.zeros((len(MASKS), *GRID.size), np.uint8)
        write_case(situation.site.cases, CaseRecord(f"c{number}", **values), image, masks, GRID, DATA.sequences)  # type: ignore[arg-type]


def test_every_finding_has_a_fix_and_every_check_a_sentence(situation):
    results = list(run_checks(situation))
    assert {name for name, _ in results} == set(CHECKS)
    assert all(result.text.endswith(".") for _, result in results)
    assert [name for name, result in results if not result.ok] == ["cases", "coordinator"]


class TestFiles:
    def test_a_folder_that_cannot_be_written_to(self, situation, monkeypatch):
        make = tempfile.TemporaryFile

        def refuse(**where: Path) -> object:
            if where["dir"].name == "cases":
                raise PermissionError
            return make(**where)

        monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
        assert "cases cannot be written to" in wrong("folders", situation).text

    def test_an_export_that_is_not_mounted(self, situation, tmp_path):
        assert "does not exist" in wrong("folders", change(situation, dicom=tmp_path / "none")).text

    @pytest.mark.parametrize(
        ("damage", "fix"),
        [
            (lambda path: path.chmod(0o644), "chmod 600"),
            (Path.unlink, "prostafed-site init"),
            (lambda path: path.write_text("short"), "Restore"),
        ],
    )
    def test_the_secret(self, situation, damage, fix):
        assert ask("secret", situation)[0].ok
        damage(situation.site.secret)
        assert fix in wrong("secret", situation).fix

    def test_the_key_pair(self, situation, tmp_path):
        key = situation.site.server.key
        assert [each.ok for each in ask("key", situation)] == [True]
        key.chmod(0o640)
        assert "chmod 600" in wrong("key", situation).fix
        key.chmod(0o600)
        other = init_site(tmp_path / "other", "other").public_key
        key.with_name("north.key.pub").write_bytes(other.read_bytes())
        assert "does not belong" in wrong("key", situation).text
        key.with_name("north.key.pub").unlink()
        assert "cannot be read" in wrong("key", situation).text
        key.write_text("nothing")
        assert "not a private key" in wrong("key", situation).text

    def test_the_manifest(self, situation):
        studies = situation.site.manifest / "studies.csv"
        studies.write_text("case_id,psa,psad,prostate_volume\na,5,0.9,50\n")
        (result,) = ask("manifest", situation)
        assert result.ok
        assert "1 studies: 0 errors, 1 warnings" in result.text
        studies.write_text('case_id,psa\na,"1,2"\n')
        assert "1 errors" in wrong("manifest", situation).text
        studies.unlink()
        assert "no manifest" in wrong("manifest", situation).text


class TestCases:
    def test_enough_labelled_cases_on_the_studys_grid(self, situation):
        add_cases(situation)
        results = ask("cases", situation)
        assert all(result.ok for result in results)
        assert "csPCa: 10 yes, 10 no, 0 unknown" in results[-1].text

    @pytest.mark.parametrize(
        ("count", "about", "expected"),
        [
            (19, {}, "19 patients are few"),
            (20, {"patient_id": "one"}, "1 patients are few"),
            (20, {"cspca": None}, "csPCa: 0 yes, 0 no, 20 unknown"),
            (20, {"cspca": True}, "csPCa: 20 yes, 0 no"),
            (20, {"sequences": {"t2w": "acquired", "adc": "vendor map"}}, "20 lack hbv"),
        ],
    )
    def test_what_is_wrong_with_them(self, situation, count, about, expected):
        add_cases(situation, count, **about)
        assert expected in wrong("cases", situation).text

    def test_a_sequence_the_study_does_without(self, situation):
        add_cases(situation, sequences={"t2w": "acquired", "adc": "vendor map"})
        lenient = replace(situation, data=DATA.model_copy(update={"allow_missing": ("hbv",)}))
        assert all(result.ok for result in ask("cases", lenient))

    def test_another_grid(self, situation):
        add_cases(situation)
        text = wrong("cases", replace(situation, data=Data())).text
        assert "2x4x4 voxels of 3x1x1 mm" in text
        assert "20x256x256 voxels of 3x0.5x0.5 mm" in text

    def test_without_a_study_any_grid_will_do(self, situation):
        add_cases(situation)
        assert all(result.ok for result in ask("cases", replace(situation, data=None)))

    def test_generated_images_are_called_that(self, situation):
        add_cases(situation, source="phantom")
        assert "20 cases are generated images, not patients." in [each.text for each in ask("cases", situation)]


class TestMachine:
    def test_little_space_or_memory(self, situation, monkeypatch):
        monkeypatch.setattr("prostafed.client.preflight.machine.MIN_DISK_GB", 1e9)
        assert [result.ok for result in ask("disk", situation)] == [False, False]
        monkeypatch.setattr("prostafed.client.preflight.machine.MIN_MEMORY_GB", 1e9)
        assert not ask("memory", situation)[0].ok

    @pytest.mark.parametrize(
        ("device", "gpus", "ok"),
        [
            ("auto", 0, [True]),
            ("cpu", 0, [True]),
            ("cuda", 0, [False]),
            ("cuda:1", 1, [False]),
            ("cuda:1", 2, [True]),
            ("cuda:2,cuda:0", 3, [True, True]),
            ("cuda:0,cuda:2", 2, [True, False]),
        ],
    )
    def test_the_gpu_that_is_asked_for(self, situation, monkeypatch, device, gpus, ok):
        import torch

        memory = type("Properties", (), {"total_memory": 24e9})
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: memory)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "GPU")
        asked = change(situation, device=device, processes=device.count(",") + 1)
        assert [result.ok for result in ask("device", asked)] == ok

    def test_a_clock_that_is_behind(self, situation):
        assert ask("clock", situation)[0].ok
        behind = replace(situation, now=situation.now - timedelta(minutes=30))
        assert "behind by" in wrong("clock", behind).text
        assert ask("clock", replace(situation, now=situation.now - timedelta(minutes=4)))[0].ok


class TestCertificate:
    @pytest.mark.parametrize(
        ("shift", "expected"),
        [
            (timedelta(0), ""),
            (timedelta(days=-2), "is valid from"),
            (timedelta(days=3640), "expires on"),
            (timedelta(days=3651), "expired on"),
        ],
    )
    def test_its_dates(self, situation, shift, expected):
        at = replace(situation, now=situation.now + shift)
        if expected:
            assert expected in wrong("certificate", at).text
        else:
            assert ask("certificate", at)[0].ok

    def test_a_file_that_is_none(self, situation, tmp_path):
        server = situation.site.server.model_copy(update={"root_certificates": tmp_path / "none"})
        assert "not a certificate" in wrong("certificate", change(situation, server=server)).text


@contextmanager
def listening(handle: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server on loopback that hands each connection to `handle`, in a thread; yields its port."""
    with socket.create_server(("localhost", 0)) as server:
        server.settimeout(0.2)
        ended = threading.Event()

        def serve() -> None:
            while not ended.is_set():
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    continue
                with connection:
                    connection.settimeout(5)
                    with suppress(OSError):  # the other side has gone
                        handle(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            ended.set()
            thread.join()


def greet(pki: Pki) -> Callable[[socket.socket], None]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki.server_certificate, pki.server_key)
    context.set_alpn_protocols(["h2"])

    def handle(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secure:
            secure.recv(1)

    return handle


def relay(connection: socket.socket) -> None:
    """What an HTTP proxy does with CONNECT."""
    request = connection.recv(4096).decode()
    host, port = request.split()[1].rsplit(":", 1)
    if port == "9":
        connection.sendall(b"HTTP/1.1 403 Forbidden\r\n\r\n")
        return
    with socket.create_connection((host, int(port))) as onward:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")

        def pump(source: socket.socket, sink: socket.socket) -> None:
            try:
                while data := source.recv(4096):
                    sink.sendall(data)
                sink.shutdown(socket.SHUT_WR)
            except OSError:
                pass

        back = threading.Thread(target=pump, args=(onward, connection))
        back.start()
        pump(connection, onward)
        back.join()


class TestCoordinator:
    @pytest.fixture(autouse=True)
    def _no_proxy(self, monkeypatch):
        for name in ("https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(network, "TIMEOUT_S", 3.0)

    def at(self, situation: Situation, address: str, **server: object) -> Situation:
        return change(situation, server=situation.site.server.model_copy(update={"address": address, **server}))

    def test_a_coordinator_that_answers(self, situation, pki):
        with listening(greet(pki)) as port:
            (result,) = ask("coordinator", self.at(situation, f"localhost:{port}"))
        assert result.ok, result
        assert "over TLSv1.3 and with a certificate of its authority" in result.text

    def test_through_a_proxy(self, situation, pki, monkeypatch):
        with listening(greet(pki)) as port, listening(relay) as proxy:
            monkeypatch.setenv("https_proxy", f"http://localhost:{proxy}")
            (result,) = ask("coordinator", self.at(situation, f"localhost:{port}"))
            assert result.ok, result
            assert "through the proxy" in result.text
            refused = wrong("coordinator", self.at(situation, "localhost:9"))
            assert "CONNECT to port 9" in refused.fix
            monkeypatch.setenv("no_proxy", "localhost")
            (result,) = ask("coordinator", self.at(situation, f"localhost:{port}"))
            assert "proxy" not in result.text

    def test_another_authority(self, situation, pki, tmp_path):
        other = create_pki(tmp_path / "other").ca_certificate
        with listening(greet(pki)) as port:
            result = wrong("coordinator", self.at(situation, f"localhost:{port}", root_certificates=other))
        assert "signed by" in result.text

    @pytest.mark.parametrize(("host", "expected"), [("fl.example.org", "host name"), ("127.0.0.2", "address")])
    def test_another_name(self, situation, pki, monkeypatch, host, expected):
        connect = socket.create_connection
        with listening(greet(pki)) as port:
            monkeypatch.setattr(socket, "create_connection", lambda _, timeout: connect(("localhost", port), timeout))
            result = wrong("coordinator", self.at(situation, f"{host}:{port}"))
        assert f"certificate is for another {expected}." in result.text

    def test_a_certificate_that_has_expired(self, situation, tmp_path, monkeypatch):
        monkeypatch.setattr("prostafed.server.link.pki._SERVER_DAYS", 0)
        old = create_pki(tmp_path / "old")
        with listening(greet(old)) as port:
            at = self.at(situation, f"localhost:{port}", root_certificates=old.ca_certificate)
            assert "certificate has expired." in wrong("coordinator", at).text

    def test_a_port_without_tls(self, situation):
        with listening(lambda connection: connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as port:
            assert "does not speak TLS" in wrong("coordinator", self.at(situation, f"localhost:{port}")).text

    def test_nobody_there(self, situation):
        with socket.create_server(("localhost", 0)) as server:
            port = server.getsockname()[1]
        result = wrong("coordinator", self.at(situation, f"localhost:{port}"))
        assert "the connection was refused" in result.text
        assert f"outgoing TCP to port {port}" in result.fix

    def test_a_name_nobody_knows(self, situation, monkeypatch):
        def unknown(*_: object, **__: object) -> None:
            raise socket.gaierror

        monkeypatch.setattr(socket, "create_connection", unknown)
        assert "name of the coordinator is not known" in wrong("coordinator", self.at(situation, "nowhere:8000")).text

    @pytest.mark.parametrize("address", ["fl.example.org", ":8000", "fl:https"])
    def test_an_address_that_is_none(self, situation, address):
        assert "not host:port" in wrong("coordinator", self.at(situation, address)).text

    def test_none_named_yet(self, situation):
        unset = change(situation, server=None)
        assert "no coordinator yet" in wrong("coordinator", unset).text
        assert ask("certificate", unset) == ask("key", unset) == []
