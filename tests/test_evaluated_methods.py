"""Which methods an evaluation compares, and with which options."""

import jax
import jax.numpy as jnp
import pytest
from small import tiny_network

import dmbp_jax
from dmbp_jax._checks import InputError
from dmbp_jax._methods import METHODS, VARIANTS
from dmbp_jax.evaluation._methods import GROUPS, TABLE2, choose_methods, known_methods

NETWORK = {"architecture": "squeezenet1_1", "output": "softmax"}


def choose(*names, preset="paper", **options):
    return {one.name: one for one in choose_methods(names, preset=preset, **NETWORK, **options)}


def test_groups_stand_for_known_methods_and_all_for_every_one():
    known = known_methods()
    assert all(name in known for names in GROUPS.values() for name in names)
    assert sorted(choose("all")) == sorted(known) == sorted([*METHODS, *VARIANTS])
    assert list(choose("all"))[-3:] == ["dmbp_positive", "dmbp_posneg", "dmbp"]
    assert [len(GROUPS[f"table{number}"]) for number in (1, 2, 3)] == [4, 12, 3]


def test_a_method_that_is_named_twice_competes_once():
    assert list(choose("grad_cam", "table3", "grad_cam")) == [
        "grad_cam",
        "guided_backprop",
        "guided_grad_cam",
        "dmbp",
    ]


def test_the_ablations_differ_in_the_objective_alone():
    chosen = {name: one.describe() for name, one in choose("table1").items()}
    assert chosen["gradient_x_input"] == {"method": "gradient_x_input", "options": {}}
    objective = {"dmbp": "all", "dmbp_posneg": "posneg", "dmbp_positive": "positive"}
    for name, expected in objective.items():
        assert chosen[name]["method"] == "dmbp"
        assert chosen[name]["options"].pop("objective") == expected
    assert chosen["dmbp"]["options"] == chosen["dmbp_posneg"]["options"] == chosen["dmbp_positive"]["options"]
    assert chosen["dmbp"]["options"]["steps"] == 200


def test_steps_and_preset_reach_every_dmbp():
    for name in ("dmbp", "dmbp_posneg"):
        assert choose("table1", steps=3)[name].describe()["options"]["steps"] == 3
    fast = choose("table1", preset="fast")
    assert fast["dmbp"].describe()["options"]["strength"] == 1.5
    # The ablations are of the paper's optimisation, here a short one.
    for name in ("dmbp_posneg", "dmbp_positive"):
        described = fast[name].describe()["options"]
        assert described["steps"] * described["learning_rate"] == 1.0
    with pytest.raises(InputError, match="preset fast takes no steps: leave steps out, or take preset paper"):
        choose("dmbp", preset="fast", steps=3)


def test_gradient_methods_are_times_input_as_in_the_paper():
    chosen = choose("table2", "deconvnet")
    times_input = [name for name, one in chosen.items() if one.options.get("multiply_by_inputs")]
    assert sorted(times_input) == ["deconvnet", "guided_backprop", "smoothgrad"]


def test_unknown_and_no_methods_are_named():
    with pytest.raises(InputError, match="unknown method 'grad_cma': did you mean 'grad_cam'"):
        choose("grad_cma")
    with pytest.raises(InputError, match="no method given; name one or more of table1"):
        choose()


@pytest.mark.parametrize("name", VARIANTS)
def test_what_is_no_method_of_explain_also_explains(name):
    apply, params, images = tiny_network()
    one = choose(name, steps=2)[name]
    a = dmbp_jax.explain(
        apply, params, images, jnp.asarray([1, 2, 3]), one.function, key=jax.random.key(0), **one.options
    )
    assert a.heatmap.shape == images.shape[:3]
    assert a.finite.all()


def test_random_maps_are_independent_of_each_other():
    apply, params, images = tiny_network()
    maps = dmbp_jax.explain(
        apply,
        params,
        images,
        jnp.asarray([1, 2, 3]),
        choose("random")["random"].function,
        key=jax.random.key(0),
    ).heatmap
    assert abs(jnp.corrcoef(maps.reshape(3, -1))[0, 1]) < 0.5
    with pytest.raises(InputError, match=r"give key=jax\.random\.key"):
        dmbp_jax.explain(apply, params, images, jnp.asarray([1, 2, 3]), choose("random")["random"].function)


def test_table_2_is_the_published_one(shared):
    import tomllib

    published = tomllib.loads((shared / "reference" / "paper_tables.toml").read_text())
    assert list(TABLE2) == published["table2"]["columns"]
