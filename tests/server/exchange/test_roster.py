"""The roster: who is there, under which name, and whose answers come too late; the grid is scripted."""

from collections.abc import Iterable
from dataclasses import replace

import pytest
from flwr.app import Message
from flwr.proto.node_pb2 import NodeInfo

from prostafed.common.errors import RoundError
from prostafed.common.exchange.messages import Refusal, Reply, Request
from prostafed.common.exchange.wire import pack_reply
from prostafed.common.secagg.records import Enrolled
from prostafed.common.shell.progress import Event, Said, listening
from prostafed.server.exchange import exchange
from prostafed.server.exchange import roster as roster_module
from prostafed.server.exchange.roster import Roster
from tests.server.exchange.test_exchange import GOOD, REQUEST, Answer, SilentGrid, make_grid, replying


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "POLL_S", 0.01)
    monkeypatch.setattr(roster_module, "ASK_AGAIN_S", 0.05)


def echo(site: str) -> Answer:
    def answer(message: Message, request: Request) -> Message:
        tensors = GOOD.tensors if request.action == "train" else {}
        return pack_reply(replace(GOOD, site=site, stage=request.stage, round=request.round, tensors=tensors), message)

    return answer


@pytest.mark.usefixtures("quick")
def test_an_answer_to_an_earlier_round_is_put_aside_and_said() -> None:
    grid, nodes = make_grid({name: echo(name) for name in "ab"})
    roster = Roster(grid, "abc", 0.1)
    roster.assemble(2)
    grid.silent = frozenset({nodes["b"]})
    taken: list[tuple[str, int]] = []
    take = lambda site, reply: taken.append((site, reply.round))  # noqa: E731
    first = roster.ask(REQUEST, ["a", "b"], take)
    assert [(entry["site"], entry["code"]) for entry in first.rejections] == [("b", "DEADLINE")]
    assert first.late == []
    grid.silent = frozenset()
    second = roster.ask(replace(REQUEST, round=3), ["a", "b"], take)
    assert second.late == [{"site": "b", "stage": "1", "round": "2", "action": "train"}]
    assert taken == [("a", 2), ("a", 3), ("b", 3)]
    assert roster.ask(replace(REQUEST, round=4), ["a", "b"], take).late == []


class ChangingGrid(SilentGrid):
    """A grid some of whose nodes are away."""

    away: frozenset[int] = frozenset()

    def get_node_ids(self) -> Iterable[int]:
        return [node for node in super().get_node_ids() if node not in self.away]


def test_a_site_that_goes_and_comes_back_is_known_again() -> None:
    grid, nodes = make_grid({name: echo(name) for name in ("north", "south")}, ChangingGrid)
    grid.away = frozenset({nodes["south"]})
    roster = Roster(grid, "abc", 5.0)
    roster.assemble(1)
    assert roster.present() == ["north"]
    grid.away = frozenset()
    assert roster.present() == ["north", "south"]
    grid.away = frozenset({nodes["north"]})
    assert roster.present() == ["south"]
    asked = roster.ask(REQUEST, ["north", "south"], lambda site, reply: None)
    assert asked.replies == ["south"]
    grid.away = frozenset()
    assert roster.present() == ["north", "south"]


class EnrolledGrid(ChangingGrid):
    """A grid whose nodes' keys are enrolled under names."""

    enrolled: tuple[str, ...] = ()

    def get_nodes(self) -> Iterable[NodeInfo]:
        names = dict(zip(sorted(self._contexts), self.enrolled, strict=True))
        return [NodeInfo(node_id=node, name=names[node]) for node in self.get_node_ids()]


def test_a_name_nobody_enrolled_is_that_of_the_node_that_said_it_first() -> None:
    grid, nodes = make_grid({"first": echo("north"), "second": echo("north")}, ChangingGrid)
    grid.away = frozenset({nodes["second"]})
    roster = Roster(grid, "abc", 5.0)
    roster.assemble(1)
    grid.away = frozenset()
    assert roster.present() == ["north"]
    grid.away = frozenset({nodes["first"]})  # absent is not gone: nobody may stand in for it
    assert roster.present() == []
    assert roster.refused == {
        f"node {nodes['second']}": "SAME_NAME (another node is north; each site needs a name of its own)"
    }
    grid.away = frozenset()
    assert roster.ask(REQUEST, ["north"], lambda site, reply: None).replies == []
    assert roster.present() == ["north"]
    assert roster.ask(REQUEST, ["north"], lambda site, reply: None).replies == ["north"]


