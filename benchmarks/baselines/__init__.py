"""What a user writes without raybench, and what `benchmarks.grid` measures against.

- `training`: one trial with torchvision and DataLoader, which both of these use.
- `sequential`: a loop over models, strategies and seeds.
- `ray_function`: the same as a plain function trainable of Ray Tune.

Written as a good user would: workers that stay, pinned to nothing that this machine lacks, the same model, batch,
epochs and optimizer as raybench's side. They import nothing of raybench.
"""
