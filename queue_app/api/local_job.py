"""One job of `embed`, `start` or `embed_async`: from what they were called with to its end."""

import logging
import os
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

from queue_app.api import local_run
from queue_app.api.cached_output import make_cache, named_by_content, unnamed_output
from queue_app.api.inputs import Paths, Sequences, input_files
from queue_app.api.local_workers import LocalSetup
from queue_app.api.options import Options, request_of
from queue_app.coordination.redis_client import own_broker
from queue_app.errors import UsageError
from queue_app.host.queues import device_class
from queue_app.ingest.request import EmbedRequest
from queue_app.ingest.settle import choose_workers, settle
from queue_app.model.spec import FoundModel
from queue_app.settings import RuntimeConfig, runtime_config
from queue_app.status.notebook import open_progress
from queue_app.status.view import View

log = logging.getLogger(__name__)


@dataclass
class LocalJob:
    """A job to be run on this machine: the parameters of `embed`."""

    inputs: Paths | None
    model: str | os.PathLike[str]
    output: str | os.PathLike[str] | None
    sequences: Sequences | None
    device: str | int
    workers: int | None
    broker_url: str | None
    progress: bool | None
    options: Options
    request: EmbedRequest = field(init=False)

    def __post_init__(self) -> None:
        if self.output is None and self.inputs is not None:
            raise UsageError("output: name one, as in output='out.h5'; only sequences= may do without")
        output = unnamed_output(self.options) if self.output is None else self.output
        self.request = request_of(self.model, output, self.options)

    def open_view(self) -> AbstractContextManager[View]:
        return open_progress(self.progress)

    def run(self, view: View) -> None:
        """To its end."""
        config = runtime_config()
        with input_files(self.inputs, self.sequences) as files:
            self.request = replace(self.request, inputs=files)
            if self.output is None:
                make_cache(self.request.output)
            model = settle(self.request)
            if self.output is None:
                self._name_output(model, config, view)
            setup = LocalSetup(self._queues(model, config), own_broker(self.broker_url), config, view)
            local_run.embed(self.request, model, setup)

    def _name_output(self, model: FoundModel, config: RuntimeConfig, view: View) -> None:
        """In the cache, now that it is known what it depends on; and say so."""
        self.request = named_by_content(self.request, model, device_class(self._queues(model, config)))
        log.info("no output was named: it is %s", self.request.output)
        view.say(f"no output was named: it is {self.request.output}")

    def _queues(self, model: FoundModel, config: RuntimeConfig) -> list[str]:
        return choose_workers(self.request, model, str(self.device), self.workers, config)
