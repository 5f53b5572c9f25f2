"""What a gateway needs to know, from the environment (`OPENLAB_…`); built in a composition root and passed down."""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class GatewaySettings(BaseSettings):
    """Settings of one gateway process. Addresses carry no passwords: those come from files or their own variables."""

    model_config = SettingsConfigDict(env_prefix="OPENLAB_", extra="ignore")

    database_url: str
    series_url: str
    series_token: SecretStr | None = None
    broker_url: str
    broker_username: str | None = None
    broker_password: SecretStr | None = None
    broker_password_file: Path | None = None
    gateway_name: str = Field("gateway-1", description="names this process to agents; its own for each gateway")
    share_group: str | None = Field(
        None, description="several gateways share the work through this group (Mosquitto, EMQX; not NATS)"
    )
    clock_file: Path | None = None
    batch_records: int = Field(300, ge=1, le=5000)
    batch_wait_ms: int = Field(50, ge=1, le=5000)
    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = None

    def password(self) -> str | None:
        """Return the broker password. Raises OSError where the file that should hold it cannot be read."""
        if self.broker_password_file is not None:
            return self.broker_password_file.read_text().strip()
        return self.broker_password.get_secret_value() if self.broker_password else None
