"""The contracts of actors: as documents, from their classes or from the services that run, and as registered versions.

Used from outside:

- `linter`: mistakes in the wiring of actors, from their code.
- `wiring` and `source`: the requests between actors, from their code.
- `graph`, `graph_text`, `graph_svg` and `live_rates`: the graph of services, its forms, and its live figures.
- `entries`: the schemas of an actor, with their versions.
- `registry` and `versions`: the versions with which actors have started.
- `rules`: which change breaks whom.
- `compatibility`: the comparison of two schemas, one of a writer and one of a reader.
- `from_code`: the description of actors from their classes, in the form in which discovery finds running services.
- `from_running`: the descriptions of running services, without the facts of their instances.
- `plain`: the description as a file, which can be read back, and the writer of JSON documents.
- `asyncapi`, `openapi` and `json_schema`: documents for other tools.
- `asyncapi_check`: the faults of an AsyncAPI document.
- `page`: the page for people.
- `title`: the title of a document.
- `components`: the definitions of many schemas in one document.
- `dashboards` and `alerts`: Grafana dashboards and alert rules of Prometheus.

A document is made of a list of services and of nothing else, so both sources give the same one. The other modules are internal:
`shapes` (the rules of a schema by kind of value), `wording` (such rules as text), `headers` (schemas of headers and errors), `subjects` (addresses and ids), `pointers` (places in a document), and `page_types`
(schemas as HTML).
"""
