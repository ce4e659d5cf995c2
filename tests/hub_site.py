"""A server on this machine that answers like the Hugging Face Hub, for models alone.

It knows what `hf_hub_download`, `create_repo`, `file_exists` and `upload_folder` ask for. Commits
hold their files whole, as the Hub takes small ones.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "a" * 40  # of every revision
RESOLVE = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
ACTION = re.compile(r"/api/models/([^/]+/[^/]+)/(preupload|commit)/([^/?]+)")


class HubSite:
    """Repositories by "owner/name", then revision, then file name; `url` is the endpoint."""

    def __init__(self) -> None:
        self.files: dict[str, dict[str, dict[str, bytes]]] = {}
        self.private: set[str] = set()
        self.created: list[dict] = []
        self.requests: list[str] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self):
                site.requests.append(f"HEAD {self.path}")
                self.resolve()

            def do_GET(self):
                site.requests.append(f"GET {self.path}")
                self.resolve()

            def do_POST(self):
                site.requests.append(f"POST {self.path}")
                sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if self.path == "/api/repos/create":
                    self.create(json.loads(sent))
                elif self.path == "/api/validate-yaml":
                    self.answer({"errors": [], "warnings": []})
                elif found := ACTION.match(self.path):
                    getattr(self, found[2])(found[1], found[3], sent)
                else:
                    self.refuse("", 404)

            def resolve(self):
                found = RESOLVE.fullmatch(self.path)
                repository = site.files.get(found[1]) if found else None
                if found and found[1] in site.private:
                    self.refuse("GatedRepo", 403)
                elif repository is None:
                    self.refuse("RepoNotFound", 401)
                elif (files := repository.get(found[2], repository.get("main"))) is None or (
                    found[2] not in (*repository, COMMIT)
                ):
                    self.refuse("RevisionNotFound", 404)
                elif found[3] not in files:
                    self.refuse("EntryNotFound", 404)
                else:
                    self.send(files[found[3]])

            def create(self, asked):
                site.created.append(asked)
                name = f"{asked['organization'] or 'me'}/{asked['name']}"
                site.files.setdefault(name, {"main": {}})
                self.answer({"url": f"{site.url}/{name}", "id": name, "name": name})

            def preupload(self, name, revision, sent):
                files = [
                    {"path": each["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for each in json.loads(sent)["files"]
                ]
                self.answer({"files": files})

            def commit(self, name, revision, sent):
                for line in map(json.loads, sent.splitlines()):
                    if line["key"] == "file":
                        content = base64.b64decode(line["value"]["content"])
                        site.files[name][revision][line["value"]["path"]] = content
                url = f"{site.url}/{name}/commit/{COMMIT}"
                self.answer({"commitUrl": url, "commitOid": COMMIT, "hookOutput": ""})

            def answer(self, content):
                self.send(json.dumps(content).encode(), kind="application/json")

            def refuse(self, code, status):
                self.send(b"", status=status, X_Error_Code=code, X_Error_Message=code)

            def send(self, body, *, status=200, kind="application/octet-stream", **headers):
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
                self.send_header("X-Repo-Commit", COMMIT)
                for header, value in headers.items():
                    self.send_header(header.replace("_", "-"), value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()
