"""The intake: receives requests, events, timers and redriven dead letters, and makes each one a query call or a turn.

Used from outside: `context` (Context), `queries` (QueryEndpoint), `commands` (CommandEndpoint), `consumers`
(Consumers).
"""
