"""Packed crops: shards cut by any process, whole or absent, read back as they were cut."""

import functools
import json
import os
import pickle
import signal
import subprocess
import sys
import textwrap

import cv2
import numpy as np
import pytest
from test_imagenet_vid_data import make, thing, xml
from test_training import moving_square

from trackerlib import cluster
from trackerlib.data import parts_of
from trackerlib.data.crops import PARTS, CropStore, cut, cut_crops
from trackerlib.data.samplers import PairSampler
from trackerlib.data.sequence import Dataset, ImageFiles, Sequence


def squares(count, frames=4):
    return Dataset("toy", [moving_square(f"s{i:02d}", frames, i) for i in range(count)])


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


def test_a_crop_is_read_as_it_was_cut(tmp_path):
    data = squares(PARTS + 2)
    store = cut_crops(data, tmp_path)
    assert sorted(path.name for path in tmp_path.glob("*.bin")) == ["00000.bin", "00001.bin"]
    assert len(store) == len(store.crops) == 4 * (PARTS + 2) == store.manifest["crops"]
    for row in (0, 5, 4 * PARTS + 3):  # of the second shard, too
        name, frame = store.index.loc[row, ["sequence", "frame"]]
        np.testing.assert_array_equal(store.crops[row], cut(data[name].frames[frame], data[name].boxes[frame]))


def test_jpeg_takes_a_tenth_and_looks_alike(tmp_path):
    from trackerlib.data import load_dataset

    data = load_dataset("rendered", frames=4)[:2]
    raw, small = cut_crops(data, tmp_path / "raw"), cut_crops(data, tmp_path / "jpeg", quality=90)
    assert small.manifest["bytes"] < 0.2 * raw.manifest["bytes"]
    assert np.abs(small.crops[3].astype(int) - raw.crops[3]).mean() < 6
    assert raw.digest() != small.digest()
    assert PairSampler([small])[3]["x"].shape == (239, 239, 3)


def test_several_processes_cut_the_same_bytes(tmp_path):
    """And a worker lost on the way costs nothing."""
    data = squares(5 * PARTS)
    cut_crops(data, tmp_path / "alone")
    with cluster.connect(workers=2) as client:
        killed = []

        def shards(found):
            for record in found:
                if not killed:
                    killed.append(min(client.run(os.getpid).values()))
                    os.kill(killed[0], signal.SIGKILL)
                yield record

        cut_crops(data, tmp_path / "shared", label=shards, work=functools.partial(cluster.spread, client))
    assert killed
    assert content(tmp_path / "alone") == content(tmp_path / "shared")


SCRIPT = """
    import os, sys
    sys.path[:0] = {path!r}
    from test_crops import cut_crops, squares
    from trackerlib.data import crops
    left = [int(sys.argv[2])]
    def killed(found, take=crops.Shard.cut):
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), 9)
        return take(found)
    def told(shard, *arguments, take=crops.Shard._crops):
        print(shard.number, flush=True)
        return take(shard, *arguments)
    crops.Shard.cut, crops.Shard._crops = killed, told
    cut_crops(squares(5 * crops.PARTS), sys.argv[1])
"""


def test_kill_9_and_again(tmp_path):
    code = textwrap.dedent(SCRIPT).format(path=[os.path.dirname(__file__)])
    run = lambda at: subprocess.run([sys.executable, "-c", code, str(tmp_path / "killed"), str(at)], timeout=100)  # noqa: E731
    assert run(3).returncode == -signal.SIGKILL
    with pytest.raises(FileNotFoundError, match=r"no finished store of crops; run `data prepare` again"):
        len(CropStore(tmp_path / "killed"))
    before = (tmp_path / "killed/00001.bin").stat().st_mtime_ns
    assert run(0).returncode == 0
    assert (tmp_path / "killed/00001.bin").stat().st_mtime_ns == before  # not cut again
    cut_crops(squares(5 * PARTS), tmp_path / "calm")
    assert content(tmp_path / "killed") == content(tmp_path / "calm")


@pytest.mark.parametrize("file", ["00000.bin", "00000.csv", "00000.json"])
def test_what_is_damaged_is_named_and_cut_again(tmp_path, file):
    cut_crops(squares(2), tmp_path)
    whole = content(tmp_path)
    data = bytearray(whole[file])
    data[0 if file.endswith("json") else len(data) // 2] ^= 1
    (tmp_path / file).write_bytes(data)
    with pytest.warns(UserWarning, match=r"00000.bin: damaged \(.*\); cut again"):
        cut_crops(squares(2), tmp_path)
    assert content(tmp_path) == whole


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("00000.bin", "not the 1560600 bytes that were written; run `data prepare` again"),
        ("index.csv", "damaged; run `data prepare` again"),
        ("manifest.json", "damaged; run `data prepare` again"),
    ],
)
def test_a_store_that_is_cut_short_is_not_read(tmp_path, file, message):
    store = cut_crops(squares(2), tmp_path)
    (tmp_path / file).write_bytes((tmp_path / file).read_bytes()[:-10])
    with pytest.raises(ValueError, match=message):
        len(CropStore(store.folder))


