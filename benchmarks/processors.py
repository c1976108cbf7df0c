"""How far the answers of a bundle's networks differ on processors with other instructions.

    python benchmarks/processors.py --model store/models/defects/v… samples/OK samples/NG

oneDNN, which computes for OpenVINO, is told to do without newer instructions of this processor, each time in
a process of its own. Answers are compared with those that this processor gives with all of them, at the
bundle's threshold and area; deploy accepts scores within 0.01 and masks with an IoU of 0.99.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from defectline.components.common.bundle import NETWORKS, mask_iou, read_bundle
from defectline.components.common.images.masks import decode_mask, encode_mask
from defectline.components.common.inference.inspection import answer
from defectline.components.common.inference.network import Network

INSTRUCTIONS = ("AVX2", "AVX2_VNNI", "AVX512_CORE", "AVX512_CORE_VNNI")


def judge(model: Path, network: str, pictures: list[Path]) -> list[tuple[str, float, str]]:
    """Verdict, score and mask (PNG in hex) of each picture."""
    bundle = read_bundle(model)
    loaded = Network(model / NETWORKS[network], bundle.imaging)
    answers = (
        answer(loaded.score_map(path.read_bytes()), bundle.threshold, bundle.min_area_px) for path in pictures
    )
    return [(given.verdict, given.score, encode_mask(given.mask).hex()) for given in answers]


def judge_with(instructions: str, arguments: list[str], network: str) -> list[tuple[str, float, str]]:
    done = subprocess.run(
        [sys.executable, __file__, *arguments, "--judge", network],
        env={**os.environ, "DNNL_MAX_CPU_ISA": instructions},
        stdout=subprocess.PIPE,
        check=True,
    )
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="folder of a bundle")
    parser.add_argument("--judge", choices=NETWORKS, help="print this network's answers as JSON, and end")
    parser.add_argument("folders", type=Path, nargs="+", help="with pictures")
    options = parser.parse_args()

    pictures = [path for folder in options.folders for path in sorted(folder.iterdir())]
    if options.judge:
        print(json.dumps(judge(options.model, options.judge, pictures)))
        return
    print(
        f"{len(pictures)} pictures; verdicts that differ, largest difference of a score, least IoU of masks"
    )
    for network in NETWORKS:
        usual = judge_with("DEFAULT", sys.argv[1:], network)
        for instructions in INSTRUCTIONS:
            pairs = list(zip(usual, judge_with(instructions, sys.argv[1:], network), strict=True))
            verdicts = sum(a[0] != b[0] for a, b in pairs)
            score = max(abs(a[1] - b[1]) for a, b in pairs)
            masks = ([decode_mask(bytes.fromhex(each[2])) == 1 for each in pair] for pair in pairs)
            iou = min(mask_iou(*both) for both in masks)
            print(f"{network:14} {instructions:18} {verdicts:4} {score:7.3f} {iou:7.3f}", flush=True)


if __name__ == "__main__":
    main()