@pytest.mark.parametrize("away", [frozenset[str](), frozenset({"north"})])
def test_an_enrolled_site_cannot_be_another_whether_that_is_there_or_not(away: frozenset[str]) -> None:
    grid, nodes = make_grid({"thief": echo("north"), "south": echo("south"), "north": echo("north")}, EnrolledGrid)
    grid.enrolled = ("thief", "south", "north")
    grid.away = frozenset(nodes[site] for site in away)
    roster = Roster(grid, "abc", 5.0)
    roster.assemble(1)
    here = sorted({"north", "south"} - away)
    assert roster.present() == here
    said = "WRONG_NAME (its key is enrolled as thief, its site file says north; mend the one or the other)"
    assert roster.refused == {"thief": said}
    grid.away = frozenset()
    assert roster.present() == ["north", "south"], "nobody was locked out"
    taken: list[str] = []
    roster.ask(REQUEST, ["north", "south"], lambda site, reply: taken.append(site))
    assert sorted(taken) == ["north", "south"]


def test_a_hospital_enrolled_with_a_new_key_takes_its_place_once_the_old_one_is_gone() -> None:
    grid, nodes = make_grid({"old": echo("north"), "new": echo("north")}, EnrolledGrid)
    grid.enrolled = ("north", "north")
    roster = Roster(grid, "abc", 5.0)
    roster.assemble(1)
    assert roster.present() == ["north"]
    assert [why[:9] for why in roster.refused.values()] == ["SAME_NAME"]
    grid.away = frozenset({nodes["old"]})
    assert roster.present() == ["north"]
    assert roster.refused == {}


def test_sites_are_found_by_their_own_names() -> None:
    grid, _ = make_grid({name: replying(Reply(name, "abc")) for name in ("south", "north")})
    roster = Roster(grid, "abc", 5.0)
    roster.assemble(2)
    assert roster.present() == ["north", "south"]


def test_what_a_site_tells_of_its_patients_is_kept() -> None:
    told = {"cohort/csPCa/yes": 30.0}
    grid, _ = make_grid({"north": replying(Reply("north", "abc", metrics=told)), "south": replying(Reply("south"))})
    roster = Roster(grid, "abc", 5.0)
    roster.assemble(2)
    assert roster.cohorts == {"north": {"csPCa/yes": 30.0}}


def test_one_that_refuses_does_not_keep_the_others_from_starting() -> None:
    grid, nodes = make_grid({"a": replying(Refusal("DATA")), "b": echo("b"), "c": echo("c")})
    roster = Roster(grid, "abc", 60.0)
    roster.assemble(2)
    assert roster.present() == ["b", "c"]
    assert list(roster.refused) == [f"node {nodes['a']}"]
    assert roster.refused[f"node {nodes['a']}"].startswith("DATA (the site has no cases")


@pytest.mark.usefixtures("quick")
def test_one_that_refused_is_asked_again_until_it_is_ready() -> None:
    answers = iter([Refusal("DATA"), Refusal("DATA"), Reply("b")])
    grid, _ = make_grid({"a": echo("a"), "b": lambda message, request: pack_reply(next(answers), message)})
    roster = Roster(grid, "abc", 30.0)
    roster.assemble(2)
    assert roster.present() == ["a", "b"]
    assert roster.refused == {}


def test_one_that_refuses_is_not_asked_again_in_every_round() -> None:
    asked: list[str] = []

    def refuse(message: Message, request: Request) -> Message:
        asked.append(request.action)
        return pack_reply(Refusal("DATA"), message)

    grid, nodes = make_grid({"a": echo("a"), "b": refuse, "c": echo("c")}, ChangingGrid)
    roster = Roster(grid, "abc", 5.0)
    for _ in range(3):
        assert roster.present() == ["a", "c"]
    assert (len(asked), list(roster.refused)) == (1, [f"node {nodes['b']}"])
    grid.away = frozenset({nodes["c"]})  # somebody goes: who is there is asked anew
    assert roster.present() == ["a"]
    assert len(asked) == 2