def test_a_smaller_dataset_leaves_nothing_of_a_larger_one(tmp_path):
    cut_crops(squares(PARTS + 1), tmp_path / "a")
    cut_crops(squares(3), tmp_path / "a")
    cut_crops(squares(3), tmp_path / "b")
    assert content(tmp_path / "a") == content(tmp_path / "b")


def images(folder, count=5):
    folder.mkdir()
    paths = []
    for t in range(count):
        paths.append(folder / f"{t:04d}.png")
        cv2.imwrite(str(paths[-1]), np.full((60, 80, 3), 40 * t, np.uint8))
    return Sequence("clip", ImageFiles(tuple(paths)), np.tile([20.0, 20, 20, 20], (count, 1)))


def test_a_frame_that_cannot_be_decoded_is_left_out_and_named(tmp_path):
    clip = images(tmp_path / "clip")
    clip.frames.paths[2].write_bytes(clip.frames.paths[2].read_bytes()[:40])
    with pytest.warns(UserWarning, match=r"1 frames left out: .*0002.png"):
        store = cut_crops(Dataset("d", [clip]), tmp_path / "crops")
    assert store.index["frame"].tolist() == [0, 1, 3, 4]
    assert "0002.png" in store.manifest["shards"][0]["undecodable"][0]


def test_a_dataset_that_changes_while_it_is_cut_gives_nothing(tmp_path):
    clip = images(tmp_path / "clip")

    def late():
        """Read twice: before, and after a frame was exchanged."""
        if list((tmp_path / "crops").glob(".*.part")):
            clip.frames.paths[0].write_bytes(b"another")
        return [clip]

    with pytest.raises(ValueError, match="the dataset changed while it was cut; run again"):
        cut_crops([late], tmp_path / "crops")
    assert content(tmp_path / "crops") == {}


def test_two_at_once_cut_each_shard_once(tmp_path):
    """The second waits, and finds everything there."""
    code = textwrap.dedent(SCRIPT).format(path=[os.path.dirname(__file__)])
    start = functools.partial(subprocess.Popen, stdout=subprocess.PIPE, text=True)
    both = [start([sys.executable, "-c", code, str(tmp_path), "0"]) for _ in range(2)]
    cut_by = [process.communicate(timeout=100)[0].split() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(" ".join(map(" ".join, cut_by)).split()) == ["0", "1", "2", "3", "4"]
    assert json.loads((tmp_path / "manifest.json").read_text())["crops"] == 4 * 5 * PARTS
    assert not list(tmp_path.glob(".*.part"))


def test_imagenet_vid_is_read_a_snippet_at_a_time_and_packed(tmp_path):
    root = tmp_path / "vid"
    for number, files in enumerate([[xml(thing(0)), xml(thing(0), thing(1))], [xml()], [xml(thing(7))] * 3]):
        make(root, *files, snippet=f"ILSVRC2015_train_0000000{number}")
    parts = parts_of("imagenet-vid-train", root)
    assert [len(part()) for part in parts] == [2, 0, 1]
    store = cut_crops(parts, tmp_path / "crops")
    of = store.index.groupby("sequence").size()
    assert of.to_dict() == {f"ILSVRC2015_train_0000000{n}": k for n, k in (("0-0", 2), ("0-1", 1), ("2-7", 3))}
    assert len(pickle.dumps(parts[0])) < 2000  # what a worker is sent: where the part is, not its annotation


def test_prepare_takes_no_folder_that_holds_something_else(tmp_path):
    data, folder = squares(2), tmp_path / "c"
    cut_crops(data, folder, wanted={"dataset": "toy"})
    whole = content(folder)
    cut_crops(data, folder, wanted={"dataset": "toy"})
    with pytest.raises(ValueError, match="holds crops of quality 0 where 90 is asked for; choose another folder"):
        cut_crops(data, folder, quality=90, wanted={"dataset": "toy"})
    with pytest.raises(ValueError, match="holds crops of dataset 'toy' where 'other' is asked for"):
        cut_crops(data, folder, wanted={"dataset": "other"})
    with pytest.raises(ValueError, match="holds crops of videos None where 1 is asked for"):
        cut_crops(data, folder, wanted={"dataset": "toy", "videos": 1})
    assert content(folder) == whole
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/00009.csv").write_text("my own")
    with pytest.raises(ValueError, match=r"holds 00009.csv ..., which `data prepare` did not make"):
        cut_crops(data, tmp_path / "mine", wanted={"dataset": "toy"})
    assert (tmp_path / "mine/00009.csv").read_text() == "my own"


def test_a_crop_that_is_no_jpeg_is_named_with_its_shard(tmp_path):
    store = cut_crops(squares(2), tmp_path, quality=90)
    data = bytearray((tmp_path / "00000.bin").read_bytes())
    data[:40] = bytes(40)
    (tmp_path / "00000.bin").write_bytes(data)
    with pytest.raises(ValueError, match=r"00000.bin: damaged; run `data prepare` again"):
        store.crops[0]
