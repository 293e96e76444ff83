"""The list of scenarios, by name."""

from collections.abc import Callable, Iterator, Mapping

from tests.campaigns.fleet import bad_hosts, outages, scaling, sharing, undisturbed, zombies
from tests.campaigns.fleet.figures import Figure
from tests.campaigns.fleet.fleet import Campaign

SCENARIOS: Mapping[str, Callable[[Campaign], Iterator[Figure]]] = {
    "undisturbed": undisturbed.three_hosts,
    "without_scratch": bad_hosts.without_scratch,
    "without_shared_directory": bad_hosts.without_shared_directory,
    "cut_off_holders": zombies.cut_off_holders,
    "slow_device": sharing.slow_device,
    "uneven_hosts": sharing.uneven_hosts,
    "five_big_inputs": sharing.five_big_inputs,
    "small_behind_large": sharing.small_behind_large,
    "one_to_many_workers": scaling.one_to_many,
    "emptied_server": outages.emptied_server,
    "host_gone_for_good": outages.host_gone_for_good,
    "two_fleets": outages.two_fleets,
}
