"""Inspects running services and their NATS server from outside: discovery and the doctor.

Other rooms may use `discovery` (finds services and their operations), `ownership` (who owns which partition) and `doctor`
(checks a server and its services).
This room needs no part of a running actor: it uses the names, streams and contracts that the actors themselves use.
"""
