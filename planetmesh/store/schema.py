"""The tables, as numbered migrations: number N is entry N-1.

Banner: an entry that was ever released is never edited. Whatever changes is a new entry; every one
runs inside one transaction, after a copy of the file was made (`database`).
"""

from __future__ import annotations

MESH = (
    # Numbers of jobs are never drawn twice (AUTOINCREMENT): rows of a swept job may outlive it a little.
    # A job's spec can be megabytes and never changes, so it stands apart from the row that changes often.
    # jobs_by_look: jobs that the rule for a job's state cannot tell apart stand together, to be counted.
    # tasks: `state <> 4` is all that did not complete; a restart and "what failed" read only those.
    """
    CREATE TABLE meta(name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

    CREATE TABLE nodes(
        id TEXT PRIMARY KEY, name TEXT NOT NULL, info TEXT, state TEXT NOT NULL, draining INTEGER NOT NULL,
        tags TEXT NOT NULL, reliability REAL NOT NULL, created_at REAL NOT NULL, last_heartbeat_at REAL
    ) WITHOUT ROWID;

    CREATE TABLE certificates(
        serial TEXT PRIMARY KEY, role TEXT NOT NULL, id TEXT NOT NULL, spki_hash TEXT NOT NULL,
        not_after REAL NOT NULL, state TEXT NOT NULL, successor TEXT NOT NULL
    ) WITHOUT ROWID;

    CREATE TABLE jobs(
        number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, submitter TEXT NOT NULL,
        key TEXT NOT NULL, name TEXT NOT NULL, type TEXT NOT NULL, priority INTEGER NOT NULL,
        partial INTEGER NOT NULL, total INTEGER NOT NULL, created_at REAL NOT NULL, started_at REAL,
        completed_at REAL, cancelled_at REAL, cancel_reason TEXT NOT NULL,
        queued INTEGER NOT NULL, assigned INTEGER NOT NULL DEFAULT 0, running INTEGER NOT NULL DEFAULT 0,
        retrying INTEGER NOT NULL DEFAULT 0, completed INTEGER NOT NULL DEFAULT 0,
        failed INTEGER NOT NULL DEFAULT 0, cancelled INTEGER NOT NULL DEFAULT 0
    );
    CREATE INDEX jobs_by_name ON jobs(name) WHERE name <> '';
    CREATE INDEX jobs_by_submitter ON jobs(submitter);
    CREATE INDEX jobs_by_key ON jobs(submitter, key) WHERE key <> '';
    CREATE INDEX jobs_by_look ON jobs(
        queued > 0, assigned + running + retrying > 0, completed > 0, failed > 0, cancelled > 0,
        partial, cancelled_at IS NOT NULL
    );
    CREATE INDEX live_jobs ON jobs(number) WHERE completed_at IS NULL;
    CREATE INDEX finished_jobs ON jobs(completed_at) WHERE completed_at IS NOT NULL;
    CREATE TABLE specs(job INTEGER PRIMARY KEY, spec BLOB NOT NULL);

    CREATE TABLE tasks(
        job INTEGER NOT NULL, idx INTEGER NOT NULL, state INTEGER NOT NULL, attempt INTEGER NOT NULL,
        node TEXT, failures INTEGER NOT NULL, losses INTEGER NOT NULL, excluded TEXT NOT NULL,
        started_at REAL, finished_at REAL, exit_code INTEGER, outcome TEXT, error TEXT NOT NULL,
        PRIMARY KEY(job, idx)
    ) WITHOUT ROWID;
    CREATE INDEX uncompleted_tasks ON tasks(job, state, idx) WHERE state <> 4;

    CREATE TABLE attempts(
        job INTEGER NOT NULL, idx INTEGER NOT NULL, attempt INTEGER NOT NULL, node TEXT,
        outcome TEXT NOT NULL, exit_code INTEGER, error TEXT NOT NULL, started_at REAL, finished_at REAL,
        PRIMARY KEY(job, idx, attempt)
    ) WITHOUT ROWID;

    CREATE TABLE swept_jobs(job INTEGER PRIMARY KEY);

    CREATE TABLE feed(number INTEGER PRIMARY KEY, kind TEXT NOT NULL, at REAL NOT NULL, data BLOB NOT NULL);

    CREATE TABLE audit(
        number INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, actor TEXT NOT NULL,
        action TEXT NOT NULL, object TEXT NOT NULL, detail TEXT NOT NULL
    );
    """,
    # tasks.width: how many indexes one row stands for, from `idx` on. terms: why its node was chosen.
    # jobs.rest: the state in which tasks without a row ended; NULL while they are queued.
    """
    ALTER TABLE tasks ADD COLUMN width INTEGER NOT NULL DEFAULT 1;
    ALTER TABLE tasks ADD COLUMN twin_node TEXT;
    ALTER TABLE tasks ADD COLUMN twin_attempt INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE tasks ADD COLUMN terms TEXT;
    ALTER TABLE attempts ADD COLUMN terms TEXT;
    ALTER TABLE jobs ADD COLUMN kind TEXT NOT NULL DEFAULT '';
    ALTER TABLE jobs ADD COLUMN waits TEXT NOT NULL DEFAULT '[]';
    ALTER TABLE jobs ADD COLUMN paused_at REAL;
    ALTER TABLE jobs ADD COLUMN edits TEXT NOT NULL DEFAULT '{}';
    ALTER TABLE jobs ADD COLUMN rest INTEGER;
    ALTER TABLE jobs ADD COLUMN rest_error TEXT NOT NULL DEFAULT '';
    ALTER TABLE nodes ADD COLUMN confined TEXT NOT NULL DEFAULT '[]';
    """,
    # tasks.made: the files that a task brought back, as [manifest, number, bytes].
    """
    ALTER TABLE tasks ADD COLUMN made TEXT;
    """,
    # begun_at, waiting_since: steady time, from which two time limits count; meta.steady says how far it is.
    # learned: how long kinds of job take on a node; apart from its row, which every heartbeat changes.
    """
    ALTER TABLE tasks ADD COLUMN begun_at REAL;
    ALTER TABLE jobs ADD COLUMN waiting_since REAL;
    CREATE TABLE learned(node TEXT PRIMARY KEY, times TEXT NOT NULL) WITHOUT ROWID;
    """,
    # dropped_for: the job whose end cancelled this one, which waited for another end of it.
    """
    ALTER TABLE jobs ADD COLUMN dropped_for TEXT;
    CREATE INDEX jobs_by_drop ON jobs(dropped_for) WHERE dropped_for IS NOT NULL;
    """,
    # stdout_bytes: what the task wrote, also what was dropped. Of less than the least bound nothing is.
    """
    ALTER TABLE tasks ADD COLUMN stdout_bytes INTEGER NOT NULL DEFAULT 0;
    CREATE INDEX long_outputs ON tasks(job, idx) WHERE stdout_bytes > 1024;
    """,
    # by_input: the counters count inputs, since chunks are cut when they are placed. The spec says it too.
    """
    ALTER TABLE jobs ADD COLUMN by_input INTEGER NOT NULL DEFAULT 0;
    """,
    # name: what the member was called when it came, so that the audit trail can be read.
    """
    ALTER TABLE certificates ADD COLUMN name TEXT NOT NULL DEFAULT '';
    """,
    # more_inputs: what a job that lingers got after its submit, as JSON; it belongs behind its spec's inputs.
    """
    CREATE TABLE more_inputs(
        job INTEGER NOT NULL, first INTEGER NOT NULL, items BLOB NOT NULL, PRIMARY KEY(job, first)
    ) WITHOUT ROWID;
    """,
    # address: where whoever did it called from.
    """
    ALTER TABLE audit ADD COLUMN address TEXT NOT NULL DEFAULT '';
    """,
)

