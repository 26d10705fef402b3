"""The dashboard in a browser on this machine.

docs/adr/0011-a-dashboard-in-a-browser.md says how it is kept safe.
"""
