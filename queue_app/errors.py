"""The errors a user can meet. Each class carries the exit code that `holdfast` ends with."""


class HoldfastError(Exception):
    """Raised when a job cannot go on; what is committed stays, and the same command resumes."""

    exit_code = 1


class UsageError(HoldfastError):
    """Raised when the command asks for something that cannot be: a bad option, path or combination."""

    exit_code = 2


class InputError(UsageError):
    """Raised when an input file cannot be read as what it claims to be; names file and line."""


class WrongType(UsageError, TypeError):
    """Raised when a call from Python is given what it does not take; says what to write."""


class WrongReadout(UsageError, AttributeError):
    """Raised when vectors of records are read of a job that has those of residues, or the other way round."""


class ModelError(UsageError):
    """Raised when a model is unknown or its directory cannot be used."""


class JobChanged(UsageError):
    """Raised when an output already belongs to a job with other inputs, model or options."""


class BrokerUnreachable(HoldfastError):
    """Raised when no Redis-protocol server answers, or it refuses the password."""


class JobNotFound(UsageError):
    """Raised when neither the server nor a job directory knows the job."""


class OtherVersion(UsageError):
    """Raised when a job was planned by a version whose shards and batches this one would cut differently, or
    its run card written by one that knows more."""


class JobFailed(HoldfastError):
    """Raised when shards were given up after the attempt limit."""


class JobBusy(HoldfastError):
    """Raised when another process holds the job directory."""


class DiskFull(HoldfastError):
    """Raised when there is no room for what must be written next."""


class Damage(HoldfastError):
    """Raised when stored data fails its checks."""

    exit_code = 4
