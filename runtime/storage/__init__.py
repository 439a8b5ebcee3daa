"""Everything that an actor keeps in JetStream: records, dedup entries, outboxes, positions, dead letters and indexes.

Used from outside:

- `streams`: the configuration of an actor's streams, their creation and check, and the names of consumers.
- `layout`: in how many partitions the keys of an actor are stored.
- `record_streams`: opens, closes and deletes the streams of a layout.
- `leftovers`: moves the timers of a former layout, and deletes its streams and consumers.
- `record` and `state`: the stored form of a key, and the decoder of its state.
- `unreadable`: logs the stored messages that cannot be read.
- `key`: `StoredKey`, the stored half of a key in memory.
- `fence`: tells which keys a former owner may still write.
- `draft`: the next record of a key, as a message that is not sent yet.
- `journal`: loads and commits records, and looks up handled messages.
- `dedup`: stores the handled messages that have left their record.
- `settlement`: the errors of a commit. They tell whether its record is stored.
- `relay`: publishes the events, timers and commands of committed turns.
- `schedules`: timers as messages of the server's scheduler, and the ids of their firings.
- `firing`: fires a timer or schedule before its time, as the server's scheduler would.
- `recurring`: the schedules of commands with ``every=``.
- `positions`: the positions of consumers.
- `membership`: the processes that run a partitioned actor, as they announce themselves.
- `status`: what does not work in a process, as it reports to the doctor.
- `dead_letters`: stores, lists, redrives and drops dead letters, and sends stored events to one reaction in the same way.
- `replays`: the stored form of replays: window, status and position.
- `index`: the indexes that list queries read.
- `listing`: what one page of a list asks for, and the form of page tokens.

The other modules are internal: `key_dedup` (such messages of one key), `dead_parts` (large bodies of dead letters),
`checkpoint`, `foreign` (records of other writers), `outbox_messages` (a part of the relay), `parked_tells` (commands by `tell` that
their receiver does not take), and `ordered` (the data structure of an index).
"""
