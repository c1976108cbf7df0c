"""How fast and how lean a large file of annotations is read, beside the transfer of the pictures.

    python benchmarks/labels.py --annotations 100000 --pictures 20000 --points 30

Writes a COCO file of polygons, and reads it in a process of its own: the records, their versions, and how
long one mask takes to be drawn.
"""

import argparse
import json
import random
import tempfile
from pathlib import Path

from measuring import measure

READ = """
import sys, time
from defectline.components.common.storage import Object, open_storage
from defectline.components.ingest.readers import choose
from defectline.components.ingest.readers.base import Listing
folder, pictures = sys.argv[1], int(sys.argv[2])
source = open_storage(folder)
objects = [*source.list(), *(Object(f"images/{number:06}.jpg", 1, "1") for number in range(pictures))]
start, processor = time.perf_counter(), time.process_time()
listing = Listing(source, objects)
reader, why = choose(listing)
records = reader.read(listing).records
versions = {record.mask.version for record in records}
read, spent = time.perf_counter() - start, time.process_time() - processor
assert len(records) == pictures and len(versions) == pictures, "every picture has annotations of its own"
print(spent, read)
"""


def write(path: Path, annotations: int, pictures: int, points: int) -> None:
    chosen = random.Random(0)
    images = [
        {"id": number, "file_name": f"{number:06}.jpg", "height": 512, "width": 640}
        for number in range(pictures)
    ]
    regions = [
        {
            "id": number,
            "image_id": number % pictures,
            "category_id": 1 + number % 5,
            "segmentation": [[round(chosen.uniform(0, 512), 2) for _ in range(2 * points)]],
            "bbox": [0, 0, 512, 512],
            "area": 1.0,
            "iscrowd": 0,
        }
        for number in range(annotations)
    ]
    categories = [{"id": number, "name": f"kind {number}"} for number in range(1, 6)]
    path.write_text(json.dumps({"images": images, "annotations": regions, "categories": categories}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--annotations", type=int, default=100_000)
    parser.add_argument("--pictures", type=int, default=20_000)
    parser.add_argument("--points", type=int, default=30, help="of each polygon")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "instances.json")
        write(path, options.annotations, options.pictures, options.points)
        done = measure(READ, folder, options.pictures)
        what = f"{options.annotations:,} annotations of {options.pictures:,} pictures"
        print(f"{what}, {path.stat().st_size / 1e6:.0f} MB")
        print(f"{done.seconds:.1f} s, {done.processor_s:.1f} s of a processor, peak {done.peak_mb:.0f} MB")


if __name__ == "__main__":
    main()
