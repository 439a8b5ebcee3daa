"""The contracts of actors: as documents, checked, and as registered versions.

A contract is the description of a service as discovery announces it. It comes from the classes of actors or from the services
that run, and both give the same documents.

Used from outside:

- `from_code` and `from_running`: the descriptions, from classes or from running services without the facts of their instances.
- `asyncapi`, `openapi` and `json_schema`: documents for other tools. `asyncapi_check`: the faults of the first one.
- `plain`: the descriptions as a file, which can be read back, and the writer of JSON documents.
- `page`: the page for people.
- `title`: the title of a document.
- `dashboards` and `alerts`: Grafana dashboards, and alert rules of Prometheus.
- `entries`: the schemas of an actor, with their versions.
- `registry` and `versions`: the versions with which actors have started.
- `compatibility` and `rules`: the comparison of two schemas, and whom a change breaks.
- `linter`: mistakes in the wiring of actors, from their code.
- `wiring` and `source`: the requests between actors, from their code.
- `graph`, `graph_text`, `graph_svg` and `live_rates`: the graph of services, its forms, and its live figures.

The other modules are internal: `keywords` (the schemas in a schema), `components` (the definitions of many schemas in one document),
`headers` (schemas of headers and errors), `subjects` (addresses and ids), `pointers` (places in a document), `page_types` (schemas
as HTML), `panels` and `expressions` (parts of dashboards, and PromQL), `shapes` (the rules of a schema by kind of value), `wording`
(such rules as text), `reading` (the messages in one statement), `graph_layout` (the places of boxes) and ``linter_…`` (one check
each).
"""
