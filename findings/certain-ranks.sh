#!/usr/bin/env bash
# scipy 1.17.1, numpy 2.4.6. Rank tests of a few values give p-values that are too small for so few values.
#
# Guess: spearmanr and mannwhitneyu are exact for a handful of values, as kendalltau and wilcoxon are. Three values in
# the same order have p = 1/3, two groups of three that do not overlap p = 0.1, with ties inside a group or without.
# Seen: spearmanr uses Student's t for any size. For three values in order, p is 0.00, although one order in three is
# as extreme. mannwhitneyu is exact without ties. With one tie it changes to the normal approximation, without a
# warning: three seeds at 1 against three at 2 have p = 0.047, which no exact test of three against three can reach.
# method="exact" and permutation_test give 0.1. So rounding accuracies before the test can make a difference
# "significant".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check scipy==1.17.1 numpy==2.4.6
cat > "$folder/seen.py" <<'PY'
import numpy as np
from scipy import stats

for count in (3, 4):
    order = np.arange(count)
    print(f"{count} values in one order: spearmanr {stats.spearmanr(order, order).pvalue:.2f}, "
          f"kendalltau {stats.kendalltau(order, order).pvalue:.2f}")
for low, high in (([1.01, 1.02, 1.03], [2.01, 2.02, 2.03]), ([1, 1, 1], [2, 2, 2])):
    permuted = stats.permutation_test((low, high), lambda a, b: np.mean(a) - np.mean(b)).pvalue
    print(f"{low} and {high}: mannwhitneyu {stats.mannwhitneyu(low, high).pvalue:.3f}, "
          f"exact {stats.mannwhitneyu(low, high, method='exact').pvalue:.3f}, permuted {permuted:.3f}")
for differences in ([1, 2, 3, 4, 5], [1, 1, 1, 1, 1]):
    print(f"differences {differences}: wilcoxon {stats.wilcoxon(differences).pvalue:.4f}")
PY
diff - <("$folder/venv/bin/python" "$folder/seen.py" 2> /dev/null) <<'SEEN'
3 values in one order: spearmanr 0.00, kendalltau 0.33
4 values in one order: spearmanr 0.00, kendalltau 0.08
[1.01, 1.02, 1.03] and [2.01, 2.02, 2.03]: mannwhitneyu 0.100, exact 0.100, permuted 0.100
[1, 1, 1] and [2, 2, 2]: mannwhitneyu 0.047, exact 0.100, permuted 0.100
differences [1, 2, 3, 4, 5]: wilcoxon 0.0625
differences [1, 1, 1, 1, 1]: wilcoxon 0.0625
SEEN
echo "as written"
