#!/usr/bin/env bash
# scipy 1.17.1, statsmodels 0.14.5. The power of a two-sided t-test is NaN for some large effects, and 1.0 for others.
#
# Guess: the power grows with the effect and is 1.0, to double precision, from some effect on. The lower tail of the
# noncentral t distribution, which it adds, falls to 0.
# Seen: with 4 degrees of freedom, nct.cdf at the critical value is right up to a shift of 8, where it is about 1e-19.
# Above that it is NaN for about a third of the shifts, between neighbours with a finite value. The upper tail, nct.sf,
# is right everywhere. statsmodels adds the two, so with 5 pairs TTestPower.power is 1.0 for an effect of 4 and of 5.5,
# NaN for some between them, and a search for an effect over a bracket that holds one fails.
# Leave the lower tail out, or take NaN in it as 0.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check scipy==1.17.1 statsmodels==0.14.5 numpy==2.4.6
cat > "$folder/seen.py" <<'PY'
import numpy as np
from scipy import stats
from statsmodels.stats.power import TTestPower

critical = stats.t.ppf(0.975, 4)
shifts = np.arange(0.5, 40.25, 0.25)
lower, upper = stats.nct.cdf(-critical, 4, shifts), stats.nct.sf(critical, 4, shifts)
missing = np.isnan(lower)
print("NaN up to a shift of 8:", missing[shifts <= 8].any(), "; above:", 20 < missing[shifts > 8].sum() < 100)
print("largest finite value above 8 is below 1e-16:", np.nanmax(lower[shifts > 8]) < 1e-16)
print("NaN in the upper tail:", np.isnan(upper).any(), "; it grows:", (np.diff(upper) >= 0).all())
effects = np.arange(4.0, 5.55, 0.05)
power = np.array([TTestPower().power(effect, 5, 0.05) for effect in effects])
print("statsmodels, effects from 4 to 5.5: NaN", np.isnan(power).any(), "; all others 1.0", np.allclose(power[~np.isnan(power)], 1))
PY
diff - <("$folder/venv/bin/python" -W ignore "$folder/seen.py") <<'SEEN'
NaN up to a shift of 8: False ; above: True
largest finite value above 8 is below 1e-16: True
NaN in the upper tail: False ; it grows: True
statsmodels, effects from 4 to 5.5: NaN True ; all others 1.0 True
SEEN
echo "as written"
