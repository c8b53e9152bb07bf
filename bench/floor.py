"""A copier that is told everything: what a copy costs when nothing has to be found out, checked or survived.

Each blob is read once and written once to every target, mounted into the target's other repositories;
manifests likewise. No HEAD, no hashing, no other attempt. Run as a script with the plan as its argument.
"""

from __future__ import annotations

import http.client
import json
import ssl
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

THREADS = 4
BLOCK = 256 * 1024

Connect = Callable[[str], http.client.HTTPConnection]


class Copier:
    def __init__(self, plan: dict[str, Any]) -> None:
        self._source: str = plan["source"]
        self._targets: list[str] = plan["targets"]
        self._plan = plan
        self._here = threading.local()
        self._tls = ssl.create_default_context(cafile=plan["authority"]) if plan["authority"] else None

    def run(self) -> None:
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(self._blob, self._plan["blobs"]))
            for level in self._plan["manifests"]:
                list(pool.map(self._manifest, level))

    def _blob(self, blob: dict[str, Any]) -> None:
        digest, (first, *others) = blob["digest"], blob["repositories"]
        places = [self._session(target, first, digest) for target in self._targets]
        answer = self._asked(self._source, "GET", f"/v2/{first}/blobs/{digest}")
        writers = [self._begun(target, path, blob["size"]) for target, path in places]
        while block := answer.read(BLOCK):
            for writer in writers:
                writer.send(block)
        for writer in writers:
            self._done(writer, 201)
        for target in self._targets:
            for name in others:
                self._ask(target, "POST", f"/v2/{name}/blobs/uploads/?mount={digest}&from={first}", 201)

    def _manifest(self, one: dict[str, Any]) -> None:
        answer = self._asked(
            self._source, "GET", f"/v2/{one['repository']}/manifests/{one['digest']}", one["kind"]
        )
        content = answer.read()
        for target in self._targets:
            path = f"/v2/{one['repository']}/manifests/{one['name']}"
            self._ask(target, "PUT", path, 201, content, {"Content-Type": one["kind"]})

    def _session(self, target: str, name: str, digest: str) -> tuple[str, str]:
        headers = self._ask(target, "POST", f"/v2/{name}/blobs/uploads/", 202)
        parts = urlsplit(headers["Location"])
        return target, f"{parts.path}?{parts.query}&digest={digest}"

    def _begun(self, target: str, path: str, size: int) -> http.client.HTTPConnection:
        connection = self._connection(target)
        connection.putrequest("PUT", path, skip_accept_encoding=True)
        connection.putheader("Content-Type", "application/octet-stream")
        connection.putheader("Content-Length", str(size))
        connection.endheaders()
        return connection

    def _asked(self, host: str, method: str, path: str, accept: str = "*/*") -> http.client.HTTPResponse:
        connection = self._connection(host)
        connection.request(method, path, headers={"Accept": accept})
        answer = connection.getresponse()
        if answer.status != 200:
            raise RuntimeError(f"{method} {path}: {answer.status}")
        return answer

    def _ask(
        self,
        host: str,
        method: str,
        path: str,
        wanted: int,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
    ) -> http.client.HTTPMessage:
        connection = self._connection(host)
        connection.request(method, path, body, headers or {})
        return self._done(connection, wanted)

    def _done(self, connection: http.client.HTTPConnection, wanted: int) -> http.client.HTTPMessage:
        answer = connection.getresponse()
        answer.read()
        if answer.status != wanted:
            raise RuntimeError(f"{answer.status} instead of {wanted}")
        return answer.headers

    def _connection(self, host: str) -> http.client.HTTPConnection:
        known: dict[str, http.client.HTTPConnection] = self._here.__dict__
        if host not in known:
            known[host] = (
                http.client.HTTPSConnection(host, context=self._tls)
                if self._tls
                else http.client.HTTPConnection(host)
            )
        return known[host]


def main(words: Iterable[str]) -> None:
    (path,) = words
    with open(path, encoding="utf-8") as file:  # noqa: PTH123 - imports are part of what is measured
        Copier(json.load(file)).run()


if __name__ == "__main__":
    main(sys.argv[1:])
