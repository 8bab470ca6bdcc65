"""The settings of both tiers. They are environment variables with the names of the fields in capitals."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from cloud.prices import INSTANCE_HOUR
from cloud.s3_url import bucket_and_key_of
from cloud.tokens import ApiToken, read_tokens

ModelName = Literal[
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnext50_32x4d",
    "resnext101_32x8d",
    "resnext101_64x4d",
    "wide_resnet50_2",
    "wide_resnet101_2",
    "efficientnet_lite0",
]
IN_WORDS: dict[str, str] = {}
"""What a setting should be, by the pattern that it should match."""


def like(pattern: str, words: str) -> StringConstraints:
    """Returns the constraint that a text matches `pattern`, which `words` explain to people."""
    IN_WORDS[pattern] = words
    return StringConstraints(pattern=pattern)


BucketName = Annotated[
    str,
    like(
        r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$",
        "the name of a bucket: 3 to 63 small letters, digits, dots and hyphens",
    ),
]
QueueName = Annotated[
    str,
    like(
        r"^[A-Za-z0-9_-]{1,72}$",
        "the name of a standard queue: 1 to 72 letters, digits, hyphens and underscores; SQS allows 80, and"
        " `-batches` is appended",
    ),
]
AmiId = Annotated[str, like(r"^(ami-[0-9a-f]+)?$", "the id of an AMI, such as ami-0123456789abcdef0")]
ListedName = Annotated[str, like(r"^[A-Za-z0-9.-]+$", "a name of letters, digits, dots and hyphens")]
NamePart = Annotated[
    str, like(r"^[A-Za-z0-9._-]{1,100}$", "1 to 100 letters, digits, dots, hyphens and underscores")
]
SourceUrl = Annotated[
    str, like(r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/.*)?$", "s3://bucket or s3://bucket/prefix")
]
TopicArn = Annotated[
    str,
    like(
        r"^(arn:aws[a-z-]*:sns:[a-z0-9-]+:\d{12}:[A-Za-z0-9_-]{1,256})?$",
        "the ARN of a standard topic, such as arn:aws:sns:us-east-1:123456789012:done",
    ),
]

LOOPBACK = re.compile(r"(127(\.\d+){3}|localhost|\[::1\])(:\d+)?")
"""The addresses that only programs of this machine reach."""

ABANDONED_BOOT_TIMEOUTS = 2  # idle for so long, a worker that no controller terminates ends by itself


def split_at_commas(value: object) -> object:
    """Parses a list in an environment variable. Values that are not text are returned unchanged."""
    return (
        tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value
    )


def in_capitals(value: object) -> object:
    """Returns text in capitals. Values that are not text are returned unchanged."""
    return value.upper() if isinstance(value, str) else value


def in_small_letters(names: tuple[str, ...]) -> tuple[str, ...]:
    """Returns names of hosts, whose case does not matter, as they are compared with others."""
    return tuple(name.lower() for name in names)


LogLevel = Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(in_capitals)]
Names = Annotated[tuple[ListedName, ...], NoDecode, BeforeValidator(split_at_commas)]


def check_tokens(secret: SecretStr) -> SecretStr:
    """Raises ValueError when a token is malformed."""
    read_tokens(secret.get_secret_value())
    return secret


class SettingsError(Exception):
    """A setting is missing or wrong.

    The message has one line for each such setting, which names it and says what its value should be.
    """


class WorkerSettings(BaseSettings):
    """The settings of a worker. The user data of its instance contains exactly these."""

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", env_ignore_empty=True, protected_namespaces=()
    )

    input_bucket: BucketName = Field(description="S3 bucket for the uploaded images")
    output_bucket: BucketName = Field(description="S3 bucket for the predictions")
    state_bucket: BucketName = Field(
        default_factory=lambda given: f"{given.get('output_bucket', '')}-state",
        validate_default=True,
        description="S3 bucket for the system's own bookkeeping, from the fleet's state to the answer cache",
        json_schema_extra={"default": "<OUTPUT_BUCKET>-state"},
    )
    request_queue: QueueName = Field(
        "image-requests", description="SQS queue of image-ids; `-dead` is appended for its dead-letter queue"
    )
    ami_id: AmiId = Field(
        "",
        description="AMI that the workers are launched from; the controller needs it",
    )
    model: ModelName = Field("resnet18", description="a ResNet of torchvision (or `efficientnet_lite0`)")
    weights: str = Field(
        "imagenet", min_length=1, description="`imagenet`, or a path or `s3://bucket/key` of a state dict"
    )
    labels: str = Field(
        "",
        description="path or `s3://bucket/key` of the class names, one a line, if they are not ImageNet's",
    )
    engine: Literal["openvino", "torch"] = Field(
        "openvino", description="what runs the network; `torch` is for GPUs, and needs torch on the workers"
    )
    precision: Literal["auto", "fp32", "bf16", "int8"] = Field(
        "auto",
        description="number format of the network; `auto`: the fastest one that agrees with fp32 on 99% of"
        " the photos",
    )
    answer_cache: Literal["on", "off"] = Field(
        "on", description="`on`: the same bytes are answered without another run of the same model"
    )
    visibility_timeout: int = Field(
        60, ge=2, le=43200, description="seconds until an unanswered message goes to another worker"
    )
    max_receives: int = Field(
        4, ge=2, le=1000, description="how often an image is tried before it is answered `failed`"
    )
    idle_shutdown_seconds: float = Field(
        120,
        ge=0,
        allow_inf_nan=False,
        description="seconds without work after which a worker that still runs shuts its machine down;"
        " 0: never; with SCALING=rate, it is two BOOT_TIMEOUTs at least",
    )
    boot_timeout: int = Field(
        300, ge=1, description="seconds after which a worker that is not ready is replaced"
    )
    metrics_port: int = Field(
        0, ge=0, le=65535, description="port on which a worker has its metrics for Prometheus; 0: none"
    )
    batch_sources: Annotated[tuple[SourceUrl, ...], NoDecode, BeforeValidator(split_at_commas)] = Field(
        (),
        description="what batches may read: `s3://bucket/prefix`, with commas; empty: there are no batches",
    )
    log_level: LogLevel = Field(
        "INFO", description="how much is logged: `DEBUG`, `INFO`, `WARNING` or `ERROR`"
    )

    @field_validator("output_bucket", "state_bucket")
    @classmethod
    def _has_one_task(cls, bucket: str, info: ValidationInfo) -> str:
        """Raises ValueError when a bucket has another task: images and predictions have the same keys."""
        for other in ("input_bucket", "output_bucket"):
            if info.data.get(other) == bucket:
                raise ValueError(f"should be another bucket than {other.upper()}")
        return bucket

    @field_validator("batch_sources")
    @classmethod
    def _are_not_its_own(cls, sources: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        """Raises ValueError when a source is a bucket of the system, with the images of all clients."""
        own = {info.data.get(name) for name in ("input_bucket", "output_bucket", "state_bucket")}
        for source in sources:
            if bucket_and_key_of(source)[0] in own:
                raise ValueError("should name other buckets than the system's own, which others may not read")
        return sources

    @classmethod
    def from_environment(cls, *needed: str) -> Self:
        """Returns the settings that the environment variables give.

        Raises SettingsError when a setting is wrong, or when one of those named in `needed` is empty.
        """
        settings = cls._read()
        missing = [name for name in needed if not getattr(settings, name)]
        if missing:
            raise SettingsError("\n".join(f"{describe(cls, name)} is not set" for name in missing))
        return settings

    @classmethod
    def without_buckets(cls, **given: str) -> Self:
        """Returns the settings that the environment variables give to a program that only runs the model.

        Those that are `given` come first. Raises SettingsError when a setting is wrong.
        """
        return cls._read(input_bucket="unused-input", output_bucket="unused-output", **given)

    @classmethod
    def _read(cls, **given: Any) -> Self:
        try:
            return cls(**given)
        except ValidationError as error:
            # The default of STATE_BUCKET is not computed if OUTPUT_BUCKET is wrong, which is reported anyway.
            wrong = [item for item in error.errors() if item["type"] != "default_factory_not_called"]
            raise SettingsError("\n".join(explain(cls, item) for item in wrong)) from None

    @property
    def buckets(self) -> tuple[str, str, str]:
        """The names of the input, output and state bucket."""
        return self.input_bucket, self.output_bucket, self.state_bucket

    def for_workers(self) -> dict[str, str]:
        """Returns the environment variables that give a worker these settings."""
        found = self.model_dump(include=set(WorkerSettings.model_fields))
        return {name.upper(): as_variable(value) for name, value in found.items() if value not in ("", ())}


class ControllerSettings(WorkerSettings):
    """The settings of the controller: those of its workers, and its own."""

    max_instances: int = Field(
        10, ge=1, le=1000, description="the most workers that may be pending or running at once"
    )
    max_images_per_instance: int = Field(20, ge=1, description="how many queued images call for one worker")
    batch_share: int = Field(
        80,
        ge=1,
        le=100,
        description="percent of MAX_INSTANCES that batches with neither deadline nor budget may have",
    )
    scaling: Literal["queue", "rate"] = Field(
        "queue",
        description="`queue`: instances for the images that wait, and none when none waits; `rate`: also for"
        " how fast they come, and kept for as long as a boot costs",
    )
    instance_type: Annotated[Names, Field(min_length=1)] = Field(
        ("c7i.large",), description="EC2 instance types of the workers, with commas, the best first"
    )
    market: Literal["on-demand", "spot"] = Field(
        "on-demand", description="`on-demand`, or `spot` (on-demand when there is no spot capacity)"
    )
    warm_pool: int = Field(
        0,
        ge=0,
        le=1000,
        description="the most idle workers that are stopped instead of terminated, to be back sooner;"
        " spot instances cannot be",
    )
    subnet_ids: Names = Field(
        (), description="subnets for the workers, with commas; empty: the default VPC's"
    )
    security_group_ids: Names = Field((), description="security groups of the workers, with commas")
    instance_profile: str = Field("", description="instance profile that gives the workers their role")
    key_name: str = Field("", description="EC2 key pair, to log in to workers over ssh")
    launch_template: str = Field(
        "", description="EC2 launch template that has the workers' security groups, profile and key"
    )
    price_per_hour: float = Field(
        INSTANCE_HOUR,
        ge=0,
        allow_inf_nan=False,
        description="dollars that an instance costs an hour; for `GET /fleet`",
    )
    worker_name: NamePart = Field(
        "app-tier-instance", description="the workers' Name tags are `<WORKER_NAME>-1`, `-2`, …"
    )
    request_timeout: int = Field(
        300, ge=1, le=3600, description="seconds that a POST waits for its answers, at most"
    )
    max_files: int = Field(1000, ge=1, description="the most images in one request")
    max_upload_mb: int = Field(1024, ge=1, description="the most megabytes in one request")
    web_threads: int = Field(
        640, ge=8, description="threads of a controller process; whoever waits for answers holds one"
    )
    api_tokens: Annotated[SecretStr, AfterValidator(check_tokens)] = Field(
        SecretStr(""),
        description="who may use the controller: tokens or `name:token`, with commas",
    )
    allow_anonymous: Literal["on", "off"] = Field(
        "off",
        description="`on`: without API_TOKENS everybody may use the controller; `off`: it does not start",
    )
    trusted_hosts: Annotated[Names, AfterValidator(in_small_letters)] = Field(
        (), description="names by which the controller may be called, with commas; empty: by any"
    )
    images_per_minute: int = Field(
        0, ge=0, description="the most images a minute of one token, or else of one address; 0: no limit"
    )
    notify_topic: TopicArn = Field(
        "",
        description="ARN of a standard SNS topic that is told when a request or a batch is complete; empty:"
        " none",
    )

    def for_workers(self) -> dict[str, str]:
        """Returns the environment variables that give a worker its settings.

        With SCALING=rate, the controller decides how long a worker may be idle. A worker shuts its machine
        down by itself only if no controller seems to be left.
        """
        found = super().for_workers()
        if self.scaling == "rate" and self.idle_shutdown_seconds:
            seconds = max(self.idle_shutdown_seconds, ABANDONED_BOOT_TIMEOUTS * self.boot_timeout)
            found["IDLE_SHUTDOWN_SECONDS"] = str(seconds)
        return found

    def check_access(self, bind: str = "127.0.0.1") -> None:
        """Raises SettingsError when everybody could use the controller without ALLOW_ANONYMOUS=on.

        Batches read buckets of the user, so they need tokens, unless `bind`, the address at which the
        controller listens, can be reached from this machine alone and without a proxy.
        """
        if self.batch_sources and not self.tokens and not LOOPBACK.fullmatch(bind):
            raise SettingsError(
                f"{describe(type(self), 'api_tokens')} is not set, but BATCH_SOURCES is. Set it, because"
                " everybody could have those buckets read; without it, BIND must be an address that only this"
                " machine reaches, such as 127.0.0.1:8000"
            )
        if not self.tokens and self.allow_anonymous == "off":
            raise SettingsError(
                f"{describe(type(self), 'api_tokens')} is not set. Set it, or ALLOW_ANONYMOUS=on if"
                " everybody who reaches the controller may use it"
            )

    @property
    def tokens(self) -> list[ApiToken]:
        """The tokens in API_TOKENS."""
        return read_tokens(self.api_tokens.get_secret_value())


def default_of(field: FieldInfo) -> str:
    """Returns the default of a setting as it would be written in an environment variable.

    Returns "" when the setting has no default, or when it is secret.
    """
    if isinstance(field.json_schema_extra, dict):
        return str(field.json_schema_extra["default"])
    if field.is_required() or isinstance(field.default, SecretStr):
        return ""
    return as_variable(field.default)


def as_variable(value: object) -> str:
    """Returns the value of a setting as it is written in an environment variable."""
    return ",".join(value) if isinstance(value, tuple) else str(value)


def describe(cls: type[BaseSettings], name: str) -> str:
    """Returns the name of a setting in capitals, with its description in parentheses."""
    return f"{name.upper()} ({cls.model_fields[name].description})"


def explain(cls: type[BaseSettings], item: Any) -> str:
    """Returns a sentence about `item`, one of the errors in a ValidationError. It quotes no secret."""
    name = str(item["loc"][0]).lower()
    if item["type"] == "missing":
        return f"{describe(cls, name)} is not set"
    reason = what_is_right(item)
    if cls.model_fields[name].annotation is SecretStr:
        return f"{describe(cls, name)} is refused: {reason}"
    return f"{describe(cls, name)} is {item['input']!r}, but it {reason}"


def what_is_right(item: Any) -> str:
    """Returns the end of a sentence about `item`, such as "should be a whole number"."""
    match item["type"]:
        case "int_parsing":
            return "should be a whole number"
        case "float_parsing":
            return "should be a number"
        case "string_pattern_mismatch":
            return f"should be {IN_WORDS[item['ctx']['pattern']]}"
    return str(item["msg"]).removeprefix("Input ").removeprefix("Value error, ")
