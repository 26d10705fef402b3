"""One example of every message, with every field set: for the golden file, round trips and abuse."""

from __future__ import annotations

from planetmesh.model.blob import Digest, Made, StagedFile
from planetmesh.model.ids import JobId, NodeId
from planetmesh.model.job import Limits, Outcome
from planetmesh.model.node import Gpu, NodeInfo, NodeLoad, Sandbox
from planetmesh.model.resources import Resources
from planetmesh.wire import agent as wire
from planetmesh.wire.codec import PROTOCOL

JOB = JobId("0123456789")
NODE = NodeId("00112233445566778899aabbccddeeff")
DIGEST = Digest("ab" * 32)
FILE = StagedFile("models/tiny", DIGEST, 4096, executable=True, is_tree=True)
HELD = wire.Held(JOB, 7, 2, running=True)
INFO = NodeInfo(
    hostname="desk",
    os="linux",
    arch="x86_64",
    version="1.0",
    python="3.11.7",
    cpus=8,
    memory_bytes=16 * 1024**3,
    gpus=(Gpu("GPU-1", "RTX", 8 * 1024**3),),
    offer=Resources(8000, 12 * 1024**3, 1),
    tags=("fast",),
    shares=("/data",),
    sandbox=Sandbox("landlock", proven=True, detail="abi 4"),
    job_types=("command", "script"),
    machine="cafe",
    refuses="",
)

FROM_AGENT: tuple[wire.FromAgent, ...] = (
    wire.RegisterNode(PROTOCOL, INFO, "i1", (HELD,), 5),
    wire.Heartbeat(NodeLoad(0.5, 1024, 2048, 3, 4, 5, 6, 0.25)),
    wire.Pong(9),
    wire.TaskStarted(JOB, 7, 2),
    wire.TaskOutput(JOB, 7, 2, 1, 100, b"hello\xff"),
    wire.TaskResult(
        JOB, 7, 2, Outcome.EXIT_CODE, 3, "Exit status 3.", 1.5, 0.5, 4096, 10, 20, Made(DIGEST, 2, 99)
    ),
    wire.TaskReturned(JOB, 7, 2, "recalled", started=True),
    wire.BlobsHeld((DIGEST,), (Digest("cd" * 32),)),
    wire.Serving(40123),
    wire.Leaving("done"),
)
TO_AGENT: tuple[wire.ToAgent, ...] = (
    wire.Registered(NODE, "desk", "home", 2.0, 1.7e9, (HELD,), 1 << 24, ("192.168.1.2:7433",), 0.01, 32),
    wire.OpenJob(
        JOB, "command", {"argv": ["true"]}, Resources(500, 1024, 0), {"A": "1"}, Limits(60.0, 10.0),
        at_most_once=True, submitter="op", files=(FILE,), outputs=("*.png",),
    ),
    wire.AssignTask(JOB, 7, 2, ("a.png", "b.png"), (StagedFile("a.png", DIGEST, 7),)),
    wire.StopTask(JOB, 7, 2),
    wire.RecallTasks((HELD,)),
    wire.CloseJob(JOB),
    wire.Acknowledge(12),
    wire.Ping(9),
    wire.Drain(on=True, now=True),
    wire.Goodbye("revoked", "Its certificate was revoked."),
)  # fmt: skip
ALL = (*FROM_AGENT, *TO_AGENT)
