"""What server/link/superlink.py uses of Flower's private API, in the release that is installed."""

import inspect
from importlib.metadata import version

import pytest
from flwr.server.superlink.linkstate import LinkState
from flwr.supercore.object_store.in_memory_object_store import InMemoryObjectStore, ObjectEntry
from flwr.superlink.config_loader import SuperLinkLifespanConfig
from flwr.superlink.grid import HttpGrid
from flwr.superlink.routers.fleet.router import router
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from prostafed.server.link import superlink
from prostafed.server.link.door import FLEET, LARGEST

FILE = "server/link/superlink.py uses Flower's private API, and this release of Flower has another: mend that file"
STATE = {
    "store_fab": {"fab"},
    "create_node": {"owner_aid", "owner_name", "public_key", "heartbeat_interval", "name"},
    "delete_node": {"owner_aid", "node_id"},
    "deactivate_node": {"node_id"},
    "get_node_info": {"node_ids"},
    "create_run": {"fab_id", "fab_version", "fab_hash", "override_config", "federation_id", "primary_task_type"},
    "get_run_info": {"run_ids"},
    "get_run_status": {"run_ids"},
    "claim_task": {"task_id"},
    "acknowledge_task_heartbeat": {"task_id"},
    "finish_task": {"task_id", "sub_status", "details"},
}


def test_the_installed_release_is_one_that_was_tried() -> None:
    assert Version(version("flwr")) in SpecifierSet(">=1.41,<1.43"), FILE


@pytest.mark.parametrize("name", sorted(STATE))
def test_the_state_has_what_is_asked_of_it(name: str) -> None:
    assert STATE[name] <= inspect.signature(getattr(LinkState, name)).parameters.keys(), FILE


def test_the_fleet_api_has_the_questions_that_the_door_passes() -> None:
    served = {getattr(route, "path", "") for route in router.routes}
    assert {f"{FLEET}{question}" for question in LARGEST} <= served, FILE


def test_the_fleet_api_has_no_question_that_nobody_has_looked_at() -> None:
    served = {getattr(route, "path", "").removeprefix(FLEET) for route in router.routes}
    assert served - LARGEST.keys() == {"register-node", "unregister-node", "get-fab"}, FILE


def test_the_grid_is_built_as_ours_expects() -> None:
    assert {"push_messages", "pull_messages", "set_run", "_connect", "_runtime_client"} <= set(dir(HttpGrid)), FILE
    assert "enable_supernode_auth" in SuperLinkLifespanConfig.__dataclass_fields__, FILE
    assert superlink.LinkGrid.__mro__[1] is HttpGrid


def test_parts_are_kept_as_ours_expects() -> None:
    link = superlink.SuperLink()
    assert isinstance(link._state.object_store, superlink._Parts), FILE
    assert {"message", "object_tree", "session_id"} <= inspect.signature(
        LinkState.store_message_and_object_tree
    ).parameters.keys(), FILE
    assert {"child_object_ids", "ref_count"} <= ObjectEntry.__dataclass_fields__.keys(), FILE
    assert {"get_object_tree", "preregister"} <= set(dir(InMemoryObjectStore)), FILE
    assert hasattr(link._state, "lock"), FILE