def test_where_nothing_can_change_nobody_waits_for_the_deadline() -> None:
    grid, _ = make_grid({"a": echo("a"), "b": replying(Refusal("DATA"))})
    with pytest.raises(RoundError, match=r"Of 2 sites 1 are ready \(a\)\. node \d+: DATA"):
        Roster(grid, "abc", 1e9, patient=False).assemble(2)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("answers", "expected", "message"),
    [
        ({"a": replying(Reply("same")), "b": replying(Reply("same"))}, 2, r"1 are ready \(same\).*SAME_NAME"),
        ({"a": replying(Reply("a")), "b": replying(Refusal("DATA"))}, 2, "1 are ready.*DATA"),
        ({"a": replying(Reply("a"))}, 2, "1 of 2 sites were there.*deadline_s"),
    ],
)
def test_a_federation_that_is_not_complete_at_the_deadline_is_said(
    answers: dict[str, Answer], expected: int, message: str
) -> None:
    grid, _ = make_grid(answers)
    with pytest.raises(RoundError, match=message):
        Roster(grid, "abc", 0.1).assemble(expected)


def counting(refusals: list[Refusal], then: Reply, asked: list[str]) -> Answer:
    """One that refuses at first, and then answers."""

    def answer(message: Message, request: Request) -> Message:
        asked.append(request.action)
        return pack_reply(refusals.pop(0) if refusals else then, message)

    return answer


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("code", ["NOT_APPROVED", "RESTING", "HALTED"])
def test_what_people_decide_does_not_count_as_silence(code: str) -> None:
    asked: list[str] = []
    waits = counting([Refusal(code)] * 6, Reply("north"), asked)
    grid, _ = make_grid({"north": waits, "south": echo("south")}, EnrolledGrid)
    grid.enrolled = ("north", "south")
    roster = Roster(grid, "abc", 0.1)  # far less than six questions take
    said: list[Event] = []
    told: list[list[tuple[str, str, str]]] = []
    with listening(said.append):
        roster.assemble(2, lambda unready: told.append([(each.who, each.code, each.since) for each in unready]))
    assert roster.present() == ["north", "south"]
    assert len(asked) == 7
    assert said == [Said("north", roster_module.WAITING[code])], "once"
    assert [[entry[:2] for entry in each] for each in told] == [[("north", code)]] * 6 + [[]]
    assert len({each[0][2] for each in told[:6]}) == 1, "since when it waits does not change"


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("code", ["DATA", "APPROVAL_OVER"])
def test_other_reasons_do(code: str) -> None:
    grid, _ = make_grid({"a": echo("a"), "b": replying(Refusal(code))})
    with pytest.raises(RoundError, match=rf"1 are ready \(a\)\. node \d+: {code}"):
        Roster(grid, "abc", 0.1).assemble(2)


@pytest.mark.usefixtures("quick")
def test_the_deadline_begins_when_nobody_waits_for_approval_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    waits = counting([Refusal("NOT_APPROVED")] * 4, Reply("north"), asked)
    grid, _ = make_grid({"north": waits})
    with pytest.raises(RoundError, match="1 of 2 sites were there"):
        Roster(grid, "abc", 0.12).assemble(2)
    assert len(asked) == 5
    waits = counting([*[Refusal("NOT_APPROVED")] * 6, Refusal("DATA"), Refusal("DATA")], Reply("north"), asked)
    grid, _ = make_grid({"north": waits})
    Roster(grid, "abc", 0.25).assemble(1)
    monkeypatch.setattr(roster_module, "MOST_WAIT_S", 0.0)
    grid, _ = make_grid({"north": replying(Refusal("NOT_APPROVED"))})
    with pytest.raises(RoundError, match="NOT_APPROVED"):
        Roster(grid, "abc", 0.12).assemble(1)


def test_in_a_simulation_nobody_waits_for_approval() -> None:
    grid, _ = make_grid({"a": replying(Refusal("NOT_APPROVED"))})
    with pytest.raises(RoundError, match="NOT_APPROVED"):
        Roster(grid, "abc", 1e9, patient=False).assemble(1)


def test_one_that_waits_long_is_asked_less_often() -> None:
    assert (roster_module.ASK_AGAIN_S, roster_module.ASK_LATER_S, roster_module.LATER_S) == (15.0, 60.0, 600.0)
    assert roster_module.MOST_WAIT_S == 14 * 24 * 3600


