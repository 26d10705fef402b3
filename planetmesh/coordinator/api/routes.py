"""Every route: what it takes, what it answers, who handles it. Roles stand in `access.RULES`.

The server's routes and the OpenAPI document are both made from this table, so neither can lie.
"""

from __future__ import annotations

from typing import Any

import msgspec

from planetmesh.coordinator.api import (
    blobs,
    certificates,
    edits,
    explanations,
    feed,
    inputs,
    jobs,
    metrics,
    nodes,
    outputs,
    pairing,
    results,
    settings,
    sources,
    status,
    tasks,
    values,
)
from planetmesh.coordinator.api.door import Handler
from planetmesh.wire.api import (
    AddedInputs,
    AddInputs,
    BlobSource,
    CancelJob,
    ChangeJob,
    ChangeNode,
    ChangeSettings,
    Digests,
    Explanation,
    FeedEvent,
    JobPage,
    JobView,
    MeshStatus,
    MissingBlobs,
    NodeView,
    OpenPairing,
    OutputPiece,
    PairingWindow,
    RenewCertificate,
    RenewedCertificate,
    RetriedJob,
    SettingView,
    StoredBlobs,
    SubmitJob,
    SubmittedJob,
    TaskFiles,
    TaskPage,
    TaskResult,
    TaskView,
    ValueLine,
)
from planetmesh.wire.members import AuditView, PersonView, SelfView


class Parameter(msgspec.Struct, frozen=True):
    """One of a query."""

    name: str
    kind: str
    about: str


class Route(msgspec.Struct, frozen=True, kw_only=True):
    method: str
    path: str
    handler: Handler
    about: str
    query: tuple[Parameter, ...] = ()
    body: Any = None
    answer: Any = None
    """None: an object without fields."""
    lines: bool = False
    """The answer is a stream of such objects, one a line."""
    raw: bool = False
    """It may be plain bytes instead."""
    takes_bytes: bool = False
    """The body is plain bytes."""
    status: int = 200

    @property
    def name(self) -> str:
        return self.handler.__name__


