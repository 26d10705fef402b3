"""The dashboard: the mesh on a terminal, for people who leave it open.

`feed` follows the mesh in a thread of its own and makes snapshots; `app` looks at the newest one a few times
a second and hands it to the screen that is shown. `snapshot`, `meter`, `plain`, `rows`, `alarms`, `sheets`
and `draft` are pure: views in, words out. Only `app`, `screens/` and `widgets/` know textual.
"""
