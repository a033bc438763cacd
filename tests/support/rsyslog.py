"""A real rsyslogd with a configuration of its own, to be killed and started again."""

from __future__ import annotations

import shutil
import signal
import socket
import tempfile
from pathlib import Path
from typing import Literal, NamedTuple

import trustme

from tests.support.components import require, unavailable
from tests.support.processes import Process, free_port

Way = Literal["udp", "tcp", "tls", "unix"]

_GNUTLS = "*/rsyslog/lmnsd_gtls.so"
_FIELDS = "%pri%\\t%protocol-version%\\t%hostname%\\t%app-name%\\t%msgid%\\t%structured-data%\\t%msg%\\n"


class Received(NamedTuple):
    """What rsyslog read from a message."""

    priority: str
    version: str
    host: str
    app_name: str
    message_id: str
    structured_data: str
    message: str


class Rsyslog:
    """The process, as a test sees it; use it as a with-block."""

    def __init__(self, folder: Path, way: Way, *, asks_for_certificate: bool = False) -> None:
        self._program = shutil.which("rsyslogd", path="/usr/sbin") or require("rsyslogd")
        if way == "tls" and not any(Path("/usr/lib").glob(_GNUTLS)):
            unavailable("rsyslog has no TLS; install the package rsyslog-gnutls.")
        self._folder = folder
        self._way = way
        self._authentication = "x509/certvalid" if asks_for_certificate else "anon"
        self._sockets = Path(tempfile.mkdtemp())  # a socket's path must be short
        self.path = str(self._sockets / "log")
        self.port = free_port()
        self.authority = folder / "ca.pem"
        self.client_certificate = folder / "client.pem"
        self._file = folder / "received"
        self._process: Process | None = None
        if way == "tls":
            self._make_certificates()
        (folder / "rsyslog.conf").write_text(self._configuration())

    def __enter__(self) -> Rsyslog:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.stop()
        shutil.rmtree(self._sockets)

    def start(self) -> None:
        """Start it, and wait until it listens."""
        command = [self._program, "-n", "-f", str(self._folder / "rsyslog.conf"), "-i", str(self._folder / "pid")]
        self._process = Process(command, self._folder / "rsyslog.log", cwd=self._folder)
        self._process.wait_until(self._listens)

    def kill(self) -> None:
        """Kill it by SIGKILL."""
        assert self._process is not None
        assert self._process.kill() == -signal.SIGKILL
        for left in (self._folder / "pid", Path(self.path)):
            left.unlink(missing_ok=True)

    @property
    def received(self) -> list[Received]:
        """Return the messages, in order."""
        if not self._file.exists():
            return []
        return [Received(*row.split("\t")) for row in self._file.read_text().split("\n")[:-1]]

    def _listens(self) -> bool:
        if self._way == "unix":
            return Path(self.path).exists()
        if self._way == "udp":  # its socket refuses nothing once it is there
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                probe.connect(("127.0.0.1", self.port))
                probe.send(b"")
                return probe.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
        socket.create_connection(("127.0.0.1", self.port), 5).close()
        return True

    def _make_certificates(self) -> None:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.authority)
        certificate = authority.issue_cert("localhost")
        certificate.private_key_pem.write_to_path(self._folder / "key.pem")
        certificate.cert_chain_pems[0].write_to_path(self._folder / "certificate.pem")
        authority.issue_cert("client").private_key_and_cert_chain_pem.write_to_path(self.client_certificate)

    def _configuration(self) -> str:
        listens = f'address="127.0.0.1" port="{self.port}"'
        ways = {
            "udp": f'module(load="imudp")\ninput(type="imudp" {listens})',
            "tcp": f'module(load="imtcp")\ninput(type="imtcp" {listens})',
            "tls": 'module(load="imtcp" StreamDriver.Name="gtls" StreamDriver.Mode="1" '
            f'StreamDriver.AuthMode="{self._authentication}")\ninput(type="imtcp" {listens})',
            "unix": f'module(load="imuxsock" SysSock.Use="off")\ninput(type="imuxsock" Socket="{self.path}")',
        }
        tls = (
            f'DefaultNetstreamDriverCAFile="{self.authority}" '
            f'DefaultNetstreamDriverCertFile="{self._folder / "certificate.pem"}" '
            f'DefaultNetstreamDriverKeyFile="{self._folder / "key.pem"}"'
        )
        return (
            f'global(workDirectory="{self._folder}" maxMessageSize="64k" {tls if self._way == "tls" else ""})\n'
            f"{ways[self._way]}\n"
            f'template(name="fields" type="string" string="{_FIELDS}")\n'
            f'action(type="omfile" file="{self._file}" template="fields")\n'
        )
