"""What a node says it can embed texts with."""

from __future__ import annotations

import logging

import pytest
from model_server_double import serving

from planetmesh.agent import model_servers
from planetmesh.agent.model_servers import embedding_tags


@pytest.fixture(autouse=True)
def nothing_here(monkeypatch):
    with serving() as gone:
        port = gone.server_address[1]
    monkeypatch.setenv("OLLAMA_HOST", f"127.0.0.1:{port}")
    monkeypatch.delenv("PLANETMESH_EMBEDDING_SERVER", raising=False)


def test_models_of_both_kinds_of_server_become_tags(monkeypatch):
    with serving() as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        monkeypatch.setenv("PLANETMESH_EMBEDDING_SERVER", f"{server.url}/v1")
        assert embedding_tags() == (
            "embed:folder",
            "embed:nomic-embed-text",
            "embed:mxbai:335m",
            "embed:bge_small/v1.5",
        )


def test_without_the_libraries_there_is_no_folder_tag(monkeypatch):
    monkeypatch.setattr(model_servers, "FOLDER_NEEDS", ("numpy", "no_such_module_here"))
    assert embedding_tags() == ()


@pytest.mark.parametrize("url", ["http://192.0.2.7/v1", "http://127.0.0.1:1/v1", "nonsense"])
def test_a_server_that_was_named_and_is_no_good_is_told(monkeypatch, caplog, url):
    monkeypatch.setenv("PLANETMESH_EMBEDDING_SERVER", url)
    with caplog.at_level(logging.WARNING):
        assert embedding_tags() == ("embed:folder",)
    assert [record.message for record in caplog.records] == ["embedding_server.unusable"]


def test_a_page_that_is_not_there_is_told(monkeypatch, caplog):
    with serving() as server, caplog.at_level(logging.WARNING):
        monkeypatch.setenv("PLANETMESH_EMBEDDING_SERVER", f"{server.url}/v2")
        assert embedding_tags() == ("embed:folder",)
    assert "answered 404" in caplog.records[0].reason
