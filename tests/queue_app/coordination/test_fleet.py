"""The fleet's identity: kept by the server, outliving its data, and the same for everybody in the end."""

import itertools
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from queue_app.coordination import keys
from queue_app.coordination.embedded_server import EmbeddedServer, ServerAddress
from queue_app.coordination.fleet import Fleet, address_of, remember_job, take_job
from queue_app.coordination.redis_client import TRANSIENT, connect
from queue_app.host.fleet_memory import FleetMemory
from queue_app.job.directory import JobDir
from queue_app.settings import runtime_config
from tests.support.free_ports import free_ports


@pytest.fixture
def job_dir(tmp_path: Path) -> JobDir:
    made = JobDir(tmp_path / "a.npy.holdfast")
    made.path.mkdir()
    return made


@pytest.fixture
def other_client(other_server: EmbeddedServer) -> Iterator[redis.Redis]:
    assert other_server.address is not None
    with connect(other_server.address.url) as made:
        yield made


def member(client: redis.Redis, state: Path | None = None) -> Fleet:
    """A process that has not asked yet."""
    return Fleet(client, FleetMemory(state))


def test_everybody_who_asks_hears_one_id(client: redis.Redis) -> None:
    first = member(client).join()
    assert [member(client).join() for _ in range(3)] == 3 * [first]
    assert str(client.get(keys.FLEET)).startswith(f"{first} ")


def test_of_many_who_ask_at_once_one_makes_the_id(client: redis.Redis, server_url: str) -> None:
    barrier, heard = threading.Barrier(8), []

    def ask() -> None:
        with connect(server_url) as own:
            fleet = member(own)
            barrier.wait()
            heard.append(fleet.join())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(heard) == 8
    assert len(set(heard)) == 1


def test_a_live_member_puts_the_id_back_that_the_server_lost(client: redis.Redis) -> None:
    fleet = member(client)
    before = fleet.join()
    client.flushall()
    assert fleet.lost_data()
    assert fleet.id == before == member(client).join()


def test_a_member_that_was_started_since_puts_it_back_too(client: redis.Redis, tmp_path: Path) -> None:
    before = member(client, tmp_path / "state").join()
    client.flushall()
    assert member(client, tmp_path / "state").join() == before


def test_another_server_is_another_fleet_on_the_same_host(
    client: redis.Redis, other_client: redis.Redis, tmp_path: Path
) -> None:
    fleets = [member(each, tmp_path / "state") for each in (client, other_client)]
    for fleet in (*fleets, *fleets):
        fleet.join()
    assert fleets[0].ids.isdisjoint(fleets[1].ids)


def test_another_database_of_one_server_is_another_fleet(
    client: redis.Redis, server_url: str, tmp_path: Path
) -> None:
    with connect(f"{server_url[:-1]}1") as other:
        assert member(client, tmp_path).join() != member(other, tmp_path).join()


ORDERS = list(itertools.permutations(["worker", "other worker", "stranger", "restarted"]))


@pytest.mark.parametrize("order", ORDERS, ids=" ".join)
def test_after_lost_data_all_know_all_ids_in_whatever_order_they_ask(
    client: redis.Redis, tmp_path: Path, order: tuple[str, ...]
) -> None:
    """Also when a producer that knew nothing asked first, and so made a new one."""
    workers = {"worker": member(client), "other worker": member(client)}
    before = {fleet.join() for fleet in workers.values()} | {member(client, tmp_path).join()}
    assert len(before) == 1
    client.flushall()
    asking: dict[str, Callable[[], Fleet]] = {
        **{name: lambda fleet=fleet: fleet for name, fleet in workers.items()},
        "stranger": lambda: member(client),
        "restarted": lambda: member(client, tmp_path),
    }
    fleets = [asking[name]() for name in order]
    assert [fleet.lost_data() for fleet in fleets] == 4 * [True]
    present = str(client.get(keys.FLEET)).split()[0]
    assert (present in before) == (order[0] != "stranger"), "whoever knew one put it back"
    for fleet in fleets:
        fleet.learn_former()
        assert fleet.id == present
        assert fleet.ids == before | {present}
    assert not any(fleet.lost_data() for fleet in fleets)


def test_a_former_id_outlives_the_next_loss_too(client: redis.Redis) -> None:
    fleet = member(client)
    first = fleet.join()
    client.flushall()
    second = member(client).join()
    assert fleet.lost_data()
    client.flushall()
    assert fleet.lost_data()
    assert (fleet.id, fleet.ids) == (second, {first, second})
    assert member(client).join() == second
    newcomer = member(client)
    newcomer.join()
    assert newcomer.ids == {first, second}