def test_one_that_refused_before_the_run_is_not_asked_again_as_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    refuses = counting([Refusal("DATA")] * 2, Reply("b", "abc"), asked)
    grid, _ = make_grid({"a": echo("a"), "b": refuses, "c": echo("c")}, ChangingGrid)
    roster = Roster(grid, "abc", 5.0)
    roster.assemble(2)
    assert roster.present() == roster.present() == ["a", "c"]
    assert len(asked) == 1
    assert len(roster.refused) == 1
    monkeypatch.setattr(roster_module.time, "monotonic", lambda at=roster_module.time.monotonic: at() + 400.0)
    assert roster.present() == roster.present() == ["a", "c"]
    assert len(asked) == 2, "after a while it is"
    monkeypatch.setattr(roster_module.time, "monotonic", lambda at=roster_module.time.monotonic: at() + 400.0)
    assert roster.present() == ["a", "b", "c"]
    assert roster.refused == {}


def test_one_that_was_not_heard_as_the_run_began_is_greeted() -> None:
    grid, _ = make_grid({name: echo(name) for name in "abc"})
    roster = Roster(grid, "abc", 5.0)
    roster.assemble(2)
    assert roster.present() == ["a", "b", "c"]


def test_among_enrolled_sites_a_node_without_a_name_is_nobody() -> None:
    grid, nodes = make_grid({"north": echo("north"), "stranger": echo("west")}, EnrolledGrid)
    grid.enrolled = ("north", "")
    roster = Roster(grid, "abc", 5.0)
    roster.assemble(1)
    assert roster.present() == ["north"]
    assert roster.refused[f"node {nodes['stranger']}"].startswith("NOT_ENROLLED")


def test_a_revoked_site_is_gone_from_the_next_round_on() -> None:
    grid, nodes = make_grid({name: echo(name) for name in ("north", "south")}, EnrolledGrid)
    grid.enrolled = ("north", "south")
    roster = Roster(grid, "abc", 5.0)
    roster.assemble(2)
    grid.away = frozenset({nodes["south"]})
    assert roster.present() == ["north"]
    assert roster.ask(REQUEST, ["north", "south"], lambda site, reply: None).replies == ["north"]


def test_a_name_in_an_answer_is_that_of_the_key_or_the_answer_is_refused() -> None:
    def answer(message: Message, request: Request) -> Message:
        name = "thief" if request.action == "hello" else "north"
        return pack_reply(replace(GOOD, site=name, tensors=GOOD.tensors if request.action == "train" else {}), message)

    grid, _ = make_grid({"thief": answer, "north": echo("north")}, EnrolledGrid)
    grid.enrolled = ("thief", "north")
    roster = Roster(grid, "abc", 5.0)
    roster.assemble(2)
    taken: list[str] = []
    for request in (REQUEST, replace(REQUEST, action="evaluate")):
        asked = roster.ask(request, ["north", "thief"], lambda site, reply: taken.append(site))
        assert [(entry["site"], entry["code"]) for entry in asked.rejections] == [("thief", "WRONG_NAME")]
    assert taken == ["north", "north"]


@pytest.mark.usefixtures("quick")
def test_sites_are_told_whom_they_would_mask_with() -> None:
    told: list[bytes] = []

    def answer(message: Message, request: Request) -> Message:
        told.append(request.masks)
        return pack_reply(replace(GOOD, site="a", stage=0, round=0, cases=0, tensors={}, metrics={}), message)

    keys = {"a": "ecdsa-sha2-nistp384 AAAA"}
    for listed in (keys, {}):
        grid, _ = make_grid({"a": answer})
        roster = Roster(grid, "abc", 5.0, list_enrolled=lambda listed=listed: listed)  # type: ignore[misc]
        roster.assemble(1)
        assert roster.enrolled == listed
    assert Enrolled.read(told[0]).sites == keys
    assert told[1] == b""


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("action", "said"), [("agree", []), ("unmask", []), ("keys", ["b"])])
def test_who_was_not_needed_to_take_masks_off_is_not_late(action: str, said: list[str]) -> None:
    def answer(site: str) -> Answer:
        return lambda message, request: pack_reply(
            Reply(site, request.study_hash, request.stage, request.round), message
        )

    grid, _ = make_grid({name: answer(name) for name in "ab"})
    roster = Roster(grid, "abc", 5.0)
    roster.assemble(2)
    request = Request(action, "run", "abc", 1, 2)
    first = roster.ask(request, ["a", "b"], lambda site, reply: None, 1)
    assert first.replies == ["a"]
    assert [entry["site"] for entry in roster.ask(request, ["a"], lambda site, reply: None).late + first.late] == said
