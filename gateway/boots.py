"""Two machines under one name: a boot that comes back after another one was heard. Pure; used by the usage pipe.

A kernel's boot id never returns once the machine has booted again. So an agent that says A, then B, then A is two:
a cloned memory card, or a second process with the same credential.
"""

from collections.abc import Iterable

REMEMBERED = 4
Boots = dict[str, tuple[str, ...]]
"""The last boots of each agent, the newest last, each named once."""


def hear(boots: Boots, said: Iterable[tuple[str, str]]) -> tuple[Boots, list[tuple[str, str, str]]]:
    """Return what is remembered after some (agent, boot) and, for each boot that came back, (agent, boot, other).

    `boots` stays as it was: a batch that fails is heard again.
    """
    after, returned = dict(boots), []
    for agent, boot in said:
        known = after.get(agent, ())
        if known and boot != known[-1] and boot in known:
            returned.append((agent, boot, known[-1]))
        after[agent] = (*(other for other in known if other != boot), boot)[-REMEMBERED:]
    return after, returned
