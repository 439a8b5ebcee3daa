"""Blame: which events may have ended the process of a former owner, and how many of their attempts that has used (ADR 012).

An owner that begins finds in the saved position of a consumer how its predecessor ended:

- It has left the consumer by a drain: nobody is named as the owner.
- Its process has lived on, though the ownership has ended: the lease was lost, a part failed, a drain was cut short, the
  process was paused. The process has said so (`Positions.report_survival`), or it is this process. No event is to blame.
- Neither: its process *died*, as far as anybody knows. If it says later that it lives, its death is taken back.

A death alone shows nothing: hundreds of events may have been in hand, and few of them ran. So the next owner *watches* the
events that were in hand at the death: it stores which of them run, before their handlers begin (`runtime.intake.watch`). The
events that run at a further death are *suspects*: they are the only ones that are blamed. A suspect runs alone among the
suspects, each death in which it runs uses one of its attempts, and after the last one it becomes a dead letter.

An event whose handler raises `SystemExit` is known exactly. Its attempts are used one by one, without a watch.
"""

from collections.abc import Callable, Collection

import msgspec

from runtime.storage.positions import ConsumerPosition, Death, Running

_KEPT = 8
"""The deaths that can be taken back. What an older one has used stays used."""


def succeed(
    known: ConsumerPosition,
    position: ConsumerPosition,
    delivered: int,
    running: Running | None,
    survived: Callable[[str, int], bool],
    attempts: int,
) -> ConsumerPosition:
    """Return the position of a consumer as a new owner begins, with the deaths before it.

    Args:
        known: The saved position.
        position: The current position, with the new owner.
        delivered: The last stream sequence that the consumer has delivered, before it is reset.
        running: The events that ran, as an owner has stored them last; None if none has.
        survived: Returns whether a process has survived an ownership of its own.
        attempts: Attempts that the handlers allow; if they differ, the smallest number.
    """
    kept = msgspec.structs.replace(position, deaths=known.deaths, used=known.used, finished=known.finished)
    kept = take_back(kept, survived)
    if not known.owner or delivered <= position.floor or survived(known.owner, known.ownership):
        return pruned(kept)
    ran: Collection[int] = ()
    if running is not None and (running.owner, running.ownership) == (known.owner, known.ownership):
        ran = [sequence for sequence in running.sequences if sequence > position.floor]
    used = dict(used_attempts(kept))
    first = first_used(attempts, alone=len(ran) == 1)
    charged = tuple((sequence, 1 if sequence in used else first) for sequence in ran)
    death = Death(known.owner, known.ownership, delivered, charged)
    return pruned(msgspec.structs.replace(kept, deaths=(*kept.deaths, death)))


def take_back(position: ConsumerPosition, survived: Callable[[str, int], bool]) -> ConsumerPosition:
    """Return a position without the deaths of processes that live."""
    deaths = tuple(death for death in position.deaths if not survived(death.owner, death.ownership))
    return msgspec.structs.replace(position, deaths=deaths)


def exited(position: ConsumerPosition, attempts: dict[int, int]) -> ConsumerPosition:
    """Return a position with the attempts that some events have used so far, those at the deaths of the position included."""
    used = dict(position.used)
    used |= attempts
    for death in position.deaths:
        for sequence, count in death.charged:
            if sequence in attempts:
                used[sequence] -= count
    return pruned(msgspec.structs.replace(position, used=tuple(used.items())))


def pruned(position: ConsumerPosition) -> ConsumerPosition:
    """Return a position without all that belongs to events up to its floor: they are done. Old deaths are joined."""
    floor = position.floor
    deaths = [death for death in position.deaths if death.last > floor]
    used = dict(position.used)
    while len(deaths) > _KEPT:
        for sequence, count in deaths.pop(0).charged:
            used[sequence] = used.get(sequence, 0) + count
        # The range of the joined death stays watched.
        deaths[0] = msgspec.structs.replace(deaths[0], last=max(deaths[0].last, position.last_in_hand))
    return msgspec.structs.replace(
        position,
        deaths=tuple(
            msgspec.structs.replace(death, charged=tuple(each for each in death.charged if each[0] > floor))
            for death in deaths
        ),
        used=tuple((sequence, count) for sequence, count in used.items() if sequence > floor),
        finished=position.finished if max(position.finished, default=0) > floor else (),
    )


def used_attempts(position: ConsumerPosition) -> dict[int, int]:
    """Return the suspects by sequence, each with the attempts that it has used."""
    used = dict(position.used)
    for death in position.deaths:
        for sequence, count in death.charged:
            used[sequence] = used.get(sequence, 0) + count
    return used


def first_used(attempts: int, *, alone: bool) -> int:
    """Return the attempts that an event has used at the first death in which it is known to have run.

    This death counts, and so does the one before it, after which the watch began. But a suspect always runs alone
    afterwards: twice, or once if it was the only event that ran at this death. Another event may have caused the deaths
    before, and once somebody may have ended the process from outside.

    ========  =  =  =  =  =
    attempts  1  2  3  5  8
    ========  =  =  =  =  =
    others ran 0  0  1  2  2
    alone      1  1  2  2  2
    ========  =  =  =  =  =

    Args:
        attempts: Attempts that its handler allows; if there are several handlers, the smallest number.
        alone: No other event that is watched ran.
    """
    return min(2, max(attempts - 1, 1)) if alone else min(2, max(attempts - 2, 0))
