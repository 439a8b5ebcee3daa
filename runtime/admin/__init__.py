"""Inspects running services and their NATS server from outside, and changes how the keys of a stopped actor are stored.

Other rooms may use `discovery` (finds services and their operations), `ownership` (who owns which partition), `doctor`
(checks a server and its services), `repartition` (stores the keys of an actor in another number of partitions) and `upgrade`
(brings the streams of an earlier version to the form of this one).
This room needs no part of a running actor: it uses the names, streams and contracts that the actors themselves use.
"""
