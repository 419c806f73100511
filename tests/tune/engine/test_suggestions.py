"""First suggestions of a sweep that is not started."""

from pathlib import Path

from results.ledger.ledger import Ledger
from tests.helpers.ledgers import SEED, config, driven, result
from tune.engine.suggestions import first_suggestions


def test_they_have_the_numbers_that_the_trials_would_have(tmp_path: Path) -> None:
    record = {"data_hash": "d", "validation_hash": "v"}
    with driven(Ledger.create(tmp_path, config("earlier"), record)) as ledger:
        for _ in range(2):
            trial = ledger.ask()
            ledger.add_result(trial.number, 1, SEED, result(val_class_il=80.0))
            ledger.finish(trial.number, "COMPLETE")
    tried = first_suggestions(tmp_path, config(warm_start="earlier", trials=3), record)
    assert [t["number"] for t in tried.suggestions] == [2, 3, 4], "0 and 1 are imported"
    assert (tried.trials, {t["source"] for t in tried.suggestions}) == (3, {"sampler"})
