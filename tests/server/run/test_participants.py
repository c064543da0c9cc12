"""Who is asked: everybody, or so many, drawn from the seed."""

from collections import Counter

from prostafed.server.exchange.exchange import Exchange
from prostafed.server.run.participants import count_rejections, draw_participants

SITES = ["east", "north", "south", "west"]


def test_all_are_asked_unless_the_study_says_how_many() -> None:
    assert draw_participants(SITES[::-1], "all", 1, 1, 1, 1) == SITES
    assert draw_participants(SITES, 9, 1, 1, 1, 1) == SITES


def test_the_draw_is_the_same_again_and_fair_over_rounds() -> None:
    draws = [draw_participants(SITES, 2, 1, 1, number, 1) for number in range(400)]
    assert draws == [draw_participants(SITES[::-1], 2, 1, 1, number, 1) for number in range(400)]
    counts = Counter(site for draw in draws for site in draw)
    assert all(160 < counts[site] < 240 for site in SITES)  # 200 expected, standard deviation 10


def test_a_site_that_leaves_changes_only_its_own_place() -> None:
    for number in range(50):
        whole = draw_participants(SITES, 2, 1, 1, number, 1)
        without = draw_participants(SITES[1:], 2, 1, 1, number, 1)
        assert set(whole) - {"east"} <= set(without)


def test_rejections_are_counted_in_a_row() -> None:
    before = {"east": 2, "north": 1, "west": 4}
    exchange = Exchange(["east"], [{"site": "north", "code": "NOT_FINITE"}, {"site": "west", "code": "NOT_NEEDED"}])
    assert count_rejections(before, exchange) == {"north": 2, "west": 4}
