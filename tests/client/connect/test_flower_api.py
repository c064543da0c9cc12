"""What client/connect/fleet.py uses of Flower's private API, in the release that is installed."""

import inspect
from importlib.metadata import version

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.proto import fleet_pb2, heartbeat_pb2, message_pb2, run_pb2
from flwr.supercore.error import ApiErrorCode
from flwr.supercore.protobuf.client import ProtobufClient
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor
from packaging.specifiers import SpecifierSet
from packaging.version import Version

FILE = "client/connect/fleet.py uses Flower's private API, and this release of Flower has another: mend that file"
CALLS = {
    "ActivateNode": "/v1/fleet/activate-node",
    "DeactivateNode": "/v1/fleet/deactivate-node",
    "SendNodeHeartbeat": "/v1/fleet/send-node-heartbeat",
    "PullMessages": "/v1/fleet/pull-messages",
    "PushMessages": "/v1/fleet/push-messages",
    "GetRun": "/v1/fleet/get-run",
    "PullObject": "/v1/fleet/pull-object",
    "PushObject": "/v1/fleet/push-object",
    "ConfirmMessageReceived": "/v1/fleet/confirm-message-received",
}
FIELDS = {
    fleet_pb2.ActivateNodeRequest: {"public_key", "heartbeat_interval"},
    fleet_pb2.ActivateNodeResponse: {"node_id"},
    fleet_pb2.DeactivateNodeRequest: {"node_id"},
    fleet_pb2.PullMessagesResponse: {"messages_list", "message_object_trees"},
    fleet_pb2.PushMessagesRequest: {"node", "messages_list", "message_object_trees", "clientapp_runtime_list"},
    fleet_pb2.PushMessagesResponse: {"objects_to_push", "session_id"},
    heartbeat_pb2.SendNodeHeartbeatRequest: {"node", "heartbeat_interval"},
    heartbeat_pb2.SendNodeHeartbeatResponse: {"success"},
    message_pb2.PullObjectResponse: {"object_found", "object_available", "object_content"},
    message_pb2.PushObjectRequest: {"node", "run_id", "session_id", "object_id", "object_content"},
    message_pb2.PushObjectResponse: {"stored"},
    message_pb2.ConfirmMessageReceivedRequest: {"node", "run_id", "message_object_id"},
    message_pb2.Metadata: {"message_id", "run_id", "dst_node_id", "message_type", "group_id"},
    message_pb2.ObjectTree: {"object_id", "children"},
    run_pb2.GetRunRequest: {"node", "run_id"},
    run_pb2.Run: {"fab_hash", "override_config"},
}


def test_the_installed_release_is_one_that_was_tried() -> None:
    assert Version(version("flwr")) in SpecifierSet(">=1.41,<1.43"), FILE


def test_every_name_is_there() -> None:
    try:
        from prostafed.client.connect import fleet
    except ImportError as error:
        pytest.fail(f"{FILE}: {error}")
    assert fleet.Fleet


@pytest.mark.parametrize(("call", "path"), CALLS.items())
def test_the_client_calls_the_paths_that_the_door_serves(call: str, path: str) -> None:
    assert f'"{path}"' in inspect.getsource(getattr(FleetHttpClient, call)), FILE


@pytest.mark.parametrize(("kind", "fields"), FIELDS.items(), ids=lambda each: getattr(each, "__name__", ""))
def test_messages_have_the_fields_that_are_used(kind: type, fields: set[str]) -> None:
    assert fields <= set(kind.DESCRIPTOR.fields_by_name), FILE  # type: ignore[attr-defined]


def test_the_client_is_built_on_httpx_and_takes_what_ours_gives_it() -> None:
    assert {"interceptors", "verify", "timeout"} <= inspect.signature(ProtobufClient).parameters.keys(), FILE
    client = FleetHttpClient("https://fl.example.org:8000")
    assert isinstance(client._client, httpx.Client), FILE
    assert client._client.trust_env, "HTTPS_PROXY is read by it"
    client.close()


def test_a_request_is_signed_by_an_interceptor() -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    assert callable(NodeAuthHttpInterceptor(key, key.public_key()).intercept), FILE


def test_the_errors_have_their_names() -> None:
    names = {"FLEET_RUN_STATUS_NOT_ALLOWED", "FLEET_GET_RUN_FAILED", "FLEET_NODE_ACTIVATION_FAILED"}
    assert names <= ApiErrorCode.__members__.keys(), FILE
