"""What is read from HLO: products of loops, of convolutions that stand for them, and exchanges."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from lora_jax import sharding
from lora_jax.planning.program import Collective, Program


def compile_text(function, *shapes):
    return jax.jit(function).lower(*shapes).compile().as_text()


def test_products_in_nested_loops_count_as_often_as_they_run():
    def run(x):
        def inner(x, _):
            return jnp.tanh(x @ x), None

        def outer(x, _):
            return jax.lax.scan(inner, x, length=5)[0], None

        return jax.lax.scan(outer, x, length=3)[0] @ x

    program = Program(compile_text(run, jax.ShapeDtypeStruct((64, 64), jnp.float32)))
    assert program.complete
    assert program.flops == (3 * 5 + 1) * 2 * 64**3
    assert program.collectives == {}


def test_batched_products_count():
    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((4, 8, 32), (4, 16, 32))]
    text = compile_text(lambda a, b: jnp.einsum("bij,bkj->bik", a, b), *shapes)
    assert Program(text).flops == 2 * 4 * 8 * 16 * 32


def test_exchanges_count_by_kind_and_bytes():
    mesh = sharding.make_mesh(1, 8, 1, jax.devices()[:8])
    rows = NamedSharding(mesh, PartitionSpec("fsdp"))
    whole = NamedSharding(mesh, PartitionSpec())
    shape = jax.ShapeDtypeStruct((16, 32), jnp.float32, sharding=rows)

    def run(x):
        def body(total, _):
            return total + jax.lax.with_sharding_constraint(x * total, whole).sum(), None

        return jax.lax.with_sharding_constraint(x + 1, whole), jax.lax.scan(body, 0.0, length=3)[0]

    collectives = Program(compile_text(run, shape)).collectives
    assert collectives["all-gather"].count >= 1
    assert collectives["all-gather"].size % (16 * 32 * 4) == 0


_TPU = """HloModule jit_step, is_scheduled=true

%fused (param_0: bf16[8,640,128], param_1: bf16[1024,8,128]) -> f32[8,640,1024] {
  %param_0 = bf16[8,640,128]{2,1,0:T(8,128)(2,1)} parameter(0)
  %param_1 = bf16[1024,8,128]{2,1,0:T(8,128)(2,1)} parameter(1)
  ROOT %convolution.1 = f32[8,640,1024]{1,2,0:T(8,128)} convolution(%param_0, %param_1), \
window={size=8 stride=7 lhs_dilate=8}, dim_labels=0bf_o0i->0bf
}

%cond (wide.param.1: (u32[], bf16[8,640,128])) -> pred[] {
  %constant.1 = u32[]{:T(128)} constant(12)
  %wide.param.1 = (u32[]{:T(128)}, bf16[8,640,128]{2,1,0:T(8,128)(2,1)}) parameter(0)
  %get-tuple-element.1 = u32[]{:T(128)} get-tuple-element(%wide.param.1), index=0
  ROOT %compare.1 = pred[]{:T(512)} compare(%get-tuple-element.1, %constant.1), direction=LT
}

%body (wide.param.2: (u32[], bf16[8,640,128])) -> (u32[], bf16[8,640,128]) {
  %wide.param.2 = (u32[]{:T(128)}, bf16[8,640,128]{2,1,0:T(8,128)(2,1)}) parameter(0)
  %get-tuple-element.2 = bf16[8,640,128]{2,1,0:T(8,128)(2,1)} get-tuple-element(%wide.param.2), \
index=1
  %all-gather.1 = bf16[1024,8,128]{2,1,0:T(8,128)(2,1)} all-gather(%get-tuple-element.2), \
channel_id=7, frontend_attributes={chain_id="3"}
  %all-gather.2 = bf16[1024,8,128]{2,1,0:T(8,128)(2,1)} all-gather(%get-tuple-element.2), \
channel_id=7, frontend_attributes={chain_id="3"}
  %permute-start.1 = (bf16[8,640,128]{2,1,0}, bf16[8,640,128]{2,1,0}, u32[]{:S(2)}) \
collective-permute-start(%get-tuple-element.2), channel_id=8
  %fusion.1 = f32[8,640,1024]{1,2,0:T(8,128)} fusion(%get-tuple-element.2, %all-gather.2), \
kind=kOutput, calls=%fused
  %get-tuple-element.4 = u32[]{:T(128)} get-tuple-element(%wide.param.2), index=0
  %constant.2 = u32[]{:T(128)} constant(1), metadata={op_name="while/body/add"}
  %add.1 = u32[]{:T(128)} add(%get-tuple-element.4, %constant.2)
  %copy.1 = u32[]{:T(128)} copy(%add.1)
  %add.2 = u32[]{:T(128)} add(%copy.1, %constant.2)
  ROOT %tuple.1 = (u32[]{:T(128)}, bf16[8,640,128]{2,1,0:T(8,128)(2,1)}) \
tuple(%add.2, %get-tuple-element.2)
}

ENTRY %main (param.1: bf16[8,640,128]) -> bf16[8,640,128] {
  %param.1 = bf16[8,640,128]{2,1,0:T(8,128)(2,1)} parameter(0)
  %while.1 = (u32[]{:T(128)}, bf16[8,640,128]{2,1,0:T(8,128)(2,1)}) while(%param.1), \
condition=%cond, body=%body
  ROOT %get-tuple-element.3 = bf16[8,640,128]{2,1,0:T(8,128)(2,1)} get-tuple-element(%while.1)
}
"""


def test_a_tpu_s_program_is_read():
    """There, batched products are dilated convolutions, loops are unrolled, exchanges in pieces."""
    program = Program(_TPU)
    assert program.complete
    assert program.flops == 6 * 2 * 8 * 640 * 1024 * 128
    assert program.collectives == {
        "all-gather": Collective(6, 6 * 1024 * 8 * 128 * 2),
        "collective-permute": Collective(6, 6 * (8 * 640 * 128 * 2 + 4)),
    }


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("%get-tuple-element.1, %constant.1)", "%get-tuple-element.1, %wide.param.1)"),
        ("add(%copy.1, %constant.2)", "multiply(%copy.1, %constant.2)"),
        ("kind=kOutput", 'target="tpu_custom_call"'),
    ],
)
def test_what_cannot_be_counted_is_admitted(old, new):
    assert old in _TPU
    assert not Program(_TPU.replace(old, new)).complete


def test_a_window_that_slides_meets_all_of_its_elements():
    def slide(x, k):
        return jax.lax.conv_general_dilated(x, k, (2,), [(1, 2)], rhs_dilation=(2,))

    shapes = (
        jax.ShapeDtypeStruct((1, 3, 11), jnp.float32),
        jax.ShapeDtypeStruct((5, 3, 4), jnp.float32),
    )
    outputs = (11 + 3 - 7) // 2 + 1
    padded = np.pad(np.ones(11), (1, 2))
    met = sum(padded[2 * at + 2 * place] for at in range(outputs) for place in range(4))
    text = compile_text(slide, *shapes)
    if " convolution(" in text:
        assert Program(text).flops == 2 * 3 * 5 * met
    else:
        pytest.skip("this compiler has other words for a convolution")
