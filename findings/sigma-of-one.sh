#!/usr/bin/env bash
# ConfigSpace 1.2.2. On a log scale sigma = 1 gives almost no spread, and sigma = 0.5 gives the same as sigma = 2.
#
# Guess: Float("lr", (1e-5, 1), distribution=Normal(0.01, 1), log=True) scatters around 0.01 with a standard deviation
# of 1 in the logarithm (natural or decimal), or of 1 in the value, cut at the ends. A larger sigma scatters more.
# Seen: the middle two thirds of its values are from 0.0100 to 0.0100. The deviation of the natural logarithm is the
# absolute value of log(sigma + lower), so sigma is a factor: 0.5 and 2 are both a factor of two, 4 is a factor of four,
# and 1 is a factor of one. It also depends on the lower end of the range: with (1, 1000), sigma = 1 is a factor of two.
# A prior with sigma 1 fixes a learning rate.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check ConfigSpace==1.2.2 numpy==2.4.6
cat > "$folder/seen.py" <<'PY'
import numpy as np
from ConfigSpace import ConfigurationSpace, Float, Normal


def spread(bounds, middle, sigma):
    space = ConfigurationSpace(seed=0)
    space.add(Float("x", bounds, default=middle, distribution=Normal(middle, sigma), log=True))
    values = [configuration["x"] for configuration in space.sample_configuration(4000)]
    low, high = np.quantile(values, (0.159, 0.841))
    return f"sigma {sigma}: {low / middle:.1f} to {high / middle:.1f} times the middle"


for bounds, middle, sigmas in (((1e-5, 1), 0.01, (0.25, 0.5, 1, 2, 4)), ((1, 1000), 30, (1, 3))):
    print(f"{bounds} around {middle}: " + "; ".join(spread(bounds, middle, sigma) for sigma in sigmas))
PY
diff - <("$folder/venv/bin/python" "$folder/seen.py" 2> /dev/null) <<'SEEN'
(1e-05, 1) around 0.01: sigma 0.25: 0.2 to 4.1 times the middle; sigma 0.5: 0.5 to 2.0 times the middle; sigma 1: 1.0 to 1.0 times the middle; sigma 2: 0.5 to 2.0 times the middle; sigma 4: 0.2 to 4.1 times the middle
(1, 1000) around 30: sigma 1: 0.5 to 2.0 times the middle; sigma 3: 0.3 to 4.0 times the middle
SEEN
echo "as written"
