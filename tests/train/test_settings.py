import pytest

from o3bnn.errors import InputError
from o3bnn.train.settings import TrainSettings

WRONG = {
    "epochs": [0, 1.5, True, 100_001],
    "batch": [0, "8"],
    "optimizer": ["sgd"],
    "lr": [0, -1.0, float("nan"), float("inf"), True],
    "weight_decay": [-0.1],
    "warmup": [-1],
    "clip": [0.0],
    "label_smoothing": [1.1, -0.1],
    "lambda_pool": [-1e-9],
    "lambda_threshold": [float("nan")],
    "ramp_start": [-1],
    "ramp": [-1],
    "through_weights": [1.1, -1],
    "norm_rate": [0],
    "distill": [1.5],
    "temperature": [0],
    "shift": [-1, 1 << 11],
    "seed": [-1, 1 << 63],
    "precision": ["float16"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_wrong_values_are_named(name, value):
    with pytest.raises(InputError, match=rf"^{name} = "):
        TrainSettings(**{name: value})


def test_rate_rises_over_the_warm_up_and_falls_to_zero():
    settings = TrainSettings(epochs=10, warmup=2)
    assert [settings.rate(epoch) for epoch in (0, 1, 2)] == [0, 0.5, 1]
    assert settings.rate(6) == pytest.approx(0.5)
    assert settings.rate(10) == pytest.approx(0, abs=1e-12)
    falling = [settings.rate(2 + step / 10) for step in range(81)]
    assert falling == sorted(falling, reverse=True)
    assert TrainSettings(epochs=1, warmup=5).rate(1) == 0.2  # shorter than its warm-up
    assert TrainSettings(epochs=3, warmup=0).rate(0) == 1


def test_pruning_weight_ramps():
    settings = TrainSettings(ramp_start=2, ramp=4)
    assert [settings.pruning_weight(epoch) for epoch in (0, 1.9, 2, 3, 6, 40)] == [0, 0, 0, 0.25, 1, 1]
    assert TrainSettings().pruning_weight(0) == 1


def test_difference_names_the_first_field():
    settings = TrainSettings(lr=0.1, seed=2)
    assert settings.difference(settings.to_json()) is None
    assert settings.difference(TrainSettings(lr=0.2, seed=3).to_json()) == "lr is 0.1, but was 0.2"
    older = {key: value for key, value in settings.to_json().items() if key != "norm_rate"}
    assert settings.difference(older) is None
    assert TrainSettings(lr=0.1, seed=2, norm_rate=3).difference(older) == "norm_rate is 3, but was 1.0"
