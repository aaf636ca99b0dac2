"""A graph that loads may still fail when it runs: what a runtime raises then becomes one line with an exit code."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lfm_deploy.errors import ArtifactError, DeployError, UnavailableError, first_line, is_out_of_memory


class RunFailedError(DeployError):
    """A graph that could be loaded fails when it runs.

    Attributes:
        reason: first line of what the runtime says.
    """

    def __init__(self, name: str, reason: str, device: str, remedy: str) -> None:
        """Say it in one line.

        Args:
            name: name of the graph.
            reason: first line of what the runtime says.
            device: device that it ran on; on a GPU the machine is more likely at fault than the graph.
            remedy: advice for the message.
        """
        super().__init__(f"{name}: fails when it runs on {device} ({reason}); {remedy}")
        self.reason = reason
        self.exit_code = ArtifactError.exit_code if device == "cpu" else UnavailableError.exit_code


@contextmanager
def guard_run(name: str, device: str = "cpu", remedy: str = "make it again with 'lfm-deploy export'") -> Iterator[None]:
    """Turn whatever a runtime raises in the block into one line.

    Args:
        name: name of the graph.
        device: device that it runs on.
        remedy: advice for the message.

    Raises:
        MemoryError: the runtime could not allocate what it needs.
        RunFailedError: the runtime failed in another way.
    """
    try:
        yield
    except (DeployError, MemoryError):
        raise
    except Exception as error:  # classes of runtimes are private to their bindings
        if is_out_of_memory(error):
            raise MemoryError(first_line(error)) from None
        raise RunFailedError(name, first_line(error), device, remedy) from None


def check_logits(logits: NDArray[Any], pictures: int, name: str) -> NDArray[np.float32]:
    """The logits of a graph, after making sure that there is one a picture.

    Args:
        logits: output of the graph, float32 ``(N,)`` where it is what it must be.
        pictures: number of pictures that it was given.
        name: name of the graph.

    Returns:
        float32 ``(N,)``, the same array.

    Raises:
        ArtifactError: the graph gave something else.
    """
    if logits.dtype != np.float32 or logits.shape != (pictures,):
        raise ArtifactError(
            f"{name}: gives {logits.dtype} {logits.shape} for {pictures} pictures, expected one float32 logit each; "
            "make it again with 'lfm-deploy export'"
        )
    return logits


class GuardedSession:
    """A session of ONNX Runtime whose runs fail in one line; all else is the session's own."""

    def __init__(self, session: Any, name: str, device: str, remedy: str) -> None:
        """Guard a session.

        Args:
            session: session, an ``onnxruntime.InferenceSession``.
            name: name of the graph, for messages.
            device: device that it runs on.
            remedy: advice for the message.
        """
        self._session, self._name, self._device, self._remedy = session, name, device, remedy

    def __getattr__(self, name: str) -> Any:
        """What the session has."""
        return getattr(self._session, name)

    def run(self, *arguments: Any) -> Any:
        """Run, as ``InferenceSession.run`` does.

        Raises:
            RunFailedError: the graph fails.
        """
        with guard_run(self._name, self._device, self._remedy):
            return self._session.run(*arguments)

    def run_with_iobinding(self, *arguments: Any) -> None:
        """Run, as ``InferenceSession.run_with_iobinding`` does.

        Raises:
            RunFailedError: the graph fails.
        """
        with guard_run(self._name, self._device, self._remedy):
            self._session.run_with_iobinding(*arguments)
