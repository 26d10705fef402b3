"""`embed` up to the submit: where texts come from, and all that is refused before."""

from __future__ import annotations

import pytest

SERVER = ("--server", "nomic-embed-text")


@pytest.fixture
def here(tmp_path, monkeypatch):
    folder = tmp_path / "here"
    (folder / "model").mkdir(parents=True)
    (folder / "empty").mkdir()
    (folder / "model" / "config.json").write_text("{}")
    (folder / "a.txt").write_text("one\n\ntwo\n")
    (folder / "b.txt").write_text("three")
    (folder / "c.jsonl").write_text('{"abstract": "four"}\n')
    (folder / "there.npy").write_bytes(b"")
    monkeypatch.chdir(folder)
    return folder


def test_each_line_is_a_text_over_all_files(say, here):
    said = say("embed", *SERVER, "-o", "v.npy", "--dry-run", "--json", "a.txt", "b.txt")
    assert said.status == 0, said.error
    assert [task["inputs"] for task in said.json] == [["one"], ["two"], ["three"]]
    said = say("embed", *SERVER, "-o", "v.npy", "--dry-run", "--json", "--per", "file", "a.txt", "b.txt")
    assert [[file["name"] for file in task["files"]] for task in said.json] == [["a.txt"], ["b.txt"]]


def test_a_model_folder_is_taken_along(say, here):
    said = say("embed", "--model", "model", "-o", "v.npy", "--dry-run", "a.txt")
    assert said.status == 0, said.error
    assert "model/  1 files" in said.error


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("-o", "v.npy", "a.txt"), 2, "Say which model"),
        ((*SERVER, "--model", "model", "-o", "v.npy", "a.txt"), 2, "Say which model"),
        ((*SERVER, "a.txt"), 2, "-o"),
        ((*SERVER, "-o", "v.csv", "a.txt"), 2, ".npy or .jsonl"),
        ((*SERVER, "-o", "there.npy", "a.txt"), 2, "exists already; nothing was sent"),
        ((*SERVER, "-o", "none/v.npy", "a.txt"), 2, "does not exist"),
        ((*SERVER, "-o", "v.npy"), 2, "Name the files"),
        ((*SERVER, "-o", "v.npy", "none.txt"), 5, "no file 'none.txt'"),
        ((*SERVER, "-o", "v.npy", "model"), 2, "is no file"),
        ((*SERVER, "-o", "v.npy", "a.txt", "c.jsonl"), 2, "cannot be mixed"),
        ((*SERVER, "-o", "v.npy", "c.jsonl"), 2, "no text under 'text'"),
        ((*SERVER, "-o", "v.npy", "--key", "x", "a.txt"), 2, "JSON lines"),
        ((*SERVER, "-o", "v.npy", "--per", "file", "-"), 2, "no name"),
        (("--model", "none", "-o", "v.npy", "a.txt"), 5, "--server NAME"),
        (("--model", "empty", "-o", "v.npy", "a.txt"), 2, "holds no model"),
        (("--model", "model", "--server-kind", "openai", "-o", "v.npy", "a.txt"), 2, "needs --server"),
    ],
)
def test_what_is_refused_before_anything_is_sent(say, here, arguments, status, words):
    said = say("embed", *arguments)
    assert (said.status, words in said.error) == (status, True), said.error
