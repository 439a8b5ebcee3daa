"""Rules and targets as data: the events of all streams, the rules that match them, and the deliveries to their targets.

Used from outside:

- `inputs`: the input of a target, as JSON data with paths into the event.
- `input_check`: compares an input with the JSON Schemas of the event and of the message that it becomes.
- `cloud_event`: an event from its stored headers and body, in the two modes of CloudEvents.
- `http_settings`: the settings of an HTTP target.
- `http_sender`: sends deliveries to HTTP targets.
- `gate`: the rate, the concurrency and the circuit breaker of a target.

The other modules are internal: `input_paths` (one path), `http_outcomes` (outcomes of an attempt), `http_tokens` (OAuth2), and
`secrets` (secret files).
"""
