"""How an e-mail leaves the house: to a mail server by SMTP, or into a folder as `.eml` files where none is set.

`open_transport` reads the settings once; nothing else asks which one it is. Neither keeps a connection open.
"""

import os
import smtplib
import ssl
from contextlib import suppress
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path
from typing import Protocol

from api.settings import MailSecurity, Settings

TIMEOUT_S = 20.0


class MailRefused(Exception):
    """The server will never take this e-mail (no such mailbox, for example). Trying again is of no use."""


class MailDelayed(Exception):
    """The server does not take this e-mail now; others it may."""


class ServerDown(Exception):
    """No e-mail can be sent at present: the server does not answer, or not as it should."""


class Transport(Protocol):
    """Sends one e-mail. Raises MailRefused, MailDelayed or ServerDown."""

    def send(self, message: EmailMessage) -> None: ...


@dataclass(frozen=True)
class FileSink:
    """Puts each e-mail into a folder that only this account can read: it may hold a one-time token."""

    folder: Path

    def send(self, message: EmailMessage) -> None:
        name = message["Message-ID"].strip("<>").partition("@")[0]
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            partly = self.folder / f".{name}.part"
            partly.unlink(missing_ok=True)
            with open(os.open(partly, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(message.as_bytes(policy=SMTP))
            partly.replace(self.folder / f"{name}.eml")
        except OSError as error:
            raise ServerDown(f"cannot write to the mail folder: {error.strerror}") from error


@dataclass(frozen=True)
class SmtpServer:
    """A mail server. With `starttls` a server that offers no TLS is refused: nothing falls back to plain text."""

    host: str
    port: int
    security: MailSecurity
    user: str = ""
    password: str = field(default="", repr=False)
    ca_file: Path | None = None
    timeout_s: float = TIMEOUT_S

    def send(self, message: EmailMessage) -> None:
        try:
            server = self._connected()
        except smtplib.SMTPAuthenticationError as error:
            raise ServerDown("the mail server does not accept the user name or password") from error
        except (smtplib.SMTPException, OSError) as error:
            raise ServerDown(f"{type(error).__name__}: {error}") from error
        try:
            server.send_message(message)
        except smtplib.SMTPRecipientsRefused as error:
            code, said = next(iter(error.recipients.values()))
            raise _judged(code, said) from error
        except smtplib.SMTPDataError as error:
            raise _judged(error.smtp_code, error.smtp_error) from error
        except smtplib.SMTPNotSupportedError as error:
            raise MailRefused(f"the mail server cannot carry this address: {error}") from error
        except (smtplib.SMTPException, OSError) as error:  # the sender is refused, too: that is about every e-mail
            raise ServerDown(f"{type(error).__name__}: {error}") from error
        finally:
            # It has been taken, or not: how the server says good-bye changes nothing.
            with suppress(smtplib.SMTPException, OSError):
                server.quit()
            server.close()

    def _connected(self) -> smtplib.SMTP:
        context = None if self.security == "none" else ssl.create_default_context(cafile=self.ca_file)
        if self.security == "tls":
            server: smtplib.SMTP = smtplib.SMTP_SSL(self.host, self.port, timeout=self.timeout_s, context=context)
        else:
            server = smtplib.SMTP(self.host, self.port, timeout=self.timeout_s)
        try:
            if self.security == "starttls":
                server.starttls(context=context)
            if self.user:
                server.login(self.user, self.password)
        except BaseException:
            server.close()
            raise
        return server


def open_transport(settings: Settings) -> Transport:
    """Return how e-mail is sent by these settings. Connects to nothing."""
    if not settings.smtp_host:
        return FileSink(settings.data_dir.absolute() / "mail")
    return SmtpServer(
        settings.smtp_host,
        settings.smtp_port,
        settings.smtp_security,
        settings.smtp_user,
        settings.smtp_password.get_secret_value() if settings.smtp_password else "",
        settings.smtp_ca_file,
    )


def _judged(code: int, said: bytes | str) -> Exception:
    text = f"{code} {said.decode(errors='replace') if isinstance(said, bytes) else said}"
    return MailRefused(text) if code >= 500 else MailDelayed(text)
