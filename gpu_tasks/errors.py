"""The errors of inference. The message says what to do next."""

from queue_app.shown import visible, visible_lines

SAID_CHARACTERS = 500
MESSAGE_CHARACTERS = 1_500


class InferenceError(Exception):
    """Raised when vectors cannot be computed."""


class ModelLoadError(InferenceError):
    """Raised when a model reference is unknown, or its directory cannot be used as it is.

    The message repeats names and values of the model, which are its giver's: of any length, of any letters.
    """

    def __init__(self, message: str) -> None:
        super().__init__(visible_lines(message, MESSAGE_CHARACTERS))


class UnsupportedModel(ModelLoadError):
    """Raised when a model is sound, but of a family or configuration that has no implementation here."""


class DeviceUnavailable(InferenceError):
    """Raised when the device that was asked for is not there."""


class NumericsDeviate(InferenceError):
    """Raised when a device does not compute what the processor computes."""


class OtherKind(InferenceError):
    """Raised when a job is for one kind of device, and this worker's is another."""


class NotCertified(InferenceError):
    """Raised when a job's records lose more in int8 than it allows."""


class JobHopeless(InferenceError):
    """Raised when what is wrong with a shard is wrong with the whole job, and no other attempt mends it."""


class ModelTooLarge(InferenceError):
    """Raised when a model does not fit in the memory of the device, or of the host; names the sizes."""


class OutOfMemory(InferenceError):
    """Raised when the device's memory does not hold a batch. The batch can be tried again in halves."""


class RecordTooLarge(OutOfMemory):
    """Raised when a single segment does not fit in the device's memory; no split can help."""

    def __init__(self, ordinal: int, num_tokens: int) -> None:
        super().__init__(
            f"record {ordinal}: a segment of {num_tokens} tokens does not fit in the device's memory; "
            "quarantine it, or plan with a smaller max_length"
        )
        self.ordinal = ordinal
        self.num_tokens = num_tokens


def first_line(error: BaseException) -> str:
    """What is said of another library's error: its first line, or its class where it says nothing.

    A line that ends in a colon only begins a sentence: the next one belongs to it.
    """
    first, *rest = str(error).strip().splitlines() or [type(error).__name__]
    said = f"{first} {rest[0].strip()}" if rest and first.endswith(":") else first
    return visible(said, SAID_CHARACTERS)
