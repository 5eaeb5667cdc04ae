"""Recipes, the command line, and workdirs."""

from lora_jax.workdir import open_workdir
from tests.jobs.bad_input.cases import case, good_config


@case("config.lora.targets", "'upp'", "up_proj")
def target_is_unknown(site):
    site.fields["lora.targets"] = "upp"


@case("config.lora.targets", "'re:.*experts.*'", "model.layers.0")
def target_pattern_matches_nothing(site):
    site.fields["lora.targets"] = "re:.*experts.*"


@case("config.lora.targets", "'up:4'", "rank 2", "rank 4")
def targets_disagree_on_a_rank(site):
    site.fields["lora.targets"] = "mlp,up:4"


@case("config.lora.layers", "'1-2'", "layers 0 to 1")
def layers_are_out_of_range(site):
    site.fields["lora.layers"] = "1-2"


@case("config.lora.rank is 0")
def rank_is_zero(site):
    site.fields["lora.rank"] = 0


@case("config.train.learning_rate is -0.1")
def learning_rate_is_negative(site):
    site.fields["train.learning_rate"] = -0.1


@case("config.train.learning_rat", "did you mean config.train.learning_rate?")
def field_is_unknown(site):
    site.fields["train.learning_rat"] = 0.1


@case("config.data.epochs is '1.5'", "whole number")
def value_is_of_another_type(site):
    site.fields["data.epochs"] = 1.5


@case("--job", "'trian'", "align")
def job_is_unknown(site):
    site.extra = ("--job=trian",)


@case("'smok'", "did you mean smoke?")
def mode_is_unknown(site):
    site.recipe += ":smok"


@case("configs/r1_upprojs.py", "did you mean configs/r1_upproj.py?")
def recipe_is_missing(site):
    site.recipe = "--config=configs/r1_upprojs.py"


@case("recipe.py", "SyntaxError")
def recipe_is_no_python(site):
    (site.root / "recipe.py").write_text("def get_config(:")
    site.recipe = f"--config={site.root / 'recipe.py'}"


@case("config.mesh", "tensor=3", "1 devices")
def mesh_does_not_fit(site):
    site.fields["mesh.tensor"] = 3


@case("config.data.batch_parts=3", "config.data.batch_size=2")
def parts_do_not_divide_the_batch(site):
    site.fields["data.batch_parts"] = 3


@case("do not fill one batch of 64")
def batch_is_larger_than_the_data(site):
    site.fields["data.batch_size"] = 64


@case("config.lora.rank: 4 before, 2 now", "config.lora.alpha: 8.0 before, 16.0 now", "--workdir")
def workdir_is_another_run_s(site):
    config = good_config(site)
    config.lora.rank, config.lora.alpha = 4, 8.0
    with open_workdir(site.workdir, config):
        (site.workdir / "metrics.jsonl").write_text("{}\n")


@case("runs/run", "not a run's", "--workdir")
def workdir_holds_something_else(site):
    site.workdir.mkdir(parents=True)
    (site.workdir / "thesis.tex").write_text("")


@case("model", "not a run's", "--workdir")
def workdir_is_the_model(site):
    site.extra = (f"--workdir={site.model}",)


@case("runs/run", "--workdir")
def workdir_is_a_file(site):
    site.workdir.parent.mkdir()
    site.workdir.write_text("")


@case("no checkpoint", "config.lora.adapter")
def nothing_is_trained_yet(site):
    site.extra = ("--job=merge",)


@case("full fine-tuning", "--job=export")
def full_fine_tuning_is_merged(site):
    site.fields["train.mode"] = "full"
    site.extra = ("--job=merge",)


@case("there is no run in", "--config")
def workdir_to_export_is_not_there(site):
    site.recipe = "--job=export"
    site.fields = {}