OUTPUTS = (
    # `pieces_by_job` serves followers: the job's pieces in the order in which they came.
    # `place`: the how manieth of its stream a piece is; so their number can be bounded without counting.
    """
    CREATE TABLE jobs(number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE);

    CREATE TABLE pieces(
        number INTEGER PRIMARY KEY AUTOINCREMENT, job INTEGER NOT NULL, idx INTEGER NOT NULL,
        attempt INTEGER NOT NULL, stream INTEGER NOT NULL, offset INTEGER NOT NULL, data BLOB NOT NULL,
        place INTEGER NOT NULL
    );
    CREATE UNIQUE INDEX pieces_by_task ON pieces(job, idx, attempt, stream, offset);
    CREATE INDEX pieces_by_job ON pieces(job);
    """,
    # Values of calls are told to whoever made the calls, of all jobs in one stream.
    """
    CREATE INDEX values_by_number ON pieces(number) WHERE stream = 3;
    """,
)

BLOBS = (
    # uses: which job needs which blob, both by number to keep the rows small; asked from both sides.
    # blobs.used_at: when it came, or when the last job let it go; from then on its grace runs.
    """
    CREATE TABLE blobs(
        number INTEGER PRIMARY KEY AUTOINCREMENT, digest BLOB NOT NULL UNIQUE, size INTEGER NOT NULL,
        created_at REAL NOT NULL, used_at REAL NOT NULL
    );

    CREATE TABLE jobs(
        number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, used_at REAL NOT NULL
    );

    CREATE TABLE uses(
        job INTEGER NOT NULL, blob INTEGER NOT NULL, PRIMARY KEY(job, blob)
    ) WITHOUT ROWID;
    CREATE INDEX uses_by_blob ON uses(blob);
    """,
    # jobs.brought: bytes that nodes have brought for it, over all attempts; its inputs are not among them.
    """
    ALTER TABLE jobs ADD COLUMN brought INTEGER NOT NULL DEFAULT 0;
    """,
)
