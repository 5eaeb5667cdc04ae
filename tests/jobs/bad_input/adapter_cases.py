"""Adapters from elsewhere, exported by us."""

import pathlib

import numpy as np

from lora_jax.lora.adapter import AdapterSpec
from lora_jax.lora.export import export_adapter
from lora_jax.lora.masks import select
from lora_jax.models import decoder
from lora_jax.models.config import read_config
from tests.jobs.bad_input.cases import case, edit_json, edit_tensors

MODULE = "base_model.model.model.layers.1.mlp.up_proj"


def use_adapter(site) -> pathlib.Path:
    """Give the run a good adapter of rank 2 on both up projections, to be exported again."""
    declarations = decoder.declare(read_config(site.model))
    spec = AdapterSpec.from_ranks(select(declarations, ["up"], [0, 1], 2), alpha=4.0)
    factors = {
        "mlp.up_proj": {
            name: np.ones(leaf.shape, np.float32)
            for name, leaf in spec.declare(declarations)["mlp.up_proj"].items()
        }
    }
    directory = site.root / "adapter"
    export_adapter(directory, spec, declarations, factors, "model")
    site.fields["lora.adapter"] = directory
    site.extra = ("--job=export",)
    return directory


def edit_config(site, **fields) -> None:
    edit_json(use_adapter(site) / "adapter_config.json", **fields)


def edit_factors(site, edit) -> None:
    edit_tensors(use_adapter(site) / "adapter_model.safetensors", edit)


@case("elsewhere", "adapter")
def adapter_is_not_there(site):
    use_adapter(site)
    site.fields["lora.adapter"] = site.root / "elsewhere"


@case("adapter_config.json")
def adapter_config_is_missing(site):
    (use_adapter(site) / "adapter_config.json").unlink()


@case("adapter_config.json")
def adapter_config_is_broken(site):
    (use_adapter(site) / "adapter_config.json").write_text("{")


@case("adapter_model.safetensors")
def adapter_weights_are_missing(site):
    (use_adapter(site) / "adapter_model.safetensors").unlink()


@case("adapter_model.bin", "pickle")
def adapter_is_pickled(site):
    directory = use_adapter(site)
    (directory / "adapter_model.safetensors").rename(directory / "adapter_model.bin")


@case("adapter_model.safetensors", "read")
def adapter_weights_are_truncated(site):
    path = use_adapter(site) / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-8])


@case("adapter_config.json", "use_dora")
def adapter_is_dora(site):
    edit_config(site, use_dora=True)


@case("adapter_config.json", "bias")
def adapter_has_biases(site):
    edit_config(site, bias="lora_only")


@case("adapter_config.json", "modules_to_save")
def adapter_saves_modules(site):
    edit_config(site, modules_to_save=["lm_head"])


@case("adapter_config.json", "peft_type", "IA3")
def adapter_is_of_another_kind(site):
    edit_config(site, peft_type="IA3")


@case("adapter_config.json", "init_lora_weights", "pissa")
def adapter_changed_its_base(site):
    edit_config(site, init_lora_weights="pissa")


@case("adapter_config.json", "magic")
def adapter_has_an_unknown_field(site):
    edit_config(site, use_magic=True)


@case("adapter_config.json", "embed_tokens")
def adapter_targets_the_embedding(site):
    edit_config(
        site,
        target_modules=["up_proj", "embed_tokens"],
        layers_to_transform=None,
        layers_pattern=None,
    )


@case("adapter_config.json", "(")
def adapter_pattern_is_broken(site):
    edit_config(site, target_modules="(", layers_to_transform=None, layers_pattern=None)


@case("adapter_model.safetensors", "layers.0.mlp.up_proj.lora_A.weight", "(2, 16)", "(8, 16)")
def adapter_rank_is_another(site):
    edit_config(site, r=8)


@case("adapter_model.safetensors", f"{MODULE}.lora_B.weight")
def adapter_factor_is_missing(site):
    edit_factors(site, lambda tensors: tensors.pop(f"{MODULE}.lora_B.weight"))


@case("adapter_model.safetensors", f"{MODULE}.lora_A.weight", "finite")
def adapter_is_not_finite(site):
    edit_factors(site, lambda tensors: tensors[f"{MODULE}.lora_A.weight"].put(3, np.inf))


@case("adapter_model.safetensors", "base_model.model.")
def adapter_prefix_is_another(site):
    def rename(tensors):
        tensors[MODULE.removeprefix("base_model.model.") + ".lora_A.weight"] = tensors.pop(
            f"{MODULE}.lora_A.weight"
        )

    edit_factors(site, rename)


@case("adapter_model.safetensors", "layers.7")
def adapter_is_of_a_deeper_model(site):
    name = f"{MODULE}.lora_A.weight"
    deeper = name.replace("layers.1", "layers.7")
    edit_factors(site, lambda tensors: tensors.update({deeper: tensors[name]}))


@case("rank_pattern")
def adapter_rank_pattern_is_a_list(site):
    edit_config(site, rank_pattern=["up_proj"])
