"""The coordinator: the one interpreter of `mesh/`, its doors to agents and clients, and its upkeep.

`service` is the composition, read top to bottom. `engine` turns; `turn` gathers what one turn asks for;
`switchboard` knows the links, `agent_link` is one of them; `restore` reads the state back; `access` has
the table of roles; `api/` a file per noun; `enrolment` says who belongs; `ticks` what time brings.
"""
