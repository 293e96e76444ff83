"""Models too large for a second copy: their devices are held against each other. On a real server."""

import logging
import multiprocessing
from collections.abc import Callable
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis

from gpu_tasks import task
from gpu_tasks.errors import NumericsDeviate
from gpu_tasks.inference import torch_device
from gpu_tasks.inference.canary import SEQUENCES, Canary
from gpu_tasks.inference.model import Dtype, EmbeddingModel
from gpu_tasks.model_directory.load_model import load_model
from gpu_tasks.shard import job_model
from gpu_tasks.shard.job_model import load_job_model
from gpu_tasks.shard.numerics import canary_check
from queue_app.coordination import keys
from queue_app.coordination.canary_exchange import CanaryDeposits
from queue_app.coordination.fleet import take_job
from queue_app.coordination.manifest import CheckpointManifest
from queue_app.coordination.states import ShardState
from queue_app.ingest.prepare import Prepared
from queue_app.ingest.request import EmbedRequest
from tests.support.broken_devices import be_a_worker, harm, no_second_copy
from tests.support.inline_job import prepare_here
from tests.support.jobs_and_inputs import write_fasta
from tests.support.model_directories import save_esm2

JOB_ID = "0123456789ab-cafecafe"
TRUTH = np.random.default_rng(0).standard_normal((len(SEQUENCES), 32)).astype(np.float32)


@pytest.fixture
def deposits(client: redis.Redis) -> CanaryDeposits:
    return CanaryDeposits(client, JOB_ID, "1:abcd:bfloat16")


def sound(device: str, dtype: Dtype = "bfloat16") -> Canary:
    """A device that rounds in its own way, as every kind does."""
    noise = np.random.default_rng(list(device.encode())).standard_normal(TRUTH.shape)
    return Canary(device, dtype, (TRUTH * (1 + 0.01 * noise)).astype(np.float32))


def broken(device: str) -> Canary:
    """A device that is wrong in a way of its own."""
    vectors = sound(device).vectors.copy()
    vectors[1] = np.random.default_rng(list(device.encode())).standard_normal(vectors.shape[1])
    return Canary(device, "bfloat16", vectors)


# ---- one device


def test_the_only_device_of_a_job_never_waits(deposits: CanaryDeposits) -> None:
    for _ in range(3):
        sound("GPU-a").check_against_others(deposits)
    assert set(deposits.all()) == {"GPU-a"}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_vectors_that_are_not_finite_need_no_second_device(deposits: CanaryDeposits, bad: float) -> None:
    vectors = TRUTH.copy()
    vectors[2, 3] = bad
    with pytest.raises(NumericsDeviate, match="GPU-a"):
        Canary("GPU-a", "bfloat16", vectors).check_against_others(deposits)
    assert deposits.all() == {}


def test_a_device_never_confirms_itself(deposits: CanaryDeposits) -> None:
    """Not by a restarted worker, nor by a second worker on it."""
    for _ in range(2):
        broken("GPU-a").check_against_others(deposits)
    for device in ("GPU-b", "GPU-c"):
        sound(device).check_against_others(deposits)
    with pytest.raises(NumericsDeviate, match="GPU-a"):
        broken("GPU-a").check_against_others(deposits)


# ---- several


def test_from_the_second_device_that_agrees_on_every_other_one_is_measured(deposits: CanaryDeposits) -> None:
    for device in ("GPU-a", "GPU-b", "GPU-c"):
        sound(device).check_against_others(deposits)
    deposits.begin("GPU-d", 7)
    deposits.begin("GPU-d", 3)
    deposits.begin("GPU-a", 4)
    with pytest.raises(NumericsDeviate, match=r"GPU-d: .*two other devices.*suspicious.* shards 3, 7\.$"):
        broken("GPU-d").check_against_others(deposits)


