"""A Redis that fails over: a primary, two replicas and three Sentinels, all real, all of a test's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from tests.support.ports import LOOPBACK, free_port
from tests.support.process import Process
from tests.support.valkey import ValkeyServer, needed_binary
from tests.support.waiting import until

SERVICE = "fleet"
DOWN_AFTER_MS = 2000
START_TIMEOUT_S = 30.0
FAILOVER_TIMEOUT_S = 60.0


class FailingOver:
    """``password`` guards the servers, ``sentinel_password`` the Sentinels, where they are given."""

    def __init__(self, folder: Path, password: str = "", sentinel_password: str = "") -> None:
        self.folder, self.password, self._sentinel_password = folder, password, sentinel_password
        own = {"requirepass": password, "masterauth": password} if password else {}
        self.servers: list[ValkeyServer] = []
        self._sentinels: list[Process] = []
        self.ports = [free_port() for _ in range(3)]
        try:
            self.servers.append(self._server("a", own))
            first = {**own, "replicaof": f"{LOOPBACK} {self.servers[0].port}"}
            self.servers += [self._server(name, first) for name in ("b", "c")]
            self._sentinels += [self._sentinel(port) for port in self.ports]
            until(self._is_complete, START_TIMEOUT_S, self._logs)
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        account = f":{quote(self.password, safe='')}@" if self.password else ""
        places = ";".join(f"sentinel://{account}{LOOPBACK}:{port}" for port in self.ports)
        secret = self._sentinel_password
        guarded = f"&sentinel_password={quote(secret, safe='')}" if secret else ""
        return f"{places}/0?master_name={SERVICE}{guarded}"

    @property
    def process(self) -> Process:
        return self.primary.process

    @property
    def primary(self) -> ValkeyServer:
        """Whichever the Sentinels call so."""
        _, port = self._asked().discover_master(SERVICE)
        return next(server for server in self.servers if server.port == port)

    def client(self) -> redis.Redis:
        """Of the primary, whichever that is; decodes nothing, tries again for as long as a failover takes."""
        made: redis.Redis = self._asked().master_for(
            SERVICE,
            password=self.password or None,
            retry=Retry(ConstantBackoff(0.5), 60),
            retry_on_error=[redis.ConnectionError, redis.TimeoutError],
        )
        return made

    def kill_primary(self) -> ValkeyServer:
        """As power loss would; returns what was killed. It takes some seconds until another takes over."""
        primary = self.primary
        primary.kill()
        return primary

    def await_takeover(self, killed: ValkeyServer) -> ValkeyServer:
        """The replica that has taken over."""

        def other() -> ValkeyServer | None:
            try:
                now = self.primary
            except redis.ConnectionError:
                return None
            return now if now is not killed else None

        found = until(other, FAILOVER_TIMEOUT_S, self._logs)
        assert found is not None
        return found

    def stop(self) -> None:
        for process in self._sentinels:
            process.kill()
        for server in self.servers:
            server.stop()

    def _server(self, name: str, options: Mapping[str, str]) -> ValkeyServer:
        folder = self.folder / name
        folder.mkdir(parents=True)
        return ValkeyServer(folder, options)

    def _sentinel(self, port: int) -> Process:
        folder = self.folder / f"sentinel-{port}"
        folder.mkdir()
        lines = [
            f"port {port}",
            f"bind {LOOPBACK}",
            f"dir {folder}",
            f"sentinel monitor {SERVICE} {LOOPBACK} {self.servers[0].port} 2",
            f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_MS}",
            f"sentinel failover-timeout {SERVICE} 10000",
            f"sentinel parallel-syncs {SERVICE} 2",
        ]
        if self.password:
            lines.append(f'sentinel auth-pass {SERVICE} "{self.password}"')
        if secret := self._sentinel_password:
            lines += [f'requirepass "{secret}"', f'sentinel sentinel-pass "{secret}"']
        conf = folder / "sentinel.conf"
        conf.write_text("\n".join(lines) + "\n")
        return Process([str(needed_binary()), str(conf), "--sentinel"], folder / "sentinel.log")

    def _asked(self) -> Any:
        options = {"password": self._sentinel_password or None, "socket_timeout": 2, "retry": None}
        make: Any = Sentinel
        return make([(LOOPBACK, port) for port in self.ports], sentinel_kwargs=options)

    def _is_complete(self) -> bool:
        """Every Sentinel knows the others and both replicas, and these have caught up."""
        for sentinel in self._asked().sentinels:
            try:
                state = sentinel.sentinel_masters().get(SERVICE, {})
            except redis.RedisError:
                return False
            if state.get("num-other-sentinels") != 2 or state.get("num-slaves") != 2:
                return False
        return all(self._is_in_step(replica) for replica in self.servers[1:])

    def _is_in_step(self, replica: ValkeyServer) -> bool:
        with redis.Redis(port=replica.port, password=self.password or None) as client:
            told: Any = client.info("replication")
        return bool(told["master_link_status"] == "up")

    def _logs(self) -> str:
        return "\n\n".join(
            [*(one.tail() for one in self._sentinels), *(s.process.tail() for s in self.servers)]
        )
