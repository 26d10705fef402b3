"""Where the one-file binary begins; it starts itself again for whatever else it needs."""

from planetmesh.__main__ import main

main()
