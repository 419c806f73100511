"""A report on its way through Ray."""

import json

from tests.helpers.ledgers import result
from tune.engine.report import REPORT, Report


def test_a_report_arrives_as_it_was_sent() -> None:
    results = {
        seed: [result(task, 3, keep_per_task=[[0.5, 0.25]] * (task + 1)) for task in range(tasks)]
        for seed, tasks in ((42, 2), (43, 1))
    }
    for report in (
        Report(1, began=True, node="n"),
        Report(2, results, node="n"),
        Report(2, results, "PRUNED", "non-finite: logits", "n"),
    ):
        sent = report.encode()
        assert Report.decode(json.loads(json.dumps(sent))) == report
        assert sent.keys() == {REPORT, "done"} and sent["done"] == (report.state is not None)
