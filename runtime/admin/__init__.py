"""Inspects running services and their NATS server from outside, and changes how the keys of a stopped actor are stored.

Other rooms may use `discovery` (finds services and their operations), `ownership` (who owns which partition), `figures`
(rates, lag and load), `doctor` (checks a server and its services), `stored` (the records of an actor), `record_view` (one of them
for people), `timers` (lists, fires and drops timers), `history` (the events and letters of a key), `exported` and `imported` (edits
records of a stopped actor), `archives` and `archive_config` (streams that keep events for longer), `replay` (sends stored events to their receivers again), `repartition` (stores the keys of an actor in another
number of partitions), `upgrade` (brings the streams of an earlier version to the form of this one) and `refusal` (the errors of
the last ones).

This room needs no part of a running actor: it uses the names, streams and contracts that the actors themselves use.
"""
