"""Train one configuration and print its accuracy after each task.

python examples/train.py
"""

from dynamos import TrainConfig, Trainer

config = TrainConfig(dataset="seq-digits", n_tasks=3, evaluate_on="validation", average_decay=0.95)
trainer = Trainer(config)
for result in trainer:
    print(
        f"task {result.task + 1} of {result.n_tasks}: class-il {result.class_il:.1f} %, "
        f"channels kept {result.keep_fraction:.2f}"
    )
