import cv2
import numpy as np
import pytest

from trackerlib.data import load_dataset
from trackerlib.data.folder import load_clip


def frame(shade):
    return np.full((48, 64, 3), shade, np.uint8)


@pytest.fixture
def images(tmp_path):
    for i, shade in ((10, 200), (9, 100)):
        cv2.imwrite(str(tmp_path / f"{i}.png"), frame(shade))
    return tmp_path


def test_a_folder_of_images_with_a_first_box(images):
    dataset = load_dataset("folder", images, box=(1, 2, 10, 12.5))
    (clip,) = dataset.values()
    assert (dataset.name, clip.name, len(clip)) == ("folder", images.name, 2)
    assert [clip.frames[t].max() for t in (0, 1)] == [100, 200]
    np.testing.assert_array_equal(clip.boxes, [[1, 2, 10, 12.5], [np.nan] * 4])
    assert clip.absent.tolist() == [False, True]


def test_a_video_file(tmp_path):
    path = tmp_path / "my clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, (64, 48))
    for shade in (50, 100, 150):
        writer.write(frame(shade))
    writer.release()
    clip = load_clip(path, (0, 0, 64, 48))
    assert (clip.name, len(clip)) == ("my clip", 3)
    assert clip.frames[2].mean() == pytest.approx(150, abs=2)
    assert clip.frames[0].mean() == pytest.approx(50, abs=2)


def test_odd_files_are_passed_over_and_a_torn_first_image_is_named(images):
    for odd in ("Thumbs.db", "._9.png", "notes.txt"):
        (images / odd).write_bytes(b"\0")
    cv2.imwrite(str(images / "8.JPG"), frame(50))
    assert [path.name for path in load_clip(images).frames.paths] == ["8.JPG", "9.png", "10.png"]
    (images / "8.JPG").write_bytes((images / "8.JPG").read_bytes()[:200])
    with pytest.raises(ValueError, match=r"8\.JPG: truncated image"):
        load_clip(images, (1, 2, 3, 4))


def test_without_a_box_there_is_nothing_to_start_from(images):
    assert load_clip(images).absent.all()


@pytest.mark.parametrize("box", [(1, 2, 3), (1, 2, 0, 5), (np.nan, 2, 3, 4), (64, 0, 5, 5), (-9, 0, 9, 9)])
def test_a_bad_box_is_refused(images, box):
    with pytest.raises(ValueError, match="the first box"):
        load_clip(images, box)


def test_bad_paths_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone: no such folder or video"):
        load_clip(tmp_path / "gone")
    with pytest.raises(ValueError, match=r"no \.jpg"):
        load_clip(tmp_path)
    (tmp_path / "notes.mp4").write_text("no video")
    with pytest.raises(ValueError, match=r"notes\.mp4: OpenCV can read no frame"):
        load_clip(tmp_path / "notes.mp4")
