"""Models how a training step scales with the number of chips. Nothing is measured.

    srgan-jax pod --config=configs/srgan.py --topology=v5e:2x2 --json > v5e.json
    srgan-jax pod --config=configs/srgan.py --topology=h100:8 --json > h100.json
    python benchmarks/scaling.py v5e.json --chips 4 8 16 32 64 128 256
    python benchmarks/scaling.py h100.json --chips 8 16 32 64

Each chip has the batch of the estimate, so the global batch grows with the number of
chips. A step takes max(compute + exchange, input):

- compute: the compiler's estimate, the same on every chip;
- exchange: the all-reduces of the gradients. On a TPU slice they take bytes / rate.
  Between GPUs they are a ring inside each host and a ring between hosts:
  2 (g - 1) / g bytes / link + 2 (h - 1) / h bytes / g / network for h hosts of g GPUs;
- input: the CPU time to make a host's crops, divided by its cores.

Each crop needs one file, so a host reads files at the rate "reads".

Prints a Markdown table for each stage.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

CROP_SECONDS = 1.5e-3  # CPU time to make a crop, see docs/performance.md
FILE_BYTES = 138e9 / 1_281_167  # the mean of ImageNet's training images


class Host(NamedTuple):
    """A host and its chips, as their makers document them.

    Attributes:
      chips: number of chips of a host.
      cores: number of its CPU's cores.
      link: bytes per second of a chip in an all-reduce with the chips it is linked to.
      network: bytes per second between hosts, for each chip; None if the links reach
        all hosts.
    """

    chips: int
    cores: int
    link: float
    network: float | None = None


HOSTS = {
    # ct5lp-hightpu-4t; 51.2 TB/s for an all-reduce over 256 chips
    "v5e": Host(chips=4, cores=112, link=51.2e12 / 256),
    # DGX H100: NVLink 900 GB/s in both directions together, ConnectX-7 400 Gbit/s
    "h100": Host(chips=8, cores=112, link=450e9, network=50e9),
}


class Step(NamedTuple):
    """A modelled step.

    Attributes:
      chips: number of chips.
      batch: global batch size.
      compute: seconds of computation.
      exchange: seconds of all-reduces.
      input: seconds in which the hosts make the crops.
      hosts: number of hosts.
    """

    chips: int
    batch: int
    compute: float
    exchange: float
    input: float
    hosts: int

    @property
    def seconds(self) -> float:
        return max(self.compute + self.exchange, self.input)

    @property
    def rate(self) -> float:
        """Images per second."""
        return self.batch / self.seconds

    @property
    def efficiency(self) -> float:
        """The share of the time in which chips compute."""
        return self.compute / self.seconds

    @property
    def reads(self) -> float:
        """Bytes of files per second and host."""
        return self.rate / self.hosts * FILE_BYTES


def model(record: dict[str, Any], chips: int) -> Step:
    """Models a step from an estimate of `srgan-jax pod --json`.

    Raises:
      ValueError: the estimate is for chips that are not in HOSTS, or the step does not
        fit into their memory.
    """
    kind = record["topology"].partition(":")[0]
    if kind not in HOSTS:
        raise ValueError(f"{kind} is unknown; expected {' or '.join(HOSTS)}")
    if "collective_bytes" not in record:
        raise ValueError(
            f"{record['stage']} does not fit into the memory of {kind}; estimate it "
            "with a smaller --batch-per-chip"
        )
    host = HOSTS[kind]
    per_host = min(chips, host.chips)
    hosts = -(-chips // host.chips)
    size = record["collective_bytes"]
    if chips == 1:
        exchange = 0.0
    elif host.network is None:
        exchange = size / host.link
    else:
        exchange = 2 * (per_host - 1) / per_host * size / host.link
        exchange += 2 * (hosts - 1) / hosts * size / per_host / host.network
    compute = record.get("seconds") or 1e-6 * record["modelled_us"]
    crops = per_host * record["batch_per_chip"]
    batch = chips * record["batch_per_chip"]
    making = crops * CROP_SECONDS / host.cores
    return Step(chips, batch, compute, exchange, making, hosts)


def table(record: dict[str, Any], counts: Sequence[int]) -> list[str]:
    """The lines of a Markdown table with a row for each number of chips."""
    lines = [
        "| chips | batch | compute | exchange | input | step | images/s | efficiency "
        "| reads per host |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for step in (model(record, chips) for chips in counts):
        times = (step.compute, step.exchange, step.input, step.seconds)
        columns = [f"{1e3 * seconds:.2f} ms" for seconds in times]
        reads = f"{step.reads / 1e9:.1f} GB/s"
        lines.append(
            f"| {step.chips} | {step.batch:,} | {' | '.join(columns)} "
            f"| {step.rate:,.0f} | {step.efficiency:.0%} | {reads} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("estimate", type=Path, help="output of srgan-jax pod --json")
    parser.add_argument("--chips", type=int, nargs="+", required=True)
    arguments = parser.parse_args()
    for record in json.loads(arguments.estimate.read_text()):
        dtype, stage = record["dtype"], record["stage"]
        print(f"{stage} on {record['topology'].partition(':')[0]}, {dtype}:\n")
        try:
            print(*table(record, arguments.chips), "", sep="\n")
        except ValueError as error:
            parser.error(str(error))


if __name__ == "__main__":
    main()
