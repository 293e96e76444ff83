"""The list of scenarios, by name."""

from collections.abc import Callable, Iterator, Mapping

from tests.campaigns.fleet import bad_hosts, undisturbed
from tests.campaigns.fleet.figures import Figure
from tests.campaigns.fleet.fleet import Campaign

SCENARIOS: Mapping[str, Callable[[Campaign], Iterator[Figure]]] = {
    "undisturbed": undisturbed.three_hosts,
    "without_scratch": bad_hosts.without_scratch,
    "without_shared_directory": bad_hosts.without_shared_directory,
}
