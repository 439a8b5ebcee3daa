"""The chaos suite: real processes and servers, killed, paused and cut off, and an account of every effect.

``python -m tests.chaos [--seed N] [--only NAME] [--short]``; `docs/guarantees.md` says what is promised, this shows it.
"""
