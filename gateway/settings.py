"""What a gateway needs to know, from the environment (`OPENLAB_…`); built in a composition root and passed down."""

from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from gateway.shard import Shard


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
    shard: str | None = Field(
        None, description="1/3: this gateway works for the first third of the agents (for brokers without $share)"
    )
    clock_file: Path | None = None
    batch_records: int = Field(1000, ge=1, le=5000)
    batch_wait_ms: int = Field(50, ge=1, le=5000)
    replay_after_s: float = Field(30, gt=0, description="how old a hole in a stream is before its agent is asked")
    replay_every_s: float = Field(60, gt=0, description="how often one stream is asked at most")
    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = None

    @field_validator("shard")
    @classmethod
    def _is_a_shard(cls, text: str | None) -> str | None:
        if text is not None:
            Shard.parse(text)
        return text

    @model_validator(mode="after")
    def _one_way_to_share(self) -> Self:
        if self.shard is not None and self.share_group is not None:
            raise ValueError("give share_group or shard, not both: each divides the agents by itself")
        return self

    def password(self) -> str | None:
        """Return the broker password. Raises OSError where the file that should hold it cannot be read."""
        if self.broker_password_file is not None:
            return self.broker_password_file.read_text().strip()
        return self.broker_password.get_secret_value() if self.broker_password else None
