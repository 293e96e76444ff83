"""Whole models by our kernels: interpreted, beside the processor, and on a device, beside plain ones."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gpu_tasks import load_model
from gpu_tasks.models.bert import Bert
from gpu_tasks.models.esm2 import Esm2
from gpu_tasks.models.kernels.fused import Shape, fused_kernels
from gpu_tasks.models.layers import attend_runs, attend_varlen
from gpu_tasks.models.packed import PackedModel
from tests.support.interpreted_kernels import interpreted, needs_interpreter
from tests.support.jobs_and_inputs import protein
from tests.support.model_directories import cosines, embed, save_bert, save_esm2, save_mosaic, save_mpnet

on_a_device = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
Save = Callable[..., Path]
FAMILIES = [save_esm2, save_bert, save_mpnet, save_mosaic]
LETTERS = ["A", "ACDC", *(protein(number)[: 7 + 5 * number] for number in range(6))]
BASES = ["A", "ACGT", *("ACGTTGCAAC" * number for number in range(1, 7))]


def sequences_for(save: Save) -> list[str]:
    return BASES if save is save_mosaic else LETTERS


def by_our_kernels(model: PackedModel) -> PackedModel:
    """The same model, what is between its matrix products interpreted."""
    encoder = model.encoder
    assert isinstance(encoder, Esm2 | Bert)
    norm = encoder.layers[0].mlp_norm
    shape = Shape(encoder.num_heads, len(norm.weight) // encoder.num_heads, norm.eps, norm.weight.dtype)
    kernels = fused_kernels(
        shape,
        interpreted,
        encoder.kernels,
        rotary=isinstance(encoder, Esm2),
        biased=isinstance(encoder, Bert) and encoder.bias is not None,
    )
    return replace(model, encoder=replace(encoder, kernels=kernels))


@needs_interpreter
@pytest.mark.parametrize("save", FAMILIES)
def test_a_model_computes_by_our_kernels_what_it_computes_by_plain_ones(tmp_path: Path, save: Save) -> None:
    plain = load_model(str(save(tmp_path / "model")))
    assert isinstance(plain, PackedModel)
    sequences = sequences_for(save)
    expected = embed(plain, sequences)
    np.testing.assert_allclose(embed(by_our_kernels(plain), sequences), expected, atol=2e-6, rtol=2e-5)


@needs_interpreter
def test_every_layer_can_be_read_out_though_sums_are_written_in_place(tmp_path: Path) -> None:
    for save in (save_esm2, save_bert):
        plain = load_model(str(save(tmp_path / save.__name__)), layers=(0, 1, -1))
        assert isinstance(plain, PackedModel)
        expected = embed(plain, LETTERS)
        np.testing.assert_allclose(embed(by_our_kernels(plain), LETTERS), expected, atol=2e-6, rtol=2e-5)


class TestOnADevice:
    pytestmark = on_a_device

    @pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
    @pytest.mark.parametrize("save", FAMILIES)
    def test_fused_kernels_are_as_close_to_the_processor_as_plain_ones(
        self, tmp_path: Path, save: Save, dtype: str
    ) -> None:
        path, sequences = str(save(tmp_path / "model")), sequences_for(save)
        exact = embed(load_model(path), sequences)
        off = {
            kernels: 1 - cosines(
                embed(load_model(path, device="cuda", dtype=dtype, kernels=kernels), sequences), exact
            ).min()
            for kernels in ("fused", "plain")
        }  # fmt: skip
        assert off["fused"] <= max(1.5 * off["plain"], 2e-6)

    def test_both_are_what_they_are_called(self, tmp_path: Path) -> None:
        path = str(save_esm2(tmp_path / "esm2"))
        for dtype, plain in (("float32", attend_runs), ("bfloat16", attend_varlen)):
            models = {
                kernels: load_model(path, device="cuda", dtype=dtype, kernels=kernels)
                for kernels in ("fused", "plain")
            }
            assert models["plain"].encoder.kernels.attention is plain  # type: ignore[attr-defined]
            assert models["fused"].encoder.kernels.attention is not plain  # type: ignore[attr-defined]

    @pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
    def test_the_rotation_is_to_the_bit_that_of_plain_torch(self, tmp_path: Path, dtype: str) -> None:
        path = str(save_esm2(tmp_path / "esm2"))
        model = load_model(path, device="cuda", dtype=dtype)
        kernels = model.encoder.kernels  # type: ignore[attr-defined]
        plain = load_model(path, device="cuda", dtype=dtype, kernels="plain").encoder.kernels  # type: ignore[attr-defined]
        heads, dim = model.encoder.num_heads, model.hidden_size  # type: ignore[attr-defined]
        kind = getattr(torch, dtype)
        qkv = torch.randn(999, 3, heads, dim // heads, device="cuda").to(kind)
        angles = torch.randn(999, 1, 1, dim // heads // 2, device="cuda") * 300
        cos, sin = angles.cos().to(kind), angles.sin().to(kind)
        expected = plain.rotate(qkv[:, :2], cos, sin)
        assert torch.equal(kernels.rotate(qkv[:, :2], cos, sin), expected)
