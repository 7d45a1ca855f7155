"""What a user writes without raybench, and what `benchmarks.grid` and `benchmarks.trial_overhead` measure against.

- `training`: one trial with torchvision and DataLoader, which both of these use.
- `sequential`: a loop over models, strategies and seeds.
- `ray_function`: the same as a plain function trainable of Ray Tune.
- `ray_function_overhead`: such a function that does next to nothing, which is in `trivial_work`.

Written as a good user would: workers that stay, pinned to nothing that this machine lacks, the same model, batch,
epochs and optimizer as raybench's side. They import nothing of raybench.
"""
