"""SweepTrial's own doings, without Ray."""

from pathlib import Path

from dynamos.config import TrainConfig
from tune.trainable import PUT_BACK, SweepTrial


def test_a_trial_whose_traceback_finds_no_room_is_put_back(tmp_path: Path) -> None:
    attempt = tmp_path / "attempt-1"
    attempt.mkdir()
    (attempt / "traceback.txt").symlink_to("/dev/full")
    trial = SweepTrial({"number": 0, "attempt": 1, "folder": str(tmp_path), "seeds": [42],
                        "train": TrainConfig().to_dict()})
    state, reason = trial._failure(MemoryError("much"))
    assert state == PUT_BACK and "No space left on device" in reason
    (attempt / "traceback.txt").unlink()
    state, reason = trial._failure(MemoryError("much"))
    assert state == "FAIL" and reason.startswith("out of memory: ") and (attempt / "traceback.txt").exists()
