"""A real SMTP peer for tests: an asyncio server in a thread of its own, on a free port of this machine.

It keeps what it is given. `refuse` answers for recipients, `after_data` for whole e-mails; a `context`
offers STARTTLS.
"""

import asyncio
import base64
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path

from tests.support.waiting import wait_until


@dataclass
class SmtpPeer:
    """What the server was told, and how it shall answer."""

    port: int = 0
    taken: list[EmailMessage] = field(default_factory=list)
    recipients: list[str] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)
    encrypted: list[bool] = field(default_factory=list)
    refuse: dict[str, str] = field(default_factory=dict)
    after_data: list[str] = field(default_factory=list)
    context: ssl.SSLContext | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tls = False

        async def say(text: str) -> None:
            writer.write(text.encode() + b"\r\n")
            await writer.drain()

        try:
            await say("220 peer.test ESMTP")
            while line := (await reader.readline()).decode().rstrip("\r\n"):
                word = line.split(" ")[0].upper()
                if word == "EHLO":
                    offers = ["250-peer.test", *(["250-STARTTLS"] if self.context and not tls else [])]
                    await say("\r\n".join([*offers, "250 AUTH PLAIN" if tls else "250 8BITMIME"]))
                elif word == "STARTTLS" and self.context:
                    await say("220 go ahead")
                    await writer.start_tls(self.context)
                    tls = True
                elif word == "AUTH":
                    self.logins.append(base64.b64decode(line.split(" ")[2]).decode().replace("\0", "|"))
                    await say("235 welcome")
                elif word == "RCPT":
                    address = line.partition("<")[2].partition(">")[0]
                    if address not in self.refuse:
                        self.recipients.append(address)
                    await say(self.refuse.get(address, "250 ok"))
                elif word == "DATA":
                    await say("354 go on")
                    data = await reader.readuntil(b"\r\n.\r\n")
                    answer = self.after_data.pop(0) if self.after_data else "250 taken"
                    if answer.startswith("250"):
                        self.taken.append(message_from_bytes(data[:-3], policy=SMTP))
                        self.encrypted.append(tls)
                    await say(answer)
                elif word == "QUIT":
                    await say("221 bye")
                    return
                else:
                    await say("250 ok")
        finally:
            writer.close()


@contextmanager
def smtp_peer(context: ssl.SSLContext | None = None) -> Iterator[SmtpPeer]:
    """A server that runs while the block does."""
    peer, loop = SmtpPeer(context=context), asyncio.new_event_loop()
    ready, stop = threading.Event(), asyncio.Event()

    async def main() -> None:
        async with await asyncio.start_server(peer.serve, "127.0.0.1", 0) as server:
            peer.port = server.sockets[0].getsockname()[1]
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(main()), daemon=True)
    thread.start()
    try:
        wait_until(ready.is_set, "the SMTP peer to listen")
        yield peer
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()


def self_signed(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """A server's side of TLS for `localhost`, made now, and the file that vouches for it."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    asked = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(
        ["openssl", *asked.split(), *files, "-addext", "subjectAltName=DNS:localhost"], check=True, capture_output=True
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context, certificate
