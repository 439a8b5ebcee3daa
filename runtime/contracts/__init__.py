"""The contracts of actors as documents: from their classes, or from the services that run.

Used from outside:

- `linter`: mistakes in the wiring of actors, from their code.
- `wiring` and `source`: the requests between actors, from their code.
- `graph`, `graph_text`, `graph_svg` and `live_rates`: the graph of services, its forms, and its live figures.
- `from_code`: the description of actors from their classes, in the form in which discovery finds running services.

A document is made of a list of services and of nothing else, so both sources give the same one.
"""
