"""The command line: one file a command, `main` as the only door.

`main` parses, lazily loads commands and turns every failure into a sentence and an exit code; `face` is what
a command gets from the global options; `output` prints. A command is a click command that takes the `Face`
with `@click.pass_obj` and returns None or its exit status. Heavy imports stand inside the commands.
"""
