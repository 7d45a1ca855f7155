"""Augmentation is random for each image and call, a function of the generator alone, and stays in 0..1."""

import pytest
import torch

from raybench.errors import ExperimentError
from raybench.strategies import POLICIES
from raybench.training.augment import augment, to_float

RANDOM_POLICIES = [policy for policy in POLICIES if policy != "none"]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(images: int = 64, side: int = 16) -> torch.Tensor:
    return torch.randint(0, 256, (images, side, side, 3), dtype=torch.uint8, generator=generator(99))


def same_image(images: int = 64) -> torch.Tensor:
    return noise(1).expand(images, -1, -1, -1).contiguous()


def left_half_white(images: int, side: int = 32) -> torch.Tensor:
    batch = torch.zeros(images, side, side, 3, dtype=torch.uint8)
    batch[:, :, : side // 2] = 255
    return batch


def test_to_float_moves_channels_first_and_scales_to_one() -> None:
    batch = noise(4)
    expected = batch.permute(0, 3, 1, 2).double() / 255
    assert torch.allclose(to_float(batch).double(), expected, atol=1e-7)
    assert to_float(batch).is_contiguous()


def test_none_changes_nothing_and_draws_nothing() -> None:
    source = generator()
    before = source.get_state()
    assert torch.equal(augment(noise(), "none", source), to_float(noise()))
    assert torch.equal(source.get_state(), before)


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_gives_contiguous_floats_of_the_models_layout_in_range(policy: str) -> None:
    result = augment(noise(), policy, generator())
    assert result.shape == (64, 3, 16, 16)
    assert result.dtype == torch.float32
    assert result.is_contiguous()
    assert result.min() >= 0
    assert result.max() <= 1


@pytest.mark.parametrize("policy", RANDOM_POLICIES)
def test_the_same_generator_state_gives_the_same_batch(policy: str) -> None:
    assert torch.equal(augment(noise(), policy, generator(5)), augment(noise(), policy, generator(5)))


@pytest.mark.parametrize("policy", RANDOM_POLICIES)
def test_a_second_call_draws_anew(policy: str) -> None:
    source = generator()
    assert not torch.equal(augment(noise(), policy, source), augment(noise(), policy, source))


@pytest.mark.parametrize(("policy", "distinct"), [("flip", 2), ("default", 64), ("no-flip", 64), ("randaugment", 30)])
def test_copies_of_one_image_in_a_batch_are_changed_differently(policy: str, distinct: int) -> None:
    result = augment(same_image(), policy, generator())
    assert len(torch.unique(result, dim=0)) >= distinct


@pytest.mark.parametrize("policy", RANDOM_POLICIES)
def test_the_global_random_state_stays_as_it_was(policy: str) -> None:
    before = torch.get_rng_state()
    augment(noise(), policy, generator())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("policy", ["trivialaugment", "randaugment"])
def test_the_global_random_state_has_no_influence(policy: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        first = augment(noise(), policy, generator())
        torch.manual_seed(2)
        second = augment(noise(), policy, generator())
    assert torch.equal(first, second)


def test_flip_mirrors_about_half_of_the_images_and_nothing_else() -> None:
    batch = same_image(400)
    plain = to_float(batch)
    result = augment(batch, "flip", generator())
    mirrored = (result == plain.flip(-1)).flatten(1).all(1)
    assert ((result == plain).flatten(1).all(1) | mirrored).all()
    # Binomial(400, 1/2): mean 200, standard deviation 10.
    assert 150 < mirrored.sum() < 250


def sides_swapped(policy: str) -> int:
    # White marks the left: after mirroring it is on the right, however cropped, turned or coloured.
    result = augment(left_half_white(200), policy, generator()).mean(1)
    half = result.shape[-1] // 2
    return int((result[:, :, :half].mean((1, 2)) < result[:, :, half:].mean((1, 2))).sum())


def test_default_mirrors_about_half_of_the_images() -> None:
    assert 65 < sides_swapped("default") < 135


def test_no_flip_never_mirrors() -> None:
    assert sides_swapped("no-flip") == 0


def test_no_flip_keeps_the_middle_of_the_image_in_view() -> None:
    batch = torch.zeros(200, 33, 33, 3, dtype=torch.uint8)
    batch[:, 14:19, 14:19] = 255
    assert (augment(batch, "no-flip", generator()).flatten(1).amax(1) > 0.5).all()


def test_grey_images_stay_grey() -> None:
    grey = noise()[..., :1].expand(-1, -1, -1, 3).contiguous()
    result = augment(grey, "default", generator())
    assert torch.allclose(result[:, 0], result[:, 1], atol=1e-5)
    assert torch.allclose(result[:, 0], result[:, 2], atol=1e-5)


def test_an_unknown_policy_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ExperimentError, match="'mixup' is unknown; give one of none, default"):
        augment(noise(), "mixup", generator())
