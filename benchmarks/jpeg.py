"""Scores generators on LR that was saved as JPEG, as on phones and on the web.

    python benchmarks/jpeg.py FOLDER NAME_OR_FILE [NAME_OR_FILE ...] [--json]

FOLDER holds HR photographs, such as Kodak's 24. LR is MATLAB's bicubic, which Pillow
saves as JPEG with 4:2:0 chroma at each of QUALITIES, or not at all. For each generator
this prints the means of PSNR (protocol `standard`) and LPIPS (alex) over the
photographs.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

import srgan_jax
from srgan_jax.data import degrade, pairs
from srgan_jax.evaluation import lpips, metrics

QUALITIES = {"JPEG 50": 50, "JPEG 70": 70, "JPEG 90": 90, "no JPEG": None}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("generators", nargs="+", metavar="NAME_OR_FILE")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    distance = lpips.load("alex")
    records = []
    for name in arguments.generators:
        upscaler = srgan_jax.load(name)
        scores: dict[str, list] = {case: [] for case in QUALITIES}
        for files in pairs.find_pairs(arguments.folder):
            pair = pairs.read_pair(files, scale=upscaler.scale)
            for case, quality in QUALITIES.items():
                lr = pair.lr if quality is None else degrade.jpeg(pair.lr, quality)
                sr = upscaler(lr)
                psnr = metrics.psnr(
                    sr, pair.hr, protocol="standard", scale=upscaler.scale
                )
                scores[case].append((psnr, distance(sr, pair.hr)))
        means = {key: np.mean(of, axis=0).tolist() for key, of in scores.items()}
        records.append({"weights": name, "psnr_lpips": means})
    if arguments.json:
        print(json.dumps(records, indent=2))
        return
    table = Table("weights", *QUALITIES, title="PSNR / LPIPS")
    for record in records:
        cells = (f"{p:.2f} / {d:.4f}" for p, d in record["psnr_lpips"].values())
        table.add_row(record["weights"], *cells)
    Console().print(table)


if __name__ == "__main__":
    main()
