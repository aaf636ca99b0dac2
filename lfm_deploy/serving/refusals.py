"""What the service refuses, and in which words: one JSON object with a reason that programs can compare."""

from enum import StrEnum

from lfm_deploy.errors import DeployError, ImageError, TooManyPixelsError, UnknownFormatError


class Reason(StrEnum):
    """Why a request was refused; a label of the metrics as well."""

    BAD_REQUEST = "bad-request"
    NOT_FOUND = "not-found"
    METHOD = "method-not-allowed"
    SLOW_BODY = "slow-body"
    BODY_TOO_LARGE = "body-too-large"
    TOO_MANY_PIXELS = "too-many-pixels"
    UNKNOWN_FORMAT = "unknown-format"
    CANNOT_BE_JUDGED = "cannot-be-judged"
    QUEUE_FULL = "queue-full"
    NOT_READY = "not-ready"
    INTERNAL = "internal-error"


_STATUS = {
    Reason.BAD_REQUEST: 400,
    Reason.NOT_FOUND: 404,
    Reason.METHOD: 405,
    Reason.SLOW_BODY: 408,
    Reason.BODY_TOO_LARGE: 413,
    Reason.TOO_MANY_PIXELS: 413,
    Reason.UNKNOWN_FORMAT: 415,
    Reason.CANNOT_BE_JUDGED: 422,
    Reason.INTERNAL: 500,
    Reason.QUEUE_FULL: 503,
    Reason.NOT_READY: 503,
}


class RefusalError(Exception):
    """A request, or one of its pictures, is not answered with a verdict.

    Attributes:
        reason: reason for programs.
        message: reason for people, on one line.
        retry_after_s: seconds after which it is worth to ask again; None where asking again changes nothing.
    """

    def __init__(self, reason: Reason, message: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.reason, self.message, self.retry_after_s = reason, message, retry_after_s

    @property
    def status(self) -> int:
        """Status code of HTTP."""
        return _STATUS[self.reason]

    @property
    def headers(self) -> dict[str, str]:
        """Headers that go with the answer."""
        return {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}

    def as_dict(self) -> dict[str, str]:
        """Plain values for JSON; ``error`` is where the Open Inference Protocol wants the message."""
        return {"error": self.message, "reason": str(self.reason)}


def refuse_picture(error: DeployError) -> RefusalError:
    """The refusal of a picture that cannot be judged, in the words of ``predict``; other errors are failures here."""
    if not isinstance(error, ImageError):
        return RefusalError(Reason.INTERNAL, str(error))  # such as a decoder whose pixels are not the contract's
    if isinstance(error, TooManyPixelsError):
        return RefusalError(Reason.TOO_MANY_PIXELS, str(error))
    if isinstance(error, UnknownFormatError):
        return RefusalError(Reason.UNKNOWN_FORMAT, str(error))
    return RefusalError(Reason.CANNOT_BE_JUDGED, str(error))
