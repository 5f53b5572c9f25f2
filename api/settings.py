"""Settings of the server processes (api, worker, `openlab` commands), read from OPENLAB_* variables.

Built once by a composition root (`load_settings`) and passed down; nothing reads the environment at import. In
production there is no default database and no guessable password: a missing secret is refused at the start.
"""

from ipaddress import ip_network
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

CLAIM_DAYS = 14
IDEMPOTENCY_DAYS = 7
EXPIRE_DAYS = 90
MailSecurity = Literal["starttls", "tls", "none"]
_GUESSABLE = frozenset({"", "postgres", "openlab", "password", "changeme", "change-me", "secret", "admin", "root"})


class BadSettings(Exception):
    """The configuration cannot be used; the message is one sentence for the person who starts the program."""


class Settings(BaseSettings):
    """What a server process needs to know. Times in seconds unless the name says otherwise."""

    model_config = SettingsConfigDict(env_prefix="OPENLAB_", extra="ignore", frozen=True)

    production: bool = False
    data_dir: Path = Path("openlab-data")
    database_url: str = Field("", repr=False)
    database_password_file: Path | None = None
    series_url: str = ""
    series_token: SecretStr | None = None
    clock_file: Path | None = None
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    workers: int = Field(1, ge=1, le=64, description="processes that answer; see serve")
    trusted_proxies: str = Field("127.0.0.1", description="whose word on the client's address counts; see serve")
    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = Field(None, ge=0, le=65535, description="where the worker shows its metrics, if at all")
    cookie_secure: bool = False
    session_hours: int = Field(12, ge=1, le=24 * 31)
    token_days_max: int = Field(365, ge=1, le=3660)
    login_limit: str = "20/minute"
    """Attempts to sign in, an address."""
    lockout_limit: str = "5/15 minutes"
    """Failed attempts, a login name; then it is locked until the window has passed."""
    write_limit: str = "300/minute"
    """Changing requests, a person. Each process counts for itself and lets its part of it through."""
    registration_limit: str = "10/hour"
    """Registrations of firms, an address."""
    reset_hours: int = Field(24, ge=1, le=24 * 14, description="how long a password reset is good for")
    invitation_days: int = Field(7, ge=1, le=90, description="how long an invitation is good for")
    claim_days: int = Field(
        CLAIM_DAYS, ge=1, le=90, description="how long a firm may answer about use without a booking"
    )
    idempotency_days: int = Field(
        IDEMPOTENCY_DAYS, ge=1, le=366, description="how long a repeated request gets its first answer"
    )
    expire_days: int = Field(EXPIRE_DAYS, ge=7, le=3660, description="how old raw samples and settled ticks become")
    body_bytes_max: int = Field(1024 * 1024, ge=1024)
    smtp_host: str = Field("", description="the mail server; without one, e-mails are files in the data folder")
    smtp_port: int = Field(587, ge=1, le=65535)
    smtp_security: MailSecurity = "starttls"
    smtp_user: str = ""
    smtp_password: SecretStr | None = None
    smtp_password_file: Path | None = None
    smtp_ca_file: Path | None = Field(None, description="who vouches for the mail server, where the system does not")
    mail_from: str = Field("OpenLab <openlab@localhost>", max_length=320, pattern=r"^[^\r\n]*[^\s@<>]+@[^\s@<>]+>?$")

    @field_validator("trusted_proxies")
    @classmethod
    def _addresses(cls, given: str) -> str:
        for each in filter(None, (part.strip() for part in given.split(","))):
            try:
                ip_network(each, strict=False)
            except ValueError:
                raise ValueError(
                    f"{each!r} is neither an address nor a network; write them like 10.0.0.7,172.18.0.0/16"
                ) from None
        return given

    @model_validator(mode="after")
    def _complete(self) -> Self:
        """Fill in what follows from `data_dir`, and refuse what production must not run on."""
        folder = self.data_dir.absolute()
        if self.database_url:
            _set(self, "database_url", self._complete_address())
        if self.smtp_user and self.smtp_security == "none":
            raise ValueError("OPENLAB_SMTP_USER takes TLS: a password is never sent over a plain connection")
        if self.smtp_password_file is not None:
            _set(self, "smtp_password", SecretStr(self.smtp_password_file.read_text().strip()))
        if self.smtp_user and self.smtp_password is None:
            raise ValueError("OPENLAB_SMTP_PASSWORD_FILE is missing for OPENLAB_SMTP_USER")
        if self.production:
            self._check_production()
        _set(self, "database_url", self.database_url or f"sqlite:///{folder / 'openlab.db'}")
        _set(self, "series_url", self.series_url or f"sqlite:///{folder / 'series.db'}")
        return self

    def _complete_address(self) -> str:
        try:
            url = make_url(self.database_url)
        except ArgumentError:
            # Not repeated here: it may hold a password.
            raise ValueError(
                "OPENLAB_DATABASE_URL is no address; write it like sqlite:////srv/openlab.db"
                " or postgresql+psycopg://user@host/name"
            ) from None
        if self.database_password_file is not None:
            url = url.set(password=self.database_password_file.read_text().strip())
        return url.render_as_string(hide_password=False)

    def _check_production(self) -> None:
        for name in ("database_url", "series_url"):
            if not getattr(self, name):
                raise ValueError(f"OPENLAB_{name.upper()} must be set in production")
        url = make_url(self.database_url)
        if url.host and str(url.password or "").lower() in _GUESSABLE:
            raise ValueError(
                "the database password is missing or a default; set OPENLAB_DATABASE_PASSWORD_FILE"
                " or put a random one into OPENLAB_DATABASE_URL"
            )
        if not self.cookie_secure:
            raise ValueError("OPENLAB_COOKIE_SECURE must be true in production (pages are served over TLS)")


def load_settings(**overrides: object) -> Settings:
    """Read the environment; `overrides` (from the command line) win, None means not given.

    Raises BadSettings with one sentence that names the variable.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(**given)  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = "OPENLAB_" + "_".join(str(part) for part in first["loc"]).upper() + ": " if first["loc"] else ""
        raise BadSettings(where + first["msg"].removeprefix("Value error, ")) from error
    except (OSError, ArgumentError) as error:
        raise BadSettings(str(error)) from error


def _set(settings: Settings, name: str, value: object) -> None:
    # Settings are frozen for everybody else; this is still their construction.
    object.__setattr__(settings, name, value)