@pytest.mark.parametrize("order", list(permutations("xab")), ids="".join)
def test_of_two_that_disagree_the_one_whom_a_third_contradicts_has_to_go(
    deposits: CanaryDeposits, order: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    devices = [broken("GPU-x") if name == "x" else sound(f"GPU-{name}") for name in order]
    devices[0].check_against_others(deposits)
    if order[2] != "x":  # the first two disagree: both go on, and both are named
        devices[1].check_against_others(deposits)
        assert f"{devices[1].device} and {devices[0].device} disagree" in caplog.text
        devices[2].check_against_others(deposits)
    else:
        devices[1].check_against_others(deposits)
    for device in devices:
        if device.device == "GPU-x":
            with pytest.raises(NumericsDeviate, match="GPU-x"):
                device.check_against_others(deposits)
        else:
            device.check_against_others(deposits)


def test_three_that_are_all_apart_go_on_until_two_agree(deposits: CanaryDeposits) -> None:
    devices = [broken("GPU-x"), broken("GPU-y"), sound("GPU-a")]
    for device in devices * 2:
        device.check_against_others(deposits)
    sound("GPU-b").check_against_others(deposits)
    for device in devices[:2]:
        with pytest.raises(NumericsDeviate):
            device.check_against_others(deposits)
    devices[2].check_against_others(deposits)


def test_who_deviated_in_its_last_shard_is_named_by_the_others(
    deposits: CanaryDeposits, caplog: pytest.LogCaptureFixture
) -> None:
    broken("GPU-x").check_against_others(deposits)
    deposits.begin("GPU-x", 5)
    for device in ("GPU-a", "GPU-b"):
        sound(device).check_against_others(deposits)
    assert "GPU-x deviates" in caplog.text
    assert "begun shards 5." in caplog.text


def test_golden_vectors_do_not_change_even_when_others_agree_on_something_else(
    deposits: CanaryDeposits,
) -> None:
    for device in ("GPU-a", "GPU-b"):
        sound(device).check_against_others(deposits)
    for device in ("GPU-x", "GPU-y"):
        with pytest.raises(NumericsDeviate):
            Canary(device, "bfloat16", broken("GPU-x").vectors).check_against_others(deposits)
    sound("GPU-a").check_against_others(deposits)


def test_of_two_pairs_that_agree_at_the_same_moment_one_wins(deposits: CanaryDeposits) -> None:
    assert [deposits.agree_on(vectors) for vectors in ("first", "second")] == ["first", "first"]


def test_what_is_not_the_same_model_dtype_and_sequences_is_not_compared(deposits: CanaryDeposits) -> None:
    sound("GPU-a").check_against_others(deposits)
    broken("GPU-x").check_against_others(replace(deposits, subject="2:abcd:bfloat16"))
    sound("GPU-b").check_against_others(deposits)
    broken("GPU-x").check_against_others(replace(deposits, subject="2:abcd:bfloat16"))


def test_the_dtype_sets_how_far_two_devices_may_be_apart(deposits: CanaryDeposits) -> None:
    """Rounding that is right in bfloat16 is a broken device in float32."""
    for device in ("GPU-a", "GPU-b"):
        Canary(device, "float32", TRUTH).check_against_others(deposits)
    off = Canary("GPU-c", "float32", TRUTH * (1 + 0.05 * np.sin(np.arange(32))).astype(np.float32))
    with pytest.raises(NumericsDeviate):
        off.check_against_others(deposits)
    replace(off, dtype="bfloat16").check_against_others(deposits)


def test_nonsense_on_the_server_confirms_nobody_and_stops_nobody(
    deposits: CanaryDeposits, client: redis.Redis
) -> None:
    for nonsense in ("", "no base64!", "AAAA"):
        deposits.deposit("GPU-z", nonsense)
        sound("GPU-a").check_against_others(deposits)
    client.hset(keys.canary(JOB_ID), f"{deposits.subject}|golden", "AAAA")
    sound("GPU-b").check_against_others(deposits)


def test_a_server_that_lost_its_data_knows_the_golden_vectors_again_at_the_next_shards(
    deposits: CanaryDeposits, client: redis.Redis
) -> None:
    devices = [sound("GPU-a"), sound("GPU-b")]
    for device in devices:
        device.check_against_others(deposits)
    client.flushall()
    broken("GPU-x").check_against_others(deposits)  # the first one now: nobody to be compared with
    for device in devices:
        device.check_against_others(deposits)
    with pytest.raises(NumericsDeviate):
        broken("GPU-x").check_against_others(deposits)


def test_a_forgotten_job_leaves_no_vectors_and_an_abandoned_one_not_for_ever(
    deposits: CanaryDeposits, client: redis.Redis
) -> None:
    sound("GPU-a").check_against_others(deposits)
    deposits.begin("GPU-a", 0)
    assert client.ttl(keys.canary(JOB_ID)) > 0
    assert client.ttl(keys.begun(JOB_ID)) > 0
    CheckpointManifest(client, JOB_ID).forget()
    assert client.keys("*") == []


# ---- devices in processes of their own, with a model


@pytest.fixture(scope="module")
def esm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_esm2(tmp_path_factory.mktemp("esm2"))


@pytest.fixture(autouse=True)
def every_model_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canary_check, "CANARY_PARAMETERS_MOST", 0)
    monkeypatch.setattr(canary_check, "_canaries", {})
    monkeypatch.setattr(job_model, "_loaded", {})


