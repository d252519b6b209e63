"""The metrics of a run: read line by line, cut at the step of a resume."""

import json
import tracemalloc

import pytest

from srgan_jax.training.run_log import METRICS, RunLog, read_metrics

LOSS = {"stage": "pretrain", "content": 0.25, "learning_rate": 1e-4}
SCORES = {"stage": "pretrain", "evaluation_psnr": 20.0}


def text(*lines):
    return "".join(json.dumps(line) + "\n" for line in lines)


def test_a_resume_cuts_later_damaged_and_incomplete_lines(tmp_path, capsys):
    path = tmp_path / METRICS
    kept = text({"step": 1} | LOSS, {"step": 2} | LOSS, {"step": 2} | SCORES)
    later = text({"step": 3} | LOSS, {"step": 3} | SCORES)
    path.write_text(f'{kept}{{"st\n[]\n{later}{{"step": 4')
    with RunLog(tmp_path, first_step=2, last_step=9, active=True) as log:
        assert log.has_scores(2)
        assert not log.has_scores(3)
        assert path.read_text() == kept
        log.scalars(3, "pretrain", {"content": 0.5})
    assert "removed 2 damaged lines" in capsys.readouterr().err
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2, 2, 3]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_long_log_is_never_in_memory_as_a_whole(tmp_path):
    path = tmp_path / METRICS
    with path.open("w") as file:
        file.writelines(text({"step": step} | LOSS) for step in range(1, 20_001))
    with RunLog(tmp_path, first_step=1, last_step=9, active=True):
        pass  # imports
    path.write_text(text(*({"step": step} | LOSS for step in range(1, 20_001))))
    tracemalloc.start()
    with RunLog(tmp_path, first_step=20_000, last_step=20_000, active=True):
        pass
    assert sum(1 for _ in read_metrics(tmp_path)) == 20_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < path.stat().st_size
