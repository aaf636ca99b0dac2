"""``lfm-deploy serve``: verdicts over HTTP."""

import warnings
from pathlib import Path

import click

from lfm_deploy.cli.console import choose_device, say, warn_of_decoding, workdir_option
from lfm_deploy.cli.judge_options import judge_options
from lfm_deploy.errors import UnavailableError
from lfm_deploy.workdir import Workdir


@click.command("serve")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 is all of them.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="Port; 0 takes a free one."
)
@judge_options
@click.option(
    "--max-batch", type=click.IntRange(1, 4096), help="Pictures in a batch at most.  [default: 8 on a CPU, 64 on a GPU]"
)
@click.option(
    "--max-delay-ms",
    type=click.FloatRange(0, 10_000),
    default=5.0,
    show_default=True,
    help="Milliseconds that a picture waits at most for others to share its batch.",
)
@click.option(
    "--max-queue",
    type=click.IntRange(1),
    default=256,
    show_default=True,
    help="Pictures that wait at most; more are refused with 503.",
)
@click.option(
    "--max-pixels",
    type=click.IntRange(1),
    metavar="N",
    default=50_000_000,
    show_default=True,
    help="Pictures of more pixels are refused with 413, before they are decoded.",
)
@click.option("--no-evidence", is_flag=True, help="Draw no evidence, which takes PyTorch and its memory.")
@workdir_option
def command(
    host: str,
    port: int,
    engine: Path | None,
    precision: str | None,
    device: str | None,
    gpus: str | None,
    threshold: float | None,
    decoder: str | None,
    max_batch: int | None,
    max_delay_ms: float,
    max_queue: int,
    max_pixels: int,
    no_evidence: bool,
    workdir: Workdir,
) -> None:
    """Give verdicts over HTTP, the same as predict gives.

    POST a picture to /v1/verdict, or drop it on the page at /. There are /docs, /metrics, /healthz, /readyz and the
    Open Inference Protocol at /v2. It ends on Ctrl-C or SIGTERM, after every accepted request has its answer.
    """
    if engine is not None and precision is not None:
        raise click.UsageError("--engine and --precision exclude each other")
    try:
        from lfm_deploy.serving.service import open_socket, serve_verdicts
    except ImportError as error:
        raise UnavailableError(
            f"the service needs {error.name}, which is not installed; run 'pip install lfm-deploy[serve]'"
        ) from None
    from engines.host import keep_freed_memory
    from lfm_deploy.pictures.pixel_limit import limit_pixels
    from lfm_deploy.prediction.judges import open_judge
    from lfm_deploy.serving.settings import ServiceSettings

    keep_freed_memory()
    warn_of_decoding()
    settings = ServiceSettings(
        max_delay_ms=max_delay_ms, max_queue=max_queue, max_pixels=max_pixels, evidence=not no_evidence
    )
    chosen = choose_device(device, gpus)
    with limit_pixels(max_pixels), open_socket(host, port) as listening, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")  # of odd metadata; what matters is an error in its row
        serve_verdicts(
            lambda: open_judge(
                workdir,
                engine=engine,
                precision=precision,
                device=chosen,
                threshold=threshold,
                batch=max_batch,
                decoder=decoder,
                on_message=say,
            ),
            settings,
            listening,
            on_message=say,
        )