@pytest.fixture
def prepared(esm2: Path, tmp_path: Path) -> Prepared:
    fasta = write_fasta(tmp_path / "a.fasta", 8)
    request = EmbedRequest(
        inputs=[fasta], model=str(esm2), output=tmp_path / "a.npy", dtype="bfloat16", num_shards=2
    )
    return prepare_here(request)


def test_of_processes_that_start_at_once_only_the_one_on_the_broken_device_ends(
    prepared: Prepared, client: redis.Redis, server_url: str
) -> None:
    context = multiprocessing.get_context("spawn")
    start, ends = context.Barrier(3), context.Queue()
    devices = ["GPU-0", "GPU-1", "GPU-broken"]
    arguments = (prepared.job_dir.path, server_url, 50, start, ends)
    workers = [
        context.Process(target=be_a_worker, args=(device, *arguments), daemon=True) for device in devices
    ]
    for worker in workers:
        worker.start()
    ended = dict(ends.get(timeout=90) for _ in workers)
    for worker in workers:
        worker.join()
    assert ended["GPU-0"] == ended["GPU-1"] == ""
    if not ended["GPU-broken"]:  # it had done all its checks before the others had done their first
        with pytest.raises(NumericsDeviate):
            check_as("GPU-broken", prepared, harm)
    else:
        assert "GPU-broken" in ended["GPU-broken"]


def check_as(device: str, prepared: Prepared, change: Callable[[Any], EmbeddingModel]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_device, "hardware_id", lambda name: device)
        patch.setattr(canary_check, "_canaries", {})
        model = load_model(prepared.job.model.path, dtype="bfloat16")
        canary_check.watch_canary(prepared.job, change(model), no_second_copy)


@pytest.fixture
def own_client(client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (canary_check, task):
        monkeypatch.setattr(module, "client", lambda: client)


@pytest.mark.usefixtures("own_client")
def test_no_second_copy_of_a_large_model_is_loaded(prepared: Prepared) -> None:
    check_as("GPU-0", prepared, lambda model: model)


@pytest.mark.usefixtures("own_client")
def test_a_worker_that_deviates_ends_before_it_takes_a_shard_and_says_which_device_and_what_it_did(
    prepared: Prepared, client: redis.Redis, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    job, job_dir = prepared.job, prepared.job_dir
    manifest = CheckpointManifest(client, job.job_id)
    manifest.initialize(job, str(job_dir.path), {})
    take_job(client, job_dir)
    signals: list[tuple[int, int]] = []
    monkeypatch.setattr("os.kill", lambda pid, number: signals.append((pid, number)))
    monkeypatch.setattr(torch_device, "hardware_id", lambda name: "GPU-broken")
    monkeypatch.setattr(
        job_model, "load_job_model", lambda *args, **options: harm(load_job_model(*args, **options))
    )

    def embed(index: int) -> str:
        return str(task.embed_shard.run(job.job_id, index))

    assert embed(0) == "done"  # nobody knows better yet
    for device in ("GPU-0", "GPU-1"):
        check_as(device, prepared, lambda model: model)
    caplog.set_level(logging.CRITICAL)
    caplog.clear()
    assert embed(1) == "in trouble"
    assert len(signals) == 1
    assert "GPU-broken: " in caplog.text
    assert "begun shards 0." in caplog.text
    second = manifest.shard_status(1)
    assert second is not None
    assert (second.state, second.attempts) == (ShardState.PENDING, 0)


def test_workers_on_one_device_know_that_it_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    class Properties:
        uuid = "8f6d0a3c-0000-1111-2222-333344445555"

    monkeypatch.setattr("torch.cuda.get_device_properties", lambda name: Properties)
    assert torch_device.hardware_id("cuda:0") == f"GPU-{Properties.uuid}"
    assert torch_device.hardware_id("cpu") == torch_device.hardware_id("cpu") != "cpu-"
