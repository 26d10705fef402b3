"""The nouns: frozen values with no behaviour but arithmetic and questions about themselves.

Times that people see end in `_at` (seconds since the epoch, by the coordinator's wall clock).
Decisions use `Moment.steady`, which never jumps.
"""