# ---- that the data was lost


def test_lost_data_is_noticed_by_every_member_once(client: redis.Redis) -> None:
    fleets = [member(client), member(client)]
    assert [fleet.lost_data() for fleet in fleets] == [True, True], "nobody knows what was before"
    assert [fleet.lost_data() for fleet in fleets] == [False, False]
    client.flushall()
    assert [fleet.lost_data() for fleet in fleets] == [True, True], "the second does not find it empty"
    assert [fleet.lost_data() for fleet in fleets] == [False, False]


def test_whether_data_was_lost_costs_one_get(client: redis.Redis) -> None:
    fleet = member(client)
    fleet.lost_data()
    client.config_resetstat()
    assert not fleet.lost_data()
    commands = {name for name in client.info("commandstats") if name != "cmdstat_config|resetstat"}
    assert commands == {"cmdstat_get"}


def test_a_scan_in_between_hides_no_loss(client: redis.Redis) -> None:
    fleet = member(client)
    fleet.lost_data()
    client.flushall()
    fleet.learn_former()
    assert fleet.lost_data()


def test_after_a_broken_connection_data_may_be_lost_though_the_epoch_is_the_same(
    other_server: EmbeddedServer, other_client: redis.Redis
) -> None:
    """The server may have been started again on its data of an hour ago."""
    fleet = member(other_client)
    fleet.lost_data()
    held = other_client.get(keys.FLEET)
    other_server.stop()
    with pytest.raises(TRANSIENT):
        fleet.lost_data()
    other_server.start()
    assert fleet.lost_data()
    assert not fleet.lost_data()
    assert other_client.get(keys.FLEET) == held


# ---- whose a job is


def test_a_job_that_is_taken_belongs_to_the_fleet_of_that_server(
    client: redis.Redis, other_client: redis.Redis, job_dir: JobDir
) -> None:
    assert job_dir.fleet() is None
    for each in (client, other_client):
        take_job(each, job_dir)
        assert job_dir.fleet() == member(each).join()


def test_taking_a_job_remembers_where_it_lies(client: redis.Redis, job_dir: JobDir, state_home: Path) -> None:
    take_job(client, job_dir)
    fleet = member(client, state_home)
    fleet.join()
    assert fleet.directories() == [job_dir.path]


def test_a_job_on_a_server_of_its_own_is_remembered_nowhere_else(
    client: redis.Redis, server: EmbeddedServer, job_dir: JobDir, state_home: Path
) -> None:
    assert server.address is not None
    server.address.write(job_dir.server_json)
    take_job(client, job_dir)
    assert job_dir.fleet() == member(client).join()
    assert job_dir.server_json.exists()
    assert not state_home.exists()


def test_a_job_that_goes_on_elsewhere_has_no_server_of_its_own_any_more(
    client: redis.Redis, job_dir: JobDir
) -> None:
    ServerAddress(free_ports(0)[0], "of an earlier run").write(job_dir.server_json)
    take_job(client, job_dir)
    assert not job_dir.server_json.exists()


def test_a_worker_remembers_what_it_begins_and_writes_only_what_is_new(
    client: redis.Redis, job_dir: JobDir, state_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember_job(job_dir, "of no fleet")
    assert not state_home.exists()
    with monkeypatch.context() as patch:
        patch.setenv("HOLDFAST_STATE", "")
        runtime_config.cache_clear()
        take_job(client, job_dir)  # on a host that remembers nothing
    runtime_config.cache_clear()
    remember_job(job_dir, "a job")
    fleet = member(client, state_home)
    fleet.join()
    assert fleet.directories() == [job_dir.path]
    monkeypatch.setattr(FleetMemory, "note_directory", None)
    remember_job(job_dir, "a job")


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"fleet": 7}', json.dumps({"fleet": "../../etc"})])
def test_what_is_no_identity_is_none(job_dir: JobDir, content: str) -> None:
    job_dir.fleet_json.write_text(content)
    assert job_dir.fleet() is None


def test_an_address_says_no_password_and_is_one_hosts_own_where_it_is_local() -> None:
    def of(url: str) -> str:
        with connect(url) as client:
            return address_of(client)

    assert (
        of("redis://:secret@Queue-Host/2")
        == of("redis://user:other@queue-host:6379/2")
        == ("queue-host:6379/2")
    )
    here = of("redis://localhost:6379/0")
    assert here == of("redis://127.0.0.1/0")
    assert here.endswith(":127.0.0.1:6379/0")
    assert len(here) > len("127.0.0.1:6379/0") + 1
    assert of("unix:///run/valkey.sock?db=1").endswith(":/run/valkey.sock/1")
