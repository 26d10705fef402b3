"""What runs inside a sandbox in our own code: warm workers and the calls that they make.

A launcher forks a worker and names what it is to call; nobody imports this room but by such a name.
What runs here shares its process with a submitter's code, so nothing it says is believed.
"""
