"""What may be searched, and what people write."""

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from defectline.components.common.errors import SettingsError
from defectline.pipeline.parameters import parse
from defectline.pipeline.tuning.search import describe, make_space
from defectline.pipeline.tuning.space import FIELDS, SPACE, apply, rounded, values_in

DEFAULT = parse("source", "store", [])


def test_all_is_searched_but_what_somebody_chose():
    assert make_space([]) == SPACE
    found = make_space([], given={"decoder", "epochs"}, large_pictures=False)
    assert SPACE.keys() - found.keys() == {"decoder", "tile"}
    # The settings as they are take part in the search.
    for name, value in values_in(DEFAULT, SPACE).items():
        one = SPACE[name]
        assert value in one.choices if isinstance(one, CategoricalDistribution) else one._contains(value)


def test_ranges_and_choices_have_the_types_of_their_settings():
    texts = ["learning_rate=1e-4..1e-2", "decoder=light,pix2pix", "tile=true,false", "epochs=10..20"]
    texts += ["image_size=64..192", "zoom=0..0.5", "schedule", "weight_decay=1e-6..1e-3", "channels=1,3"]
    assert make_space(texts, given={"decoder"}) == {
        "learning_rate": FloatDistribution(1e-4, 1e-2, log=True),
        "decoder": CategoricalDistribution(("light", "pix2pix")),
        "tile": CategoricalDistribution((True, False)),
        "epochs": IntDistribution(10, 20),
        "image_size": IntDistribution(64, 192, step=32),
        "zoom": FloatDistribution(0.0, 0.5),
        "schedule": SPACE["schedule"],
        "weight_decay": FloatDistribution(1e-6, 1e-3, log=True),
        "channels": CategoricalDistribution((1, 3)),
    }
    # What is kept of a study is what people could write.
    assert make_space([f"{name}={told}" for name, told in describe(SPACE).items()]) == SPACE


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("learning_rte=1..2", "Did you mean learning_rate"),
        ("seed=1..5", "all trials have the same"),
        ("min_iou=0..1", "no setting min_iou"),
        ("epochs", "epochs=LOW"),
        ("zoom=0.5..0.1", "the lower one first"),
        ("zoom=0..7", "less than or equal to 1"),
        ("decoder=light,unet", "'pix2pix' or 'light'"),
        ("image_size=64..100", "multiple of 32"),
        ("tile=false..true", "two numbers"),
    ],
)
def test_what_cannot_be_searched_is_refused(text: str, says: str):
    with pytest.raises(SettingsError) as caught:
        make_space([text])
    assert says in str(caught.value)


def test_values_become_parameters_and_win_over_what_was_set():
    base = parse("source", "store", ["training=learning_rate=1e-3 patience=5", "epochs=7"])
    values = {"learning_rate": 0.004, "decoder": "light", "tile": True, "image_size": 192}
    made = apply(base, values)
    assert (made.tile, made.image_size, made.epochs) == (True, 192, 7)
    assert made.training == "decoder=light learning_rate=0.004 patience=5"
    assert values_in(made, {name: SPACE[name] for name in values}) == values
    assert apply(base, values_in(base, SPACE)) == base
    with pytest.raises(SettingsError, match="cross_fit"):
        apply(base, {"cross_fit": 1})


def test_numbers_are_short_and_stay_within_their_range():
    space = {"zoom": FloatDistribution(0.0, 0.123456), "epochs": IntDistribution(1, 9)}
    assert rounded({"zoom": 0.0712345, "epochs": 3}, space) == {"zoom": 0.07123, "epochs": 3}
    assert rounded({"zoom": 0.1234559, "epochs": 3}, space)["zoom"] <= 0.123456


def test_what_is_searched_by_default_can_be_named():
    assert SPACE.keys() <= FIELDS.keys()
