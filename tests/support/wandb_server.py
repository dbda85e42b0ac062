"""A stand-in for W&B's server: it takes whatever it is sent over HTTP, and keeps it for a test to look at."""

import gzip
import json
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ARTIFACT = {"id": "a", "state": "PENDING", "digest": "d", "artifactSequence": {"id": "s", "latestArtifact": None}}


class WandbServer(ThreadingHTTPServer):
    """Listens on this machine alone.

    Attributes:
        asked: name of a GraphQL operation → variables of every call.
        uploaded: sizes of the files that were put, in bytes.
        streamed: what was sent to the stream of a run's history, summary and logs.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: dict[str, list[dict[str, Any]]] = {}
        self.uploaded: list[int] = []
        self.streamed: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def environment(self) -> dict[str, str]:
        """Of a process that talks to it, and not to the W&B service of this one, which may know another server."""
        ours = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}
        return {**ours, "WANDB_BASE_URL": self.url, "WANDB_API_KEY": 40 * "0", "WANDB_MODE": "online"}

    def answer(self, name: str, variables: dict[str, Any]) -> dict[str, Any]:
        """What W&B would say to an operation, as far as its client reads it."""
        self.asked.setdefault(name, []).append(variables)
        place = {"uploadUrl": f"{self.url}/upload", "uploadHeaders": []}
        if name in ("Viewer", "ServerInfo"):
            return {"viewer": {"id": "1", "username": "me", "entity": "me", "flags": "{}", "teams": {"edges": []}}}
        if name == "UpsertBucket":
            project = {"id": "p", "name": variables["project"], "entity": {"id": "e", "name": "me"}}
            bucket = {"id": "b", "name": variables["name"], "displayName": variables["displayName"], "config": "{}"}
            return {"upsertBucket": {"bucket": {**bucket, "project": project, "historyLineCount": 0}, "inserted": True}}
        if name == "CreateRunFiles":
            files = [{"name": file, **place} for file in variables["files"]]
            return {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}}
        if name in ("CreateArtifact", "CommitArtifact"):
            return {name[0].lower() + name[1:]: {"artifact": ARTIFACT}}
        if name in ("CreateArtifactManifest", "UpdateArtifactManifest"):
            file = {"id": "f", "name": "m", "displayName": "m", **place}
            return {name[0].lower() + name[1:]: {"artifactManifest": {"id": "m", "file": file}}}
        if name == "CreateArtifactFiles":
            nodes = [
                {"id": "f", "name": one["name"], "displayName": one["name"], "artifact": ARTIFACT, **place}
                for one in variables["artifactFiles"]
            ]
            return {"createArtifactFiles": {"files": {"edges": [{"node": node} for node in nodes]}}}
        if name == "UpsertView2":
            return {"upsertView": {"view": {"id": "v", "name": variables["name"]}, "inserted": True}}
        return {"project": None}  # of every question after a project, for example whether it has an artifact


class _Handler(BaseHTTPRequestHandler):
    server: WandbServer

    def log_message(self, *args: object) -> None:
        """Print nothing."""

    def do_HEAD(self) -> None:
        self._send({})

    def do_GET(self) -> None:
        self._send({})

    def do_PUT(self) -> None:
        self.server.uploaded.append(len(self._body()))
        self._send({})

    def do_POST(self) -> None:
        body = self._body()
        if self.path.endswith("/graphql"):
            asked = json.loads(body)
            name = asked.get("operationName") or re.search(r"(?:query|mutation)\s*(\w*)", asked["query"])[1]
            self._send({"data": self.server.answer(name, asked.get("variables") or {})})
            return
        if self.path.endswith("/file_stream"):
            self.server.streamed.append(json.loads(body))
        self._send({})

    def _body(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        return gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body

    def _send(self, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@contextmanager
def serving() -> Iterator[WandbServer]:
    """A server that listens meanwhile."""
    with WandbServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
