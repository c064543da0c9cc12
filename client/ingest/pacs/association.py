"""A connection to a hospital's archive: opened, and when it cannot be, why. DICOM associations, PS3.8."""

import logging
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    LegacyConvertedEnhancedMRImageStorage,
    MRImageStorage,
    RLELossless,
)
from pynetdicom import AE, build_role, evt
from pynetdicom.association import Association
from pynetdicom.events import Event, EventHandlerType

from prostafed.common.errors import ProstafedError

STORED = (MRImageStorage, EnhancedMRImageStorage, LegacyConvertedEnhancedMRImageStorage)
# One presentation context each, so that the archive can send every file as it is instead of converting it.
SYNTAXES = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    JPEGLosslessSV1,
    RLELossless,
    DeflatedExplicitVRLittleEndian,
    JPEG2000,
    JPEGBaseline8Bit,
    ExplicitVRBigEndian,
)
ASK = "Ask whoever runs the archive."

Store = Callable[[Event], int]


class PacsError(ProstafedError):
    """The archive cannot be reached, refuses, or does not answer as DICOM says."""


class RetrievalError(PacsError):
    """The archive ended one transfer with an error; another may do better."""


@dataclass(frozen=True)
class Tls:
    """Files for an encrypted connection; certificate and key where the archive asks who we are."""

    authorities: Path
    certificate: Path | None = None
    key: Path | None = None


@dataclass(frozen=True)
class PacsServer:
    """How the archive is reached, and as whom."""

    host: str
    port: int
    ae_title: str  # of the archive
    calling_ae_title: str = "PROSTAFED"  # ours: the archive must know it
    timeout_s: float = 60.0  # for a connection, and for each answer
    tls: Tls | None = None

    def __str__(self) -> str:
        """The archive in a sentence."""
        return f"The archive {self.ae_title} at {self.host}:{self.port}"


def _hurry(event: Event) -> None:
    """Have TCP send and acknowledge at once: else every instance waits 40 ms for one side's delayed acknowledgement."""
    connection = event.assoc.dul.socket
    if connection is not None and connection.socket is not None:
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_QUICKACK"):  # Linux; it holds until the kernel thinks otherwise
            connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


HURRYING: list[EventHandlerType] = [(evt.EVT_CONN_OPEN, _hurry), (evt.EVT_DATA_RECV, _hurry)]


@contextmanager
def associated(server: PacsServer, service: UID, store: Store | None = None) -> Iterator[Association]:
    """Yield an association that offers `service`, and where there is a `store` the sending of MR images to us."""
    silence()
    entity = AE(ae_title=server.calling_ae_title)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = server.timeout_s
    entity.connection_timeout = server.timeout_s
    entity.maximum_pdu_size = 1 << 17
    entity.add_requested_context(service)
    roles = []
    handlers = list(HURRYING)
    if store is not None:
        for sop_class in STORED:
            roles.append(build_role(sop_class, scp_role=True))
            for syntax in SYNTAXES:
                entity.add_requested_context(sop_class, syntax)
        handlers.append((evt.EVT_C_STORE, store))
    address = _resolve(server)
    tls = (make_context(server.tls, ssl.Purpose.SERVER_AUTH), server.host) if server.tls else None
    association = entity.associate(
        address, server.port, ae_title=server.ae_title, ext_neg=list(roles), evt_handlers=handlers, tls_args=tls
    )
    offered = any(context.abstract_syntax == service for context in association.accepted_contexts)
    if not association.is_established and not association.rejected_contexts:
        raise PacsError(_explain(server, association))
    try:
        if not offered:
            hint = "Use C-MOVE (--move)." if store is not None else ASK
            raise PacsError(f"{server} does not offer {service.name} to {server.calling_ae_title}. {hint}")
        yield association
    finally:
        if association.is_established:
            association.release()


def silence() -> None:
    """Stop pynetdicom's log where it begins: it holds queries, answers and tracebacks."""
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)


def _resolve(server: PacsServer) -> str:
    """Return the archive's address as a number: pynetdicom takes no other."""
    try:
        return str(socket.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)[0][4][0])
    except OSError as error:
        raise PacsError(f"{server}: the host name is not known here. Check it, or give the address.") from error


def _explain(server: PacsServer, association: Association) -> str:
    if not association.is_rejected:
        try:  # pynetdicom does not say why it could not
            socket.create_connection((server.host, server.port), timeout=server.timeout_s).close()
        except OSError as error:
            return (
                f"Cannot reach {server} ({give_reason(error)}). Check host, port and firewall, and that it is running."
            )
        encryption = "its certificate and ours" if server.tls else "whether it wants TLS"
        return (
            f"{server} was reached but accepted no DICOM association within {server.timeout_s:g} s. Check that "
            f"the port is its DICOM port, and {encryption}."
        )
    answer = association.acceptor.primitive
    source, diagnostic = (answer.result_source, answer.diagnostic) if answer else (0, 0)
    if (source, diagnostic) == (1, 7):
        return f"{server} says that {server.ae_title} is not its AE title. Ask which it is."
    if (source, diagnostic) == (1, 3):
        return f"{server} does not know our AE title {server.calling_ae_title}. Have it entered there."
    return (
        f"{server} rejected the association (source {source}, reason {diagnostic}). Check the AE titles; it may "
        "also be busy."
    )


def make_context(files: Tls, purpose: ssl.Purpose) -> ssl.SSLContext:
    """Return the settings of an encrypted connection; raises PacsError where a file cannot be used."""
    try:
        context = ssl.create_default_context(purpose, cafile=str(files.authorities))
        if files.certificate is not None:
            context.load_cert_chain(files.certificate, files.key)
    except (OSError, ssl.SSLError) as error:
        raise PacsError(
            "Cannot read the TLS certificates for the archive. Check the files and their rights."
        ) from error
    return context


def give_reason(error: OSError) -> str:
    """Return what the system says, to stand in brackets."""
    return (error.strerror or str(error) or type(error).__name__).lower()
