"""Where programs are started: the only place in the agent that does.

    agent (event loop)      handle.py: Zygote, LauncherHandle; probe.py: what the sandbox is worth
      │ one byte and a descriptor per job
    zygote (forked first)       zygote.py: forks launchers, kills what a dead one leaves
      │ fork
    launcher (one per job)      launcher.py: the loop; confine.py (landlock, views, veil, filter): once
      │ vfork and exec          attempt.py, deadlines.py, lent_folders.py, offspring.py, watch.py, disk.py
    tasks

The agent and a launcher speak messages.py in frames.py over a socket of their own. Whoever loses the
process above kills all below and leaves. folders.py makes the work folders, environment.py the variables.
Importing this package loads nothing: name the module you need.
"""
