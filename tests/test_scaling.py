"""The model of a step on many chips, compared with its formula by hand."""

import pytest

from benchmarks import scaling

TPU = {
    "topology": "v5e:2x2",
    "stage": "adversarial",
    "dtype": "float32",
    "batch_per_chip": 16,
    "seconds": 8e-3,
    "collective_bytes": 100_000_000,
}
GPU = TPU | {"topology": "h100:8", "seconds": None, "modelled_us": 4000.0}


def test_a_tpu_slice_exchanges_at_one_rate_whatever_its_size():
    for chips in (4, 256):
        step = scaling.model(TPU, chips)
        assert step.exchange == pytest.approx(1e8 / 0.2e12)
        assert step.input == pytest.approx(4 * 16 * 1.5e-3 / 112)
        assert step.seconds == pytest.approx(8.5e-3)
        assert step.rate == pytest.approx(chips * 16 / 8.5e-3)
        assert step.efficiency == pytest.approx(8 / 8.5)
        assert step.reads == pytest.approx(4 * 16 / 8.5e-3 * 138e9 / 1_281_167)


def test_gpus_exchange_in_a_ring_in_each_host_and_one_between_hosts():
    inside = 2 * 7 / 8 * 1e8 / 450e9
    assert scaling.model(GPU, 8).exchange == pytest.approx(inside)
    between = 2 * 3 / 4 * (1e8 / 8) / 50e9
    step = scaling.model(GPU, 32)
    assert step.exchange == pytest.approx(inside + between)
    assert step.compute == pytest.approx(4e-3)


def test_a_single_chip_exchanges_nothing():
    assert scaling.model(GPU, 1).exchange == 0
    assert scaling.model(TPU, 1).exchange == 0


def test_a_step_waits_for_its_input():
    step = scaling.model(TPU | {"seconds": 1e-4}, 4)
    assert step.seconds == step.input > step.compute + step.exchange


def test_a_table_has_a_row_for_each_number_of_chips():
    lines = scaling.table(TPU, [4, 16])
    assert lines[2] == (
        "| 4 | 64 | 8.00 ms | 0.50 ms | 0.86 ms | 8.50 ms | 7,529 | 94% | 0.8 GB/s |"
    )
    assert len(lines) == 4


def test_unknown_chips_are_refused():
    with pytest.raises(ValueError, match="v9 is unknown; expected v5e or h100"):
        scaling.model(TPU | {"topology": "v9:2x2"}, 4)


def test_a_step_that_does_not_fit_is_refused():
    record = {name: TPU[name] for name in TPU if name != "collective_bytes"}
    with pytest.raises(ValueError, match=r"adversarial does not fit into .* of v5e"):
        scaling.model(record, 4)
