"""What names of files and folders say."""

import pytest

from defectline.components.ingest.labels.names import Near, Place, means_bad, means_good, place, stem


@pytest.mark.parametrize(
    ("name", "common"),
    [
        ("00007_NG_Image.bmp", "00007_NG"),
        ("00007_NG_Mask.png", "00007_NG"),
        ("part-msk.png", "part"),
        ("part img.jpeg", "part"),
        ("part.7.png", "part.7"),
        ("part.7.mask.png", "part.7"),
        ("image.png", "image"),
        ("part 7/Image.png", "part 7"),
        ("00007Mask.png", "00007"),
        ("damask.png", "damask"),
        ("h_noimg.png", "h_noimg"),
        ("line 2/a_IMAGE.PNG", "line 2/a"),
        ("no suffix", "no suffix"),
        ("Pru\u0308fling.png", "Pr\u00fcfling"),
    ],
)
def test_stem(name: str, common: str):
    assert stem(name) == common


@pytest.mark.parametrize(
    ("folders", "found"),
    [
        ("", Place((), False)),
        ("MT_Free/Imgs", Place(("MT_Free",), False)),
        ("crack/masks", Place(("crack",), True)),
        ("train_images/a", Place(("train", "a"), False)),
        ("Train_Masks/a", Place(("Train", "a"), True)),
        ("ann", Place((), True)),
        ("ground_truth/crack", Place(("crack",), True)),
        ("images/train", Place(("train",), False)),
        ("ok_MSK", Place(("ok",), True)),
        ("label_front", Place(("label_front",), False)),
        ("damask", Place(("damask",), False)),
        ("imagination", Place(("imagination",), False)),
    ],
)
def test_place(folders: str, found: Place):
    assert place(tuple(filter(None, folders.split("/")))) == found


@pytest.mark.parametrize(
    "name",
    [
        *("ok", "OK", "good", "Good", "MT_Free", "free", "normal", "no_defect", "No-Defects", "nodefect"),
        *("defect_free", "defect-free", "defectfree", "non_defective", "clean", "00_good", "perfect"),
    ],
)
def test_folders_of_good_pictures(name: str):
    assert means_good(name)
    assert not means_bad(name)


@pytest.mark.parametrize(
    "name",
    ["ng", "NOK", "not_ok", "not good", "no_good", "bad", "defect", "Defective", "anomaly", "abnormal"],
)
def test_folders_of_defects_of_no_class(name: str):
    assert means_bad(name)
    assert not means_good(name)


@pytest.mark.parametrize("name", ["crack", "MT_Blowhole", "goods", "broken", "book", "2024-01-03", "line1"])
def test_other_folders_say_neither(name: str):
    assert not means_good(name)
    assert not means_bad(name)


@pytest.mark.parametrize(
    ("picture", "masks", "near"),
    [
        ("a", ["a_msk1"], "a_msk1"),
        ("Part_7", ["part-7"], "part-7"),
        ("007", ["7"], "7"),
        ("a", ["A_Mask_2"], "A_Mask_2"),
        ("009", ["009_mask_v2", "010_mask_v2"], "009_mask_v2"),
        ("plate 9", ["Plate_9-GT-final"], "Plate_9-GT-final"),
        ("plate 8", ["Plate_9-GT-final"], ""),
        ("scratch_12", ["scrtch_12"], "scrtch_12"),
        ("scratch_12", ["scratsh_12"], "scratsh_12"),
        ("crack_12", ["cracks_12"], "cracks_12"),
        ("012", ["013"], ""),
        ("a_12", ["a_13"], ""),
        ("12", ["123"], ""),
        ("1_2", ["12"], ""),
        ("exp1_num_5", ["exp2_num_5"], ""),
        ("dent", ["crack"], ""),
        ("part", [], ""),
        ("a", ["b"], ""),
        ("scratch", ["scratsh", "scrattch"], ""),
    ],
)
def test_a_name_that_nearly_fits(picture: str, masks: list[str], near: str):
    assert Near([*masks, "something_else_99"]).find(picture) == near
