"""What we ask of a hospital's archive: verify, say what it has, have it sent. DICOM services, PS3.4 annexes A to C.

Errors say what went wrong with the connection; no answer's text is repeated, since archives quote patients in it.
"""

import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import AE, evt

from prostafed.client.ingest.pacs.association import (
    ASK,
    HURRYING,
    STORED,
    SYNTAXES,
    PacsError,
    PacsServer,
    RetrievalError,
    Store,
    associated,
    give_reason,
    make_context,
    silence,
)
from prostafed.common.shell.quiet import quiet

VERIFICATION = UID("1.2.840.10008.1.1")
STUDY_ROOT_FIND = UID("1.2.840.10008.5.1.4.1.2.2.1")
STUDY_ROOT_MOVE = UID("1.2.840.10008.5.1.4.1.2.2.2")
STUDY_ROOT_GET = UID("1.2.840.10008.5.1.4.1.2.2.3")
_SUCCESS, _PENDING, _OUT_OF_RESOURCES, _UNKNOWN_DESTINATION = 0x0000, (0xFF00, 0xFF01), 0xA700, 0xA801

Ask = Callable[[Dataset], list[Dataset]]


@contextmanager
def asking(server: PacsServer) -> Iterator[Ask]:
    """Yield a function that returns the archive's answers to a C-FIND on the study root, over one association.

    It raises PacsError where the archive does not answer to the last.
    """
    with associated(server, STUDY_ROOT_FIND) as association, quiet("pydicom"):

        def ask(query: Dataset) -> list[Dataset]:
            answers = []
            for status, answer in association.send_c_find(query, STUDY_ROOT_FIND):
                code = status.Status if status else None
                if code in _PENDING and answer is not None:
                    answers.append(answer)
                elif code not in (_SUCCESS, *_PENDING):
                    hint = "Ask for fewer studies." if code == _OUT_OF_RESOURCES else ASK
                    raise PacsError(f"{server} answered C-FIND with {describe_status(status)}. {hint}")
            return answers

        yield ask


def get(server: PacsServer, queries: list[Dataset], store: Store) -> None:
    """Have what `queries` identify sent over our own connection (C-GET); `store` takes each instance.

    Instances the archive cannot send are those that `store` never saw. Raises PacsError where the service is refused.
    """
    model = STUDY_ROOT_GET
    with associated(server, model, store) as association:
        if not any(context.as_scp for context in association.accepted_contexts):
            raise PacsError(f"{server} does not send MR images by C-GET. Use C-MOVE (--move).")
        for query in queries:
            _follow(server, "C-GET", association.send_c_get(query, model))


def move(server: PacsServer, queries: list[Dataset]) -> None:
    """Have what `queries` identify sent to our own AE title (C-MOVE), where `listening` takes it."""
    model = STUDY_ROOT_MOVE
    with associated(server, model) as association:
        for query in queries:
            _follow(server, "C-MOVE", association.send_c_move(query, server.calling_ae_title, model))


@contextmanager
def listening(server: PacsServer, port: int, store: Store, host: str = "") -> Iterator[None]:
    """Take instances on `port` while inside (C-STORE), under our AE title; raises PacsError where the port is taken."""
    silence()
    entity = AE(ae_title=server.calling_ae_title)
    entity.require_called_aet = True
    for sop_class in (*STORED, VERIFICATION):
        entity.add_supported_context(sop_class, list(SYNTAXES))
    context = make_context(server.tls, ssl.Purpose.CLIENT_AUTH) if server.tls else None
    try:
        service = entity.start_server(
            (host, port), block=False, ssl_context=context, evt_handlers=[*HURRYING, (evt.EVT_C_STORE, store)]
        )
    except OSError as error:
        raise PacsError(f"Cannot listen on port {port} ({give_reason(error)}). Choose another port.") from error
    assert service is not None  # it does not block
    try:
        yield
    finally:
        service.shutdown()


def _follow(server: PacsServer, service: str, answers: Iterator[tuple[Dataset, Dataset | None]]) -> None:
    """Read a retrieval's answers to the last; raises PacsError where it ended otherwise than done or partly done."""
    with quiet("pydicom"):
        for status, _ in answers:
            code = status.Status if status else None
            if code == _UNKNOWN_DESTINATION:
                raise PacsError(
                    f"{server} does not know where {server.calling_ae_title} is. Have our AE title entered "
                    "there with this machine's address and the port we listen on."
                )
            if code is None or (code >> 12 in (0xA, 0xC) and code != 0xA702):  # 0xA702: some instances failed
                raise RetrievalError(f"{server} answered {service} with {describe_status(status)}. {ASK}")


def describe_status(status: Dataset | None) -> str:
    """Return what an archive answered."""
    return f"status 0x{status.Status:04X}" if status and "Status" in status else "no answer in time"
