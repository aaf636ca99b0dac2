"""What a service may take and hold: sizes, times and counts, each bounded."""

from dataclasses import dataclass

from lfm_deploy.errors import ConfigError

_MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSettings:
    """Limits of a service.

    Attributes:
        max_delay_ms: milliseconds that a picture waits at most for others to share its batch.
        max_queue: number of pictures that are decoded or wait for the engine at most, apart from the batch that runs.
        max_body_bytes: size of a request's body in bytes at most.
        max_pixels: number of pixels of a picture at most, as its header says before anything is decoded.
        max_held_bytes: bytes of all bodies together that are held at most.
        body_seconds: seconds within which a body must have come.
        evidence: whether the page may ask for drawings of where a verdict came from.
    """

    max_delay_ms: float = 5.0
    max_queue: int = 256
    max_body_bytes: int = 32 * _MIB
    max_pixels: int = 50_000_000
    max_held_bytes: int = 512 * _MIB
    body_seconds: float = 30.0
    evidence: bool = True

    def __post_init__(self) -> None:
        """Refuse limits that nothing could keep."""
        if not 0 <= self.max_delay_ms <= 10_000:
            raise ConfigError(f"max_delay_ms is {self.max_delay_ms:g}, expected 0 to 10000 milliseconds")
        for name in ("max_queue", "max_body_bytes", "max_pixels", "max_held_bytes", "body_seconds"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} is {getattr(self, name)}, expected more than 0")
