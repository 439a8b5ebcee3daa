"""The turns: each message of a key runs one at a time, from its lane to its commit.

Used from outside:

- `turn`: `Turns`, which admits messages and runs them.
- `work`: the base class of a message on its way through a turn.
- `latest`: the states of several keys, for a list.
- `copies`: lets the copies in memory follow the records of other writers.
- `workers`: the mailbox and its worker tasks.
- `admission`: the limits of waiting messages, and the errors beyond them.
- `jobs`: the long jobs that wait and run, and their cancellation.
- `elsewhere`: the error for a message whose key is in another partition.
- `failures`: the failure of a message, for whatever its handler has raised.
- `overrun`: how long a handler may go on after it was cancelled, and where a task waits.
- `served`: the parts of an actor that its components share.

The other modules are internal: `attempt` (one run of a handler, and the search for what was handled before), `nested` (its requests),
`keys` and `key` (the keys in memory and their lanes), `blocked` (keys whose first message waits for another attempt), `held` (keys
that a former owner still finishes), `staged` (a turn that is not stored yet), `commit` and `commit_task` (the commits of finished
turns), `checkpoints` (commits in the middle of a long job), and `effects` (what follows a commit).
"""