_ATTEMPT = (
    Parameter("job", "string", "Agents: the job of the attempt that they act for."),
    Parameter("index", "integer", "Agents: its task."),
    Parameter("attempt", "integer", "Agents: its number."),
)
_WAIT = Parameter("wait", "number", "Seconds to wait for the job's end before answering.")
_AFTER = Parameter("after", "integer", "Only lines with a higher number.")

ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/v1/status",
        handler=status.show_status,
        about="The mesh at a glance, and who is asking.",
        answer=MeshStatus,
    ),
    Route(
        method="GET",
        path="/v1/self",
        handler=status.show_self,
        about="What the coordinator knows of who is asking.",
        answer=SelfView,
    ),
    Route(method="DELETE", path="/v1/self", handler=certificates.leave, about="The caller leaves for good."),
    Route(
        method="GET",
        path="/metrics",
        handler=metrics.show_metrics,
        about="The coordinator and its nodes in numbers, in Prometheus' form.",
        raw=True,
    ),
    Route(
        method="GET",
        path="/v1/audit",
        handler=status.show_audit,
        about="Who did what, newest first.",
        query=(
            Parameter("limit", "integer", "Rows, 1000 at most."),
            Parameter("before", "integer", "Only rows with a lower number."),
        ),
        answer=list[AuditView],
    ),
    Route(
        method="GET",
        path="/v1/settings",
        handler=settings.list_settings,
        about="Every setting as it is now.",
        answer=list[SettingView],
    ),
    Route(
        method="PATCH",
        path="/v1/settings",
        handler=settings.change_settings,
        about="Change settings by name, all of them or none; null resets one. Answers those that were named.",
        body=ChangeSettings,
        answer=list[SettingView],
    ),
    Route(
        method="GET",
        path="/v1/feed",
        handler=feed.give_feed,
        about="What happens, as it happens, without an end. Empty lines only show that the line is alive.",
        query=(_AFTER,),
        answer=FeedEvent,
        lines=True,
    ),
    Route(
        method="GET",
        path="/v1/values",
        handler=values.give_values,
        about="What comes of the caller's own calls, of all his jobs in one stream, without an end.",
        query=(_AFTER,),
        answer=ValueLine,
        lines=True,
    ),
    Route(
        method="GET",
        path="/v1/jobs",
        handler=jobs.list_jobs,
        about="Jobs, newest first.",
        query=(
            Parameter("limit", "integer", "Jobs, 1000 at most."),
            Parameter("before", "string", "The id that the page before ended with."),
            Parameter("submitter", "string", "Only this member's jobs; `me` is the caller."),
            Parameter("live", "boolean", "Only jobs that have not ended, or only those that have."),
        ),
        answer=JobPage,
    ),
    Route(
        method="POST",
        path="/v1/jobs",
        handler=jobs.submit_job,
        about="Hand in a job; it is on disk when this answers. The same key gives the same job again.",
        query=(_WAIT,),
        body=SubmitJob,
        answer=SubmittedJob,
        status=201,
    ),
    Route(
        method="GET",
        path="/v1/jobs/{job}",
        handler=jobs.show_job,
        about="One job, by id, the beginning of id or name, or `last`.",
        query=(_WAIT, Parameter("spec", "boolean", "Give the spec even if it has many inputs.")),
        answer=JobView,
    ),
    Route(
        method="POST",
        path="/v1/jobs/{job}/inputs",
        handler=inputs.add_inputs,
        about="More inputs for a job that lingers (`linger_seconds`), behind the `first` that it has; they "
        "are on disk when this answers. Repeating it changes nothing. 409 if it takes none any more.",
        body=AddInputs,
        answer=AddedInputs,
    ),
    Route(
        method="POST",
        path="/v1/jobs/{job}/cancel",
        handler=jobs.cancel_job,
        about="Stop what runs of it and drop what waits.",
        body=CancelJob,
        answer=JobView,
    ),
    Route(
        method="PATCH",
        path="/v1/jobs/{job}",
        handler=edits.change_job,
        about="Pause or resume it; change its priority, its limit of running tasks, or what it waits for.",
        body=ChangeJob,
        answer=JobView,
    ),
    Route(
        method="POST",
        path="/v1/jobs/{job}/retry",
        handler=edits.retry_job,
        about="Queue its failed tasks again, whether it has ended or not.",
        answer=RetriedJob,
    ),
    Route(
        method="GET",
        path="/v1/jobs/{job}/explain",
        handler=explanations.explain_job,
        about="Why the job is as it is, with what to do.",
        answer=Explanation,
    ),
    Route(
        method="GET",
        path="/v1/jobs/{job}/tasks/{index}/explain",
        handler=explanations.explain_task,
        about="Why the task is as it is: its runs so far, where it runs and why there, or why not.",
        answer=Explanation,
    ),
    Route(
        method="GET",
        path="/v1/nodes/{node}/explain",
        handler=explanations.explain_node,
        about="What the node does, and why not more.",
        answer=Explanation,
    ),
    Route(
        method="GET",
        path="/v1/jobs/{job}/tasks",
        handler=tasks.list_tasks,
        about="The job's tasks, by index.",
        query=(
            Parameter("from", "integer", "The first index."),
            Parameter("limit", "integer", "Tasks, 10000 at most; a page may end earlier."),
            Parameter("status", "string", "Only tasks in this state (or these, with commas between)."),
        ),
        answer=TaskPage,
    ),
    Route(
        method="GET",
        path="/v1/jobs/{job}/tasks/{index}",
        handler=tasks.show_task,
        about="One task.",
        answer=TaskView,
    ),
    Route(
        method="POST",
        path="/v1/jobs/{job}/tasks/{index}/cancel",
        handler=tasks.cancel_task,
        about="Cancel one task.",
        body=CancelJob,
        answer=TaskView,
    ),
    Route(
        method="GET",
        path="/v1/jobs/{job}/output",
        handler=outputs.give_output,
        about="Output in the order in which it came.",
        query=(
            _AFTER,
            Parameter("index", "integer", "Only this task's."),
            Parameter("stream", "integer", "1: stdout, 2: stderr (else both of them), 3: values of calls."),
            Parameter("follow", "boolean", "Go on until the job, or the task, has ended."),
        ),
        answer=OutputPiece,
        lines=True,
    ),
    Route(
        method="GET",
        path="/v1/jobs/{job}/logs",
        handler=outputs.give_logs,
        about="Each task's last attempt's output, in the order of their index.",
        query=(
            Parameter("from", "integer", "The first index."),
            Parameter("limit_bytes", "integer", "End after so much output."),
        ),
        answer=OutputPiece,
        lines=True,
    ),
    Route(
        method="GET",
        path="/v1/jobs/{job}/results",
        handler=results.give_results,
        about="What came of the tasks that have ended so far, in the order of their index.",
        query=(
            Parameter(
                "form",
                "string",
                "`text` (usual): what COMPLETED tasks wrote to stdout, as it is; `json`: an object for each "
                "task with its `value`; `codes`: the same without it; `short`: those "
                "of whose stdout not all was kept (`TaskShort`).",
            ),
            Parameter("from", "integer", "The first index."),
            Parameter("limit", "integer", "Tasks at most (`json` and `codes`)."),
            Parameter("status", "string", "Only tasks that ended so (`json` and `codes`)."),
            Parameter("parse", "string", "`json`: an output that is one JSON value becomes that value."),
        ),
        answer=TaskResult,
        lines=True,
        raw=True,
    ),
    Route(
        method="GET",
        path="/v1/jobs/{job}/files",
        handler=blobs.list_files,
        about="The job's tasks that brought files, by index; each manifest is a blob that lists them.",
        answer=TaskFiles,
        lines=True,
    ),
    Route(
        method="POST",
        path="/v1/blobs/missing",
        handler=blobs.missing_blobs,
        about="Which of these files the coordinator does not hold, and how much of each has arrived.",
        query=_ATTEMPT,
        body=Digests,
        answer=MissingBlobs,
    ),
    Route(
        method="PUT",
        path="/v1/blobs/{digest}",
        handler=blobs.put_blob,
        about="Send one file, named by its SHA-256; it is on disk when this answers (200: it was before). "
        "With Content-Range it goes on where it was cut: `bytes FIRST-LAST/SIZE`, or `bytes */SIZE` if only "
        "the end is to be told. Where it must go on says the header Upload-Offset of a 409.",
        query=(
            Parameter("size", "integer", "Its size, if the body's length is not in the header."),
            *_ATTEMPT,
        ),
        answer=StoredBlobs,
        takes_bytes=True,
        status=201,
    ),
    Route(
        method="GET",
        path="/v1/blobs/{digest}",
        handler=blobs.get_blob,
        about="One file that a job uses, or a Range of it.",
        query=_ATTEMPT,
        raw=True,
    ),
    Route(
        method="POST",
        path="/v1/blobs",
        handler=blobs.put_blobs,
        about="Send many small files: for each 32 bytes of digest, 8 of size (big-endian) and its bytes.",
        query=_ATTEMPT,
        answer=StoredBlobs,
        takes_bytes=True,
    ),
    Route(
        method="POST",
        path="/v1/blobs/read",
        handler=blobs.read_blobs,
        about="Many small files in one answer, in the form in which they are sent.",
        query=_ATTEMPT,
        body=Digests,
        raw=True,
    ),
    Route(
        method="GET",
        path="/v1/nodes",
        handler=nodes.list_nodes,
        about="All nodes, in the order in which they joined.",
        answer=list[NodeView],
    ),
    Route(
        method="GET",
        path="/v1/nodes/{node}",
        handler=nodes.show_node,
        about="One node, by name, id, or the beginning of either.",
        answer=NodeView,
    ),
    Route(
        method="PATCH",
        path="/v1/nodes/{node}",
        handler=nodes.change_node,
        about="Rename, tag, drain or resume it.",
        body=ChangeNode,
        answer=NodeView,
    ),
    Route(
        method="DELETE",
        path="/v1/nodes/{node}",
        handler=nodes.forget_node,
        about="Strike a node that is not connected from the list.",
    ),
    Route(
        method="POST",
        path="/v1/nodes/{node}/revoke",
        handler=nodes.revoke_node,
        about="Take its certificate away; its connections close within a second.",
        answer=NodeView,
    ),
    Route(
        method="GET",
        path="/v1/pair",
        handler=pairing.list_windows,
        about="The open pairing windows, without their codes.",
        answer=list[PairingWindow],
    ),
    Route(
        method="POST",
        path="/v1/pair",
        handler=pairing.open_window,
        about="Open a window for one newcomer; the answer holds its code.",
        body=OpenPairing,
        answer=PairingWindow,
        status=201,
    ),
    Route(
        method="DELETE",
        path="/v1/pair/{slot}",
        handler=pairing.close_window,
        about="Close a window; its code is worth nothing any more.",
    ),
    Route(
        method="POST",
        path="/v1/certs/renew",
        handler=certificates.renew_certificate,
        about="A new certificate for the caller's own name and role.",
        body=RenewCertificate,
        answer=RenewedCertificate,
    ),
    Route(
        method="POST",
        path="/v1/blobs/{digest}/sources",
        handler=sources.find_source,
        about="From where the calling node should fetch a large blob, with a ticket if from another node.",
        query=(
            Parameter("job", "string", "The job of the attempt that needs it."),
            Parameter("index", "integer", "The task of that attempt."),
            Parameter("attempt", "integer", "The attempt."),
            Parameter("failed", "string", "Nodes that failed to give it, with commas between."),
        ),
        answer=BlobSource,
    ),
    Route(
        method="POST",
        path="/v1/certs/peer",
        handler=certificates.certify_peer,
        about="A certificate for the port on which the calling node hands blobs to other nodes.",
        body=RenewCertificate,
        answer=RenewedCertificate,
    ),
    Route(
        method="POST",
        path="/v1/certs/cluster",
        handler=certificates.certify_cluster,
        about="A certificate for the processes of a Dask cluster; no member's, so it opens nothing here.",
        body=RenewCertificate,
        answer=RenewedCertificate,
    ),
    Route(
        method="GET",
        path="/v1/people",
        handler=certificates.list_people,
        about="Operators and viewers whose certificates count.",
        answer=list[PersonView],
    ),
    Route(
        method="DELETE",
        path="/v1/members/{member}",
        handler=certificates.revoke_member,
        about="Refuse a member by its id, or one certificate by its serial, from now on.",
    ),
)
"""All but the agents' WebSocket and the document itself, which `app` adds."""
