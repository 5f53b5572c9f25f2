"""Two machines under one name are told from one that was booted again."""

from gateway.boots import REMEMBERED, Boots, hear


def heard(boots: Boots, *said: str) -> tuple[Boots, list[str]]:
    after, returned = hear(boots, [("a-1", boot) for boot in said])
    return after, [boot for _, boot, _ in returned]


def test_a_machine_that_is_booted_again_and_again_is_one() -> None:
    assert heard({}, "a", "a", "b", "b", "c", "d", "e", "f", "f")[1] == []


def test_a_boot_that_comes_back_after_another_is_a_second_machine() -> None:
    boots, returned = heard({}, "a", "b")
    assert returned == []
    assert heard(boots, "a", "b")[1] == ["a", "b"]


def test_agents_are_told_apart_and_a_batch_that_is_heard_again_says_nothing_new() -> None:
    boots, _ = hear({}, [("a-1", "x"), ("a-2", "y")])
    again, returned = hear(boots, [("a-1", "x"), ("a-2", "y")])
    assert (again, returned) == (boots, [])


def test_little_is_remembered_of_each() -> None:
    boots, _ = heard({}, *(str(n) for n in range(100)))
    assert len(boots["a-1"]) == REMEMBERED
