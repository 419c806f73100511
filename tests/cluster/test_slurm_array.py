"""A sweep as a SLURM job array of tasks that come and go, on a real SLURM of one node."""

from pathlib import Path

import pytest

from tests.helpers.crashes import LONG, Watched
from tests.helpers.processes import wait_for
from tests.helpers.slurm import needs_slurm, slurm
from tests.helpers.sweeps import command


@needs_slurm
@pytest.mark.slow
def test_tasks_leave_and_come_back_the_leader_too_and_no_trial_counts_it_as_a_loss(
    tmp_path: Path,
) -> None:
    seen = Watched(tmp_path / "runs", "elastic")
    with slurm() as there:
        said = there.say(
            *command("submit", "--slurm", "--workers=2", "--name=elastic", "--trials=99"),
            "--sbatch=--cpus-per-task=1 --time=60",
            "--retries=0",
            "--set",
            *LONG,
            cwd=tmp_path,
        )
        array = said.split()[1]
        assert said.startswith(f"job {array} drives elastic with up to 2 workers")
        meeting = tmp_path / "runs" / f".slurm-{array}"

        def log() -> str:
            return "".join(p.read_text() for p in sorted(tmp_path.glob("elastic-*.out")))

        def at_work() -> list[int]:
            return [t.number for t in seen.running(tasks=0) if seen.at_work(t.number, t.attempt)]

        wait_for(lambda: len(at_work()) == 2, 0.5)
        leader = str((meeting / "1-leader").readlink())
        (other,) = {f"{array}_0", f"{array}_1"} - {leader}
        token = (meeting / "1-token").read_text()

        there.say("scontrol", "requeue", other)  # a preemption sends the same signals
        there.until(other, "PENDING")
        assert "its trials move" in log() and "could not be told" not in log(), log()
        wait_for(lambda: len(at_work()) == 1, 0.5)

        there.say("scancel", "-b", "-s", "USR1", leader)  # as SLURM does before the time limit
        there.until(leader, "PENDING")
        assert "the time of this task is nearly over" in log() and not at_work(), log()
        assert not [*meeting.glob("*-token")]

        # at once, not after SLURM's two minutes
        there.say("scontrol", "update", f"JobId={other}", "StartTime=now")
        wait_for(lambda: len(at_work()) == 1, 0.5)
        assert str((meeting / "2-leader").readlink()) == other
        wait_for(lambda: any(t.state == "COMPLETE" for t in seen.trials()), 0.5)
        there.say(*command("stop", "elastic"), cwd=tmp_path)
        there.until_empty()  # the task that waits, too
        assert (meeting / "over").exists() and token not in log()
        assert not [*meeting.glob("*-token")]
        assert there.job(other)["JobState"] == "COMPLETED", log()
        assert there.job(leader)["JobState"] == "CANCELLED", log()
    trials = seen.trials()
    assert any(t.attempt > 1 for t in trials) and not any(t.losses for t in trials)
    assert {t.state for t in trials} == {"COMPLETE", "INTERRUPTED"}
    # a task that was saved last may not be in the ledger yet
    done = sum(t.tasks_done for t in trials)
    assert done <= seen.tasks_saved() <= done + 2, "no task was trained twice"
