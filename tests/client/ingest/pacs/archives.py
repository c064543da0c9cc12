"""Archives on loopback for the tests of pulling: dcmtk's dcmqrscp, pynetdicom's qrscp, and one that misbehaves."""

import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.uid import ImplicitVRLittleEndian, RLELossless
from pynetdicom import AE, evt
from pynetdicom.sop_class import (
    CTImageStorage,
    EnhancedMRImageStorage,
    MRImageStorage,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    Verification,
)

from prostafed.client.ingest.pacs.archive import VERIFICATION, describe_status
from prostafed.client.ingest.pacs.association import ASK, PacsError, PacsServer, associated

NAME, OURS = "ARCHIVE", "PROSTAFED"


def verify(server: PacsServer) -> None:
    """Ask the archive whether it hears us (C-ECHO); raises PacsError with what to change where it does not."""
    with associated(server, VERIFICATION) as association:
        status = association.send_c_echo()
        if not status or status.Status != 0x0000:
            raise PacsError(f"{server} answered C-ECHO with {describe_status(status)}, expected success. {ASK}")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def running_dcmtk(folder: Path, files: Sequence[Path], move_port: int) -> Iterator[PacsServer]:
    """dcmqrscp, the files put into its index beforehand."""
    for program in ("dcmqrscp", "dcmqridx"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed: apt-get install dcmtk")
    port, store = free_port(), folder / "store"
    store.mkdir(parents=True)
    copies = [Path(shutil.copy(path, store / f"{number}.dcm")) for number, path in enumerate(files)]
    subprocess.run(["dcmqridx", store, *copies], check=True, capture_output=True)
    settings = folder / "dcmqrscp.cfg"
    settings.write_text(
        f"NetworkTCPPort = {port}\nMaxPDUSize = 16384\nMaxAssociations = 16\n"
        f"HostTable BEGIN\nours = ({OURS}, 127.0.0.1, {move_port})\nHostTable END\n"
        "VendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\n{NAME} {store} RW (200, 1024mb) ANY\nAETable END\n"
    )
    with _running(["dcmqrscp", "-c", str(settings)], folder, port) as server:
        yield server


@contextmanager
def running_pynetdicom(folder: Path, files: Sequence[Path], move_port: int) -> Iterator[PacsServer]:
    """pynetdicom's own archive, the files sent to it."""
    pytest.importorskip("sqlalchemy")
    port = free_port()
    folder.mkdir(parents=True)
    settings = folder / "qrscp.ini"
    settings.write_text(
        f"[DEFAULT]\nae_title: {NAME}\nport: {port}\nmax_pdu: 16382\nacse_timeout: 30\ndimse_timeout: 30\n"
        f"network_timeout: 30\nbind_address: 127.0.0.1\ninstance_location: {folder / 'store'}\n"
        f"database_location: {folder / 'index.sqlite'}\nlog_identifier: False\n"
        f"[{OURS}]\naddress: 127.0.0.1\nport: {move_port}\n"
    )
    with _running([sys.executable, "-m", "pynetdicom", "qrscp", "-c", str(settings)], folder, port) as server:
        entity = AE(ae_title=OURS)
        for sop_class in (MRImageStorage, EnhancedMRImageStorage, CTImageStorage):
            entity.add_requested_context(sop_class)
        association = entity.associate("127.0.0.1", port, ae_title=NAME)
        assert association.is_established
        for path in files:
            assert association.send_c_store(dcmread(path)).Status == 0
        association.release()
        yield server


@contextmanager
def _running(command: list[str], folder: Path, port: int) -> Iterator[PacsServer]:
    server = PacsServer("127.0.0.1", port, NAME, OURS, timeout_s=20)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    try:
        for _ in range(200):
            try:
                verify(server)
                break
            except PacsError:
                assert process.poll() is None, (folder / "log").read_text()
                time.sleep(0.1)
        yield server
    finally:
        process.terminate()
        process.wait(10)


ARCHIVES: dict[str, Callable[..., Any]] = {"dcmtk": running_dcmtk, "pynetdicom": running_pynetdicom}


@contextmanager
def misbehaving(
    find: Callable[..., Any] | None = None,
    get: Callable[..., Any] | None = None,
    tls: ssl.SSLContext | None = None,
    title: str = NAME,
) -> Iterator[PacsServer]:
    """An archive that answers C-FIND and C-GET as the two handlers say, and offers only what it has a handler for."""
    entity = AE(ae_title=title)
    entity.require_called_aet = True
    entity.add_supported_context(Verification)
    handlers: list[Any] = []
    if find is not None:
        entity.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
        handlers.append((evt.EVT_C_FIND, find))
    if get is not None:
        entity.add_supported_context(StudyRootQueryRetrieveInformationModelGet)
        syntaxes = [ImplicitVRLittleEndian, RLELossless]
        entity.add_supported_context(MRImageStorage, syntaxes, scu_role=True, scp_role=True)
        handlers.append((evt.EVT_C_GET, get))
    service = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers, ssl_context=tls)
    assert service is not None
    try:
        yield PacsServer("127.0.0.1", int(service.server_address[1]), NAME, OURS, timeout_s=5)
    finally:
        service.shutdown()
