"""Augmentation is random for each image and call, a function of the generator alone, and the same on every device."""

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from sklearn.datasets import load_sample_image

from raybench.errors import ExperimentError
from raybench.strategies import POLICIES
from raybench.training.augment import apply_by_opencv, apply_by_torch, augment, crops
from raybench.training.draws import Draws, affine_maps, base_size, colour_maps, draw

RANDOM_POLICIES = [policy for policy in POLICIES if policy != "none"]
CROPPING = ["default", "no-flip"]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(images: int = 64, side: int = 16) -> torch.Tensor:
    return torch.randint(0, 256, (images, side, side, 3), dtype=torch.uint8, generator=generator(99))


def photographs(images: int, side: int) -> torch.Tensor:
    photograph = cv2.resize(load_sample_image("flower.jpg")[:, :427], (side, side), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(photograph).expand(images, -1, -1, -1).contiguous()


def same_image(images: int = 64) -> torch.Tensor:
    return noise(1).expand(images, -1, -1, -1).contiguous()


def left_half_white(images: int, side: int = 32) -> torch.Tensor:
    batch = torch.zeros(images, side, side, 3, dtype=torch.uint8)
    batch[:, :, : side // 2] = 255
    return batch


def column(value: float) -> npt.NDArray[np.float64]:
    return np.array([value])


def draws(  # noqa: PLR0917 - numbers of one image, most of which leave it as it is
    area: float = 1.0,
    right: float = 0.0,
    down: float = 0.0,
    angle: float = 0.0,
    brightness: float = 1.0,
    contrast: float = 1.0,
    saturation: float = 1.0,
    blur: float = 0.0,
    *,
    mirrored: bool = False,
) -> Draws:
    return Draws(
        affine=affine_maps(
            area=column(area),
            aspect=column(1.0),
            right=column(right),
            down=column(down),
            angle=column(angle),
            mirrored=np.array([mirrored]),
        ),
        **colour_maps(brightness=column(brightness), contrast=column(contrast), saturation=column(saturation)),
        blur=column(blur),
    )


def both_ways(batch: torch.Tensor, drawn: Draws, image_size: int) -> list[np.ndarray]:
    return [apply_by_opencv(batch.numpy(), drawn, image_size), apply_by_torch(batch, drawn, image_size).numpy()]


def test_none_changes_nothing_and_draws_nothing() -> None:
    source = generator()
    before = source.get_state()
    assert torch.equal(augment(noise(), "none", source), noise())
    assert torch.equal(source.get_state(), before)


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_gives_images_of_the_same_kind(policy: str) -> None:
    result = augment(noise(), policy, generator())
    assert result.shape == (64, 16, 16, 3)
    assert result.dtype == torch.uint8
    assert result.is_contiguous()


@pytest.mark.parametrize("policy", CROPPING)
def test_cropping_policies_read_from_larger_images(policy: str) -> None:
    assert crops(policy)
    assert augment(noise(side=18), policy, generator(), image_size=16).shape == (64, 16, 16, 3)


def test_other_policies_do_not_crop() -> None:
    assert not any(crops(policy) for policy in POLICIES if policy not in CROPPING)


def test_the_images_that_crops_are_read_from_are_an_eighth_more_than_the_model_takes() -> None:
    assert [base_size(side) for side in (16, 64, 224)] == [18, 73, 256]


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


@pytest.mark.parametrize("policy", ["flip", *CROPPING])
@pytest.mark.parametrize("cut", [1, 7, 33])
def test_an_image_is_changed_in_the_same_way_however_the_epoch_is_cut_into_batches(policy: str, cut: int) -> None:
    source = generator(3)
    parts = [augment(part, policy, source) for part in (noise(40)[:cut], noise(40)[cut:])]
    assert torch.equal(torch.cat(parts), augment(noise(40), policy, generator(3)))


def test_flip_mirrors_about_half_of_the_images_and_nothing_else() -> None:
    batch = same_image(400)
    result = augment(batch, "flip", generator())
    mirrored = (result == batch.flip(2)).flatten(1).all(1)
    assert ((result == batch).flatten(1).all(1) | mirrored).all()
    # Binomial(400, 1/2): mean 200, standard deviation 10.
    assert 150 < mirrored.sum() < 250


def sides_swapped(policy: str) -> int:
    # White marks the left: after mirroring it is on the right, however cropped, turned or coloured.
    result = augment(left_half_white(200), policy, generator()).float().mean(3)
    half = result.shape[-1] // 2
    return int((result[:, :, :half].mean((1, 2)) < result[:, :, half:].mean((1, 2))).sum())


def test_default_mirrors_about_half_of_the_images() -> None:
    assert 65 < sides_swapped("default") < 135


def test_no_flip_never_mirrors() -> None:
    assert sides_swapped("no-flip") == 0


def test_no_flip_keeps_the_middle_of_the_image_in_view() -> None:
    batch = torch.zeros(200, 33, 33, 3, dtype=torch.uint8)
    batch[:, 14:19, 14:19] = 255
    assert (augment(batch, "no-flip", generator()).flatten(1).amax(1) > 127).all()


def test_grey_images_stay_grey() -> None:
    grey = noise()[..., :1].expand(-1, -1, -1, 3).contiguous()
    result = augment(grey, "default", generator()).int()
    assert (result[..., 0] - result[..., 1]).abs().max() <= 1
    assert (result[..., 0] - result[..., 2]).abs().max() <= 1


def test_about_one_image_in_five_is_blurred() -> None:
    blurred = int(np.count_nonzero(draw(2000, generator(), mirror=True).blur))
    # Binomial(2000, 1/5): mean 400, standard deviation 18.
    assert 310 < blurred < 490


def test_an_unknown_policy_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ExperimentError, match="'mixup' is unknown; give one of none, default"):
        augment(noise(), "mixup", generator())


@pytest.mark.parametrize("side", [16, 64, 224])
def test_opencv_and_torch_agree_up_to_rounding(side: int) -> None:
    batch = photographs(48, base_size(side))
    by_opencv, by_torch = both_ways(batch, draw(48, generator(), mirror=True), side)
    difference = np.abs(by_opencv.astype(int) - by_torch)
    assert difference.max() <= 3  # of 255: OpenCV rounds after each step, torch once
    assert difference.mean() < 0.5


def test_the_precision_of_the_model_does_not_reach_the_images() -> None:
    batch, drawn = photographs(8, 18), draw(8, generator(), mirror=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = apply_by_torch(batch, drawn, 16)
    assert torch.equal(result, apply_by_torch(batch, drawn, 16))


@pytest.mark.parametrize("way", [0, 1])
class TestOneImage:
    """What single draws do, by OpenCV and by torch."""

    def test_the_whole_image_unchanged_is_the_image(self, way: int) -> None:
        assert np.array_equal(both_ways(noise(1), draws(), 16)[way], noise(1).numpy())

    def test_a_crop_of_the_models_own_size_is_the_centre_crop(self, way: int) -> None:
        base = noise(1, side=18)
        result = both_ways(base, draws(area=(16 / 18) ** 2), 16)[way]
        assert np.array_equal(result, base[:, 1:17, 1:17].numpy())

    def test_a_crop_may_lie_at_an_edge(self, way: int) -> None:
        base = noise(1, side=18)
        result = both_ways(base, draws(area=(16 / 18) ** 2, right=1.0, down=-1.0), 16)[way]
        assert np.array_equal(result, base[:, :16, 2:].numpy())

    def test_mirroring_is_from_left_to_right(self, way: int) -> None:
        assert np.array_equal(both_ways(noise(1), draws(mirrored=True), 16)[way], noise(1).flip(2).numpy())

    def test_a_quarter_turn_is_a_quarter_turn(self, way: int) -> None:
        result = both_ways(noise(1), draws(angle=np.pi / 2), 16)[way]
        assert np.abs(result.astype(int) - torch.rot90(noise(1), 1, (1, 2)).numpy()).max() <= 1

    def test_without_saturation_everything_is_grey(self, way: int) -> None:
        result = both_ways(noise(1), draws(saturation=0.0), 16)[way].astype(int)
        expected = noise(1).double() @ torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)
        assert np.abs(result - expected.numpy()[..., np.newaxis]).max() <= 1

    def test_without_contrast_everything_is_the_mean_grey(self, way: int) -> None:
        result = both_ways(noise(1), draws(contrast=0.0, saturation=0.0), 16)[way].astype(int)
        expected = (noise(1).double() @ torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)).mean().item()
        assert np.abs(result - expected).max() <= 1

    def test_brightness_multiplies_and_stays_in_range(self, way: int) -> None:
        result = both_ways(noise(1), draws(brightness=1.3), 16)[way].astype(int)
        assert np.abs(result - (noise(1).double() * 1.3).clamp(0, 255).numpy()).max() <= 1

    def test_blur_takes_detail_and_keeps_the_mean(self, way: int) -> None:
        batch = noise(1, side=64)
        result = both_ways(batch, draws(blur=2 / 224), 64)[way]
        assert result.std() < 0.95 * batch.numpy().std()
        assert abs(result.mean() - batch.numpy().mean()) < 1
