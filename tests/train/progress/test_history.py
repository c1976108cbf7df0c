"""The picture of a training run."""

import io

from PIL import Image

from defectline.components.train.progress.history import advise, best_epoch, history_page, plot_history

HISTORY = [
    {"epoch": n, "loss": 1 / n, "val_loss": 2 / n, "iou": n / 10, "val_iou": iou}
    for n, iou in enumerate((0.1, 0.5, 0.3, 0.5), 1)
]


def test_of_equally_good_epochs_the_first_is_kept():
    assert best_epoch(HISTORY)["epoch"] == 2
    assert best_epoch(HISTORY[:1])["epoch"] == 1


def test_the_plot_is_a_png_and_the_page_holds_it(tmp_path):
    plot_history(HISTORY, tmp_path / "history.png")
    png = (tmp_path / "history.png").read_bytes()
    with Image.open(io.BytesIO(png)) as plot:
        assert plot.format == "PNG"
        assert plot.width > plot.height
    page = history_page(png)
    assert page.startswith("<!doctype html>")
    assert "http" not in page
    assert "data:image/png;base64," in page


def test_of_several_classes_the_plot_says_that_it_is_their_mean(tmp_path):
    for classes in (1, 3):
        plot_history(HISTORY, tmp_path / f"{classes}.png", classes)
    assert (tmp_path / "1.png").read_bytes() != (tmp_path / "3.png").read_bytes()


def test_where_no_mask_tells_the_iou_the_lowest_loss_is_kept(tmp_path):
    losses = [{"epoch": n, "loss": 1.0, "val_loss": loss} for n, loss in enumerate((0.9, 0.3, 0.3, 0.5), 1)]
    assert best_epoch(losses)["epoch"] == 2
    plot_history(losses, tmp_path / "history.png")
    assert (tmp_path / "history.png").stat().st_size


def test_a_network_that_never_found_anything_did_not_begin_to_learn():
    nothing = [{"epoch": n, "val_loss": 1.7, "val_iou": 0.004} for n in (1, 2, 3)]
    advice = advise(nothing)
    assert "did not begin to learn" in advice
    assert "each of 3 epochs" in advice
    for way in ("epochs", "batch_size", "pretraining=always", "init_from", "encoder_weights"):
        assert way in advice
    assert "pretraining=always" not in advise(nothing, pretrained=True)
    assert "pretraining_steps" in advise(nothing, synthetic=True)
    assert "batch_size" not in advise(nothing, synthetic=True)
    assert advise([*nothing, {"epoch": 4, "val_loss": 1.6, "val_iou": 0.02}]) == ""
    # Without masks there is no IoU to tell by.
    assert advise([{"epoch": 1, "val_loss": 1.7}]) == ""
