#!/usr/bin/env bash
# torchmetrics 1.9.0, scikit-learn 1.9.1. The macro accuracy of a task depends on which wrong classes are predicted.
#
# Guess: a network with ten outputs is tested on a task of two classes and recognises 3 of 5 images of each. Macro
# accuracy is the mean of the two recalls, 0.6, whatever is predicted for the other images.
# Seen: torchmetrics divides by the number of classes that are in the labels or in the predictions. If the two classes
# are confused with each other, the accuracy is 0.6. If the four errors are in one other class, it is 0.4. If they are
# in four other classes, it is 0.2. recall_score of scikit-learn with average="macro" does the same, with a warning. Its
# balanced_accuracy_score divides by the number of classes in the labels and gives 0.6 each time.
# MulticlassAccuracy is macro by default, Accuracy(task="multiclass") is not. Class-incremental accuracies of single
# tasks come out too low, because their errors are in the classes of other tasks.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torchmetrics==1.9.0 scikit-learn==1.9.1 torch==2.13.0 numpy==2.4.6
cat > "$folder/seen.py" <<'PY'
import torch
from sklearn.metrics import balanced_accuracy_score, recall_score
from torchmetrics import Accuracy
from torchmetrics.classification import MulticlassAccuracy

labels = torch.tensor([0] * 5 + [1] * 5)
for wrong in ([1, 1, 0, 0], [2, 2, 2, 2], [2, 3, 4, 5]):
    predictions = labels.clone()
    predictions[[3, 4, 8, 9]] = torch.tensor(wrong)
    print(f"errors {wrong}: MulticlassAccuracy {MulticlassAccuracy(num_classes=10)(predictions, labels):.1f}, "
          f"Accuracy {Accuracy(task='multiclass', num_classes=10)(predictions, labels):.1f}, "
          f"recall_score {recall_score(labels, predictions, average='macro'):.1f}, "
          f"balanced_accuracy_score {balanced_accuracy_score(labels, predictions):.1f}")
PY
diff - <("$folder/venv/bin/python" "$folder/seen.py" 2> /dev/null) <<'SEEN'
errors [1, 1, 0, 0]: MulticlassAccuracy 0.6, Accuracy 0.6, recall_score 0.6, balanced_accuracy_score 0.6
errors [2, 2, 2, 2]: MulticlassAccuracy 0.4, Accuracy 0.6, recall_score 0.4, balanced_accuracy_score 0.6
errors [2, 3, 4, 5]: MulticlassAccuracy 0.2, Accuracy 0.6, recall_score 0.2, balanced_accuracy_score 0.6
SEEN
echo "as written"
