"""The chaos suite: real processes and servers are killed, paused and disconnected, and every effect is accounted for.

``python -m tests.chaos [--seed N] [--only NAME] [--short]`` runs it. docs/guarantees.md lists the promises that it checks.
"""
