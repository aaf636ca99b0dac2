"""What a device is called: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``, and several of them with commas between."""

from lfm_deploy.errors import ConfigError


def parse_device(device: str) -> tuple[str, int]:
    """Kind and index of a device: ``("cpu", 0)``, or ``("cuda", N)``, where ``"cuda"`` is the first GPU.

    Raises:
        ConfigError: the name is not that of a device.
    """
    kind, colon, index = device.partition(":")
    if kind not in ("cpu", "cuda") or (colon and (kind == "cpu" or not index.isdecimal())):
        raise ConfigError(f"device is {device!r}, expected cpu, cuda or cuda:N")
    return kind, int(index or 0)


def parse_gpu(device: str) -> int:
    """The index in ``"cuda"`` or ``"cuda:N"``.

    Raises:
        ConfigError: the name is not that of a GPU.
    """
    kind, index = parse_device(device)
    if kind != "cuda":
        raise ConfigError(f"device is {device!r}, expected cuda or cuda:N; this engine runs on a GPU")
    return index


def split_devices(device: str) -> list[str]:
    """The devices of ``"cuda:0,cuda:1"``.

    Raises:
        ConfigError: a device is empty, or named twice.
    """
    devices = [part.strip() for part in device.split(",")]
    if "" in devices or len(set(devices)) != len(devices):
        raise ConfigError(f"device is {device!r}, expected each device once, such as cuda:0,cuda:1")
    return devices
