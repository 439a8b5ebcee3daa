"""The host: runs actors in a process, from start to drain: ownership, standby, restarts, signals, health and settings.

Used from outside: `process` (Runner, run, serving), `host` (Deployment), `local` (local), `config` (Configuration,
Setting, load), `signals` (drain_on_signals).
"""
