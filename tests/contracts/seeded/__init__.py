"""A garden with each mistake that the wiring linter finds. A line with a mistake ends with a comment: ``finds`` and the code."""
