"""Runs actors in a process, from start to drain: ownership of keys, restarts, signals, health and settings.

Used from outside:

- `process`: `run`, the whole life of a process; `serving`, actors for the duration of a block; `Runner`, their hosts.
- `host`: `Deployment`, the settings that the hosts of a process share, and `served_with` and `call_when_owning`, for actors
  that serve further actors, or copy the state of others.
- `local`: actors and a nats-server in one process.
- `config`: the settings of a process, merged from flags, environment and file.
- `health`: the HTTP port with the health and the metrics of a process.
- `signals`: the first signal drains, the second ends the process.

The other modules are internal: `owner` (one partition in this process), `members`, `view` and `placement` (who owns which
partition), `announcement` (discovery), `contract_check` (the schemas, before a process serves), `standby`, `serving` (the parts of one ownership), `checks` (of these parts, from time to
time), `drain`, `handover` (keys that are busy in a drain), `ending`, `restarts` (what follows a failure), `hooks` (`on_start`
and `on_stop`), `refusals` (missing permissions) and `reports` (what does not work, for the doctor).
"""
