"""Repartition: the keys of an actor that does not run are stored in another number of partitions.

`repartition` and `examine` in `steps` are used from outside. The order of the steps keeps all that is promised, wherever the
tool ends:

1. It takes the leases of all partitions, of both layouts. An owner that lives is named, and nothing happens.
2. It reads all records. One that this version cannot read is named, and nothing happens.
3. It stores the layout with `Layout.to`. From here on, no process starts until the repartition is finished or undone.
4. It closes the old streams. A late commit of a former owner is refused from here on, so nothing can be missed by the copy.
5. It creates the new streams, empty, and copies records, dedup entries and the positions of consumers.
6. It compares the records of both.
7. It stores the new layout, under the sequence of that of step 3. This is the switch.
8. It moves the timers (`runtime.storage.leftovers`), and deletes the old streams.

A failure before the switch is undone: the old streams are opened again, and the new ones are deleted. If the tool is killed, it
can be run again, or be undone by a repartition to the former number. After the switch, new owners finish the last step as well.

A tool that was paused cannot switch after another one has begun or undone: each of these stores the layout first, and so the
sequence that the switch expects is out of date.
"""

from runtime.admin.refusal import Refused, UnknownActor
from runtime.admin.repartition.steps import Plan, examine, repartition

__all__ = ["Plan", "Refused", "UnknownActor", "examine", "repartition"]
