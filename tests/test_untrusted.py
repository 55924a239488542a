"""What others may have made to do harm: addresses, names that lead elsewhere, bombs, lies, documents without end."""

from __future__ import annotations

import bz2
import contextlib
import gc
import gzip
import json
import os
import pickle
import struct
import subprocess
import sys
import warnings
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import netCDF4
import numcodecs
import numpy as np
import pytest
import xarray as xr
import yaml
import zarr

from finegrid.benchmark.fuzzed import READERS
from finegrid.benchmark.fuzzing import Spoilt, tried
from finegrid.benchmark.leaderboard import Leaderboard
from finegrid.benchmark.mutations import mutated, of_meaning
from finegrid.conventions import InputError
from finegrid.conventions.credentials import without_credentials
from finegrid.conventions.documents import DEEPEST, json_of, read_json, understood
from finegrid.conventions.errors import provenance
from finegrid.conventions.netcdf import LOCK, check_heaps
from finegrid.conventions.paths import local_path, within
from finegrid.data import open_fields, write
from finegrid.data.bounds import LIMIT_VARIABLE, largest_chunk
from finegrid.data.compressed import Swollen, check_swelling
from finegrid.data.damage import readable
from finegrid.data.hdf5 import check_variables
from finegrid.data.layouts import open_layout
from finegrid.downscalers import load
from finegrid.grids import storage
from finegrid.pipeline.history import history_of
from finegrid.pipeline.recipe import Recipe

MB = 1 << 20


def fields(size: int = 4, times: int = 3) -> xr.Dataset:
    time = np.datetime64("2001-01-01", "ns") + np.arange(times) * np.timedelta64(1, "D")
    places = {"lat": 40.0 + np.arange(size), "lon": 5.0 + np.arange(size)}
    return xr.Dataset({"tas": (("time", "lat", "lon"), np.full((times, size, size), 280.0))}, {"time": time, **places})


def refusal(path: object, **options: object) -> str:
    with pytest.raises(InputError) as caught, readable(path):
        open_fields(path, **options).load()
    return str(caught.value)


@pytest.mark.parametrize(
    "address",
    [
        "https://example.org/a.nc",
        "s3://bucket/a.zarr",
        "gs://b/a",
        "file://../../etc/passwd",
        "ftp://h/a.nc",
        "javascript:alert(1)",
        "http:/example.org/a.nc",
        " HTTPS://example.org/a.nc",
    ],
)
def test_an_address_is_refused_in_words(address):
    for read in (open_fields, Recipe.read, open_layout, load, Leaderboard.read):
        with pytest.raises(InputError, match="opens no addresses"):
            read(address)


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("https://me:pass@word@host.org/a.nc", "https://***@host.org/a.nc"),
        ("https:/me:pw@host/a.nc", "https:/***@host/a.nc"),
        ("s3://b/a?X-Amz-Signature=abc&X-Amz-Date=1", "s3://b/a?X-Amz-Signature=***&X-Amz-Date=1"),
        ("https://h/a?sv=1&sig=a%2Bb%3D#x", "https://h/a?sv=1&sig=***#x"),
        ("https://h/a?TOKEN=abc;access_key=d e", "https://h/a?TOKEN=***;access_key=*** e"),
        ("https://h/a?X-Amz-Credential=AK/2001&X-Amz-Security-Token=q'", None),
        ("me@host.org wrote a = b; see /data/x@y/a.nc and https://h/~x@y", "same"),
        ("sigma=3, design?sigma=4, C:/Users/me@home/a.nc", "same"),
    ],
)
def test_passwords_and_tokens_of_addresses_are_never_told(text, clean):
    masked = without_credentials(text)
    if clean is None:
        assert masked == "https://h/a?X-Amz-Credential=***&X-Amz-Security-Token=***'"
    else:
        assert masked == (text if clean == "same" else clean)
    assert without_credentials(masked) == masked
    assert str(InputError(text)) == masked


def test_the_origin_of_fields_is_told_and_written_without_passwords(tmp_path, monkeypatch):
    address = "https://me:geheim@host.org/a.nc?sig=geheim"
    given = fields()
    given.encoding["source"] = address
    given.attrs |= {"history": f"cp {address} x", "source": address, "number": 3}
    assert provenance(given) == "https://***@host.org/a.nc?sig=***"
    monkeypatch.setattr(sys, "argv", ["finegrid", "downscale", address])
    assert "geheim" not in history_of(given, None)
    written = open_fields(write(given, tmp_path / "a.nc"))
    assert "geheim" not in str(written.attrs) and written.attrs["number"] == 3
    assert "geheim" not in refusal(address)


@pytest.mark.parametrize(
    "name", ["a\0b.nc", "x" * 300 + ".nc", "/".join(["d" * 200] * 30), "~nobody-here/a.nc", "\ud800"]
)
def test_names_that_no_file_can_have_are_refused_in_words(name):
    refusal(name)
    for read in (Recipe.read, load, open_layout):
        with pytest.raises(InputError):
            read(name)
    assert local_path("data:2001.nc") == Path("data:2001.nc") and local_path("C:/a.nc") == Path("C:/a.nc")


@pytest.mark.parametrize("name", ["../a", "/etc/passwd", "x/../../a", "..\\a", "C:\\a", "", "a\0b"])
def test_a_name_in_our_folder_does_not_lead_out_of_it(tmp_path, name):
    with pytest.raises(InputError, match="not in it"):
        within(tmp_path, name)
    assert within(tmp_path, "a/b.json") == tmp_path / "a/b.json"


def test_a_link_out_of_our_folder_is_refused_and_one_within_is_not(tmp_path):
    (tmp_path / "secret.json").write_text("{}")
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.json").symlink_to(tmp_path / "secret.json")
    with pytest.raises(InputError, match="is a link to"):
        load(folder)
    (folder / "inner.json").write_text("{}")
    (folder / "other.json").symlink_to("inner.json")
    assert within(folder, "other.json").read_text() == "{}"


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.nc")
    assert "a device or a pipe" in refusal(tmp_path / "a.nc")


def archive(path: Path, *names: str, content: bytes = b"x", attributes: int = 0) -> Path:
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        warnings.simplefilter("ignore")  # names that are there twice
        for name in names:
            entry = zipfile.ZipInfo(name)
            entry.external_attr = attributes
            made.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return path


@pytest.mark.parametrize(
    ("names", "attributes", "words"),
    [
        (("zarr.json", "../evil"), 0, "leads out"),
        (("/etc/passwd",), 0, "leads out"),
        (("C:\\evil",), 0, "leads out"),
        (("tas/c/0", "tas/c/0"), 0, "there twice"),
        (("zarr.json",), 0o120777 << 16, "symbolic link"),
    ],
)
def test_a_zip_with_odd_entries_is_refused(tmp_path, names, attributes, words):
    assert words in refusal(archive(tmp_path / "a.zip", *names, attributes=attributes))


def test_an_encrypted_zip_and_a_zip_bomb_are_refused(tmp_path):
    content = bytearray(archive(tmp_path / "a.zip", "zarr.json").read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "a.zip").write_bytes(content)
    assert "which is encrypted" in refusal(tmp_path / "a.zip")
    assert "would become" in refusal(archive(tmp_path / "b.zip", "a", "b", content=bytes(60 * MB)))


def test_an_ordinary_zarr_zip_is_read_without_warnings(tmp_path):
    store = zarr.storage.ZipStore(tmp_path / "a.zip", mode="w")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zarr writes descriptions twice
        fields().to_zarr(store, consolidated=False)
    store.close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_fields(tmp_path / "a.zip").tas.load().equals(fields().tas)


ENCODERS = {
    "gzip": lambda content: gzip.compress(content, 1),
    "zlib": numcodecs.Zlib(1).encode,
    "zstd": numcodecs.Zstd().encode,
    "blosc": numcodecs.Blosc().encode,
    "lz4": numcodecs.LZ4().encode,
    "bz2": lambda content: bz2.compress(content, 1),
    "lzma": numcodecs.LZMA(preset=0).encode,
}


@pytest.mark.parametrize("codec", ENCODERS)
def test_what_a_compressed_piece_becomes_is_known_before_it_is_unpacked(codec):
    content = np.random.default_rng(0).integers(0, 256, 5 * MB // 4, dtype=np.uint8).tobytes()
    stored = memoryview(ENCODERS[codec](content))
    check_swelling(stored, codec, len(content))
    with pytest.raises(Swollen):
        check_swelling(stored, codec, len(content) - 1)
    for end in range(30):  # damaged heads are left to the codec, if it looks where a piece ends
        if codec == "blosc":
            with pytest.raises(ValueError, match="bytes is cut off"):
                check_swelling(stored[:end], codec, 1 << 62)
        else:
            check_swelling(stored[:end], codec, 1 << 62)


def test_a_frame_of_zstandard_that_does_not_state_its_size_is_counted_by_its_blocks():
    # A frame without content size (RFC 8878): window descriptor, then blocks of one byte repeated 128 kB times.
    block = (2 | (128 << 10) << 3).to_bytes(3, "little") + b"\0"
    frame = b"\x28\xb5\x2f\xfd\x00\x58" + 100 * block + b"\x01\0\0"
    check_swelling(memoryview(frame), "zstd", 100 * (128 << 10))
    with pytest.raises(Swollen):
        check_swelling(memoryview(frame), "zstd", 99 * (128 << 10))


@pytest.mark.parametrize(("version", "options"), [(2, {}), (3, {}), (3, {"shards": (140 * MB,)})])
def test_a_chunk_that_becomes_larger_than_its_description_says_is_not_unpacked(tmp_path, version, options):
    group = zarr.create_group(str(tmp_path / "a.zarr"), zarr_format=version)
    named = {"dimension_names": ("x",)} if version == 3 else {}
    array = group.create_array("v", shape=(140 * MB,), chunks=(70 * MB,), dtype="u1", fill_value=1, **options, **named)
    if version == 2:
        array.attrs["_ARRAY_DIMENSIONS"] = ["x"]
    array[: 71 * MB] = 0
    for path in (tmp_path / "a.zarr").rglob("*"):
        if path.name in (".zarray", "zarr.json"):
            path.write_text(path.read_text().replace(str(140 * MB), "2000").replace(str(70 * MB), "1000"))
    with pytest.raises(InputError, match=r"a\.zarr is damaged or made to fill the memory: in v/.*becomes more than"):
        open_fields(tmp_path / "a.zarr").load()
    with pytest.raises(InputError, match="becomes more than"):
        open_fields(tmp_path / "a.zarr").v[:10].load()


@pytest.mark.parametrize(("version", "options"), [(2, {}), (3, {}), (3, {"shards": (4, 4, 4)})])
def test_zarr_of_every_kind_is_read_as_before(tmp_path, version, options):
    given = fields(size=8, times=5)
    encoding = {"tas": {"chunks": (2, 2, 2), **options}}
    given.to_zarr(tmp_path / "a.zarr", zarr_format=version, consolidated=version == 2, encoding=encoding)
    assert open_fields(tmp_path / "a.zarr").tas.load().equals(given.tas)
    assert open_fields(tmp_path / "a.zarr").tas[1:3, 2:5].load().equals(given.tas[1:3, 2:5])


def test_a_chunk_beyond_the_limit_is_refused_with_its_shape_and_a_remedy(tmp_path, monkeypatch):
    given = fields(size=64)
    given.to_zarr(tmp_path / "a.zarr", encoding={"tas": {"chunks": (3, 64, 64)}}, consolidated=False)
    given.to_netcdf(tmp_path / "a.nc", encoding={"tas": {"chunksizes": (3, 64, 64), "zlib": True}})
    assert largest_chunk() == 2 << 30
    monkeypatch.setenv(LIMIT_VARIABLE, "64 kiB")
    for name, remedy in (("a.zarr", "chunk("), ("a.nc", "nccopy -c")):
        text = refusal(tmp_path / name)
        assert "'tas'" in text and "3 x 64 x 64" in text and remedy in text and LIMIT_VARIABLE in text
    monkeypatch.setenv(LIMIT_VARIABLE, "98304")
    assert open_fields(tmp_path / "a.zarr").tas.load().equals(given.tas)
    monkeypatch.setenv(LIMIT_VARIABLE, "much")
    assert "expected a size such as '4 GiB'" in refusal(tmp_path / "a.nc")


def test_an_axis_of_a_trillion_values_is_refused_before_room_is_made_for_it(tmp_path):
    fields().to_zarr(tmp_path / "a.zarr", consolidated=False, zarr_format=3)
    path = tmp_path / "a.zarr" / "lat" / "zarr.json"
    described = json.loads(path.read_text())
    described["shape"] = [10**12]
    path.write_text(json.dumps(described))
    assert "axis 'lat' has 1000000000000 values" in refusal(tmp_path / "a.zarr")
    with netCDF4.Dataset(tmp_path / "a.nc", "w") as file:
        file.createDimension("x", 10**12)
        file.createVariable("x", "f8", ("x",), chunksizes=(1000,), zlib=True)
    assert "axis 'x' has" in refusal(tmp_path / "a.nc")


def test_a_geotiff_with_one_block_for_all_and_a_constant_grib_field_are_measured(tmp_path, monkeypatch):
    pytest.importorskip("rioxarray")
    pytest.importorskip("cfgrib")
    import eccodes

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # rioxarray multiplies affine transforms the old way
        fields(64).tas[0].rename(lat="y", lon="x").rio.to_raster(tmp_path / "a.tif", blockysize=64)
    message = eccodes.codes_grib_new_from_samples("regular_ll_sfc_grib2")
    for key, value in {"Ni": 360, "Nj": 181, "bitsPerValue": 0}.items():
        eccodes.codes_set(message, key, value)
    eccodes.codes_set_values(message, np.full(360 * 181, 280.0))
    with (tmp_path / "a.grib").open("wb") as file:
        eccodes.codes_write(message, file)
    assert (tmp_path / "a.grib").stat().st_size < 1000
    monkeypatch.setenv(LIMIT_VARIABLE, "5 kB")
    assert "band 1" in refusal(tmp_path / "a.tif") and "gdal_translate" in refusal(tmp_path / "a.tif")
    assert "65160 values" in refusal(tmp_path / "a.grib")


@pytest.mark.parametrize("form", ["NETCDF3_CLASSIC", "NETCDF3_64BIT", "NETCDF3_64BIT_DATA"])
def test_a_classic_header_is_compared_with_the_file(tmp_path, form):
    path = tmp_path / "a.nc"
    with netCDF4.Dataset(path, "w", format=form) as file:
        file.title = "x" * 13
        file.createDimension("time", None)
        file.createDimension("x", 7)
        for name, kind, dims in (("a", "f4", ("time", "x")), ("b", "i2", ("time",)), ("c", "S1", ("x",))):
            file.createVariable(name, kind, dims)[:] = np.ones((5, 7)[: len(dims)] if dims[0] == "time" else 7)
    whole = path.read_bytes()
    assert open_fields(path).sizes == {"time": 5, "x": 7}
    path.write_bytes(whole[:-8])
    assert "a.nc is truncated" in refusal(path)
    for start in range(4, 200, 3):  # counts and lengths beyond all reason
        path.write_bytes(whole[:start] + b"\x7f\xff\xff\xff" + whole[start + 4 :])
        try:
            open_fields(path)
        except InputError as error:
            assert "a.nc" in str(error)


def test_documents_without_end_are_refused(tmp_path):
    assert json_of("[" * DEEPEST + "]" * DEEPEST)
    for text in (
        "[" * (DEEPEST + 1) + "]" * (DEEPEST + 1),
        "[" * 100_000 + "]" * 100_000,
        '{"a":' * 5000 + "1" + "}" * 5000,
    ):
        with pytest.raises(ValueError, match="nested more than 64 times"):
            json_of(text)
    (tmp_path / "a.json").write_text("[1, 2, 3]")
    assert read_json(tmp_path / "a.json", most=9) == [1, 2, 3]
    with pytest.raises(ValueError, match="more than 8 bytes"):
        read_json(tmp_path / "a.json", most=8)
    words = r"a.json is not as finegrid writes it \(KeyError: 'b'\)"
    with pytest.raises(InputError, match=words), understood("a.json", ""):
        raise KeyError("b")


LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
MERGES = "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 12))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (LAUGHS, "aliases stand for more than"),
        (MERGES, "aliases stand for more than"),
        ("a: &a [*a]", "stands for what it is in"),
        ("[" * 40 + "]" * 40, "nested more than"),
        ("{a: " * 3000, "nested more than"),
        ("data: {coarse: a.nc, fine: b.nc}\ndata: {coarse: c.nc, fine: d.nc}", "the key 'data' is there twice"),
        ("data: {coarse: a.nc, fine: b.nc, fine: c.nc}", "the key 'fine' is there twice"),
        ("data: !!python/object/apply:os.system [ls]", "not YAML"),
        ("a: 2001-99-99", "not YAML"),
        ("a: 0b_", "not YAML"),
        ("x" * 1_000_001, "more than 1,000,000 bytes"),
    ],
)
def test_a_recipe_that_would_never_end_or_says_two_things_is_refused(tmp_path, text, words):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(InputError, match=words):
        Recipe.read(tmp_path / "a.yaml")


def test_a_recipe_may_use_a_name_for_a_part(tmp_path):
    text = "data: {coarse: &files [a.nc, b.nc], fine: *files}\nadjust: &way {name: qdm}\n"
    (tmp_path / "a.yaml").write_text(text)
    read = Recipe.read(tmp_path / "a.yaml")
    assert read.data.fine == read.data.coarse == ("a.nc", "b.nc") and yaml.safe_load(text)["adjust"] == read.adjust


def test_damage_of_meaning_is_the_same_again_and_changes_something():
    text = json.dumps({"a": [1, 2, {"b": None}], "c": "d"}).encode()
    made = [of_meaning(text, "a.json", np.random.default_rng(number)) for number in range(60)]
    assert made == [of_meaning(text, "a.json", np.random.default_rng(number)) for number in range(60)]
    assert len(set(made)) > 50 and text not in made
    assert of_meaning(b"CDF", "a.nc", np.random.default_rng(0)) is None
    assert mutated(b"{", "a.json", np.random.default_rng(0)) is not None


CHEAP = ("recipe", "training-log", "leaderboard", "cost", "card", "unfinished-job", "checkpoint", "calibration", "zarr")
SEALED = ("model-sealed", "calibration-sealed", "weather2k-tables", "constrained-npy", "netcdf-classic", "torch-tensor")


@pytest.mark.parametrize("name", CHEAP + SEALED)
@pytest.mark.filterwarnings("ignore")
def test_damaged_input_is_read_or_refused_in_words(tmp_path, name):
    reader, spoilt = READERS[name], Spoilt.of(READERS[name], tmp_path)
    truth = reader.read(spoilt.good) if reader.checked else None
    for number in range(1_000_000, 1_000_030):
        verdict, words = tried(reader, spoilt, np.random.default_rng(number), truth)
        assert verdict in ("read", "refused"), f"{number}: {words}"


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("scores.json", {"scores": 3}),
        ("scores.json", {"notes": None}),
        ("model.json", {"options": 3}),
        ("model.json", {"state": {"domain": {}}}),
        ("model.json", {"downscaler": ["ridge"]}),
        ("model.json", {"format": "1"}),
        ("model.json", {"versions": 3}),
    ],
)
def test_a_model_folder_with_right_checksums_and_wrong_values_is_refused(tmp_path, file, change):
    card, sealed = READERS["card"], READERS["model-sealed"]
    folder = card.make(tmp_path / "model")
    values = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({**values, **change}))
    if file == "model.json":
        sealed.seal(folder)
    with pytest.raises(InputError, match=file.replace(".", r"\.") if "scores" in file else "finegrid"):
        card.read(folder)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("options", "networks"), 10**30),
        (("options", "backbone", "depth"), 2**31),
        (("options", "head"), {"name": "latent", "inner": {"name": "diffusion", "steps": 2**63 - 1}}),
        (("state", "conservation", "statistics"), 3),
        (("state", "conservation", "statistics", "scale"), [1.0, 2.0]),
    ],
)
def test_a_network_of_a_size_that_its_weights_do_not_have_is_not_built(tmp_path, place, value):
    network = READERS["network-sealed"]
    folder = network.make(tmp_path / "model")
    values = json.loads((folder / "model.json").read_text())
    within_it = values
    for name in place[:-1]:
        within_it = within_it[name]
    within_it[place[-1]] = value
    (folder / "model.json").write_text(json.dumps(values))
    network.seal(folder)
    with pytest.raises(InputError, match="expected what it wrote, unchanged"):
        network.read(folder)


def heap_of(path: Path) -> int:
    """Where the texts and links of a NetCDF-4 file begin."""
    xr.Dataset({"a": ("x", np.zeros(3))}, {"x": [1.0, 2.0, 3.0]}).to_netcdf(path, engine="netcdf4")
    return path.read_bytes().index(b"GCOL\x01")


def spoilt_heap(path: Path, *, number: int | None, size: int) -> None:
    """Give the first object, or the room that is left behind the last one, that size."""
    start, values = heap_of(path), bytearray(path.read_bytes())
    at = start + 16
    while number is None and struct.unpack_from("<H", values, at)[0]:
        at += 16 + (struct.unpack_from("<Q", values, at + 8)[0] + 7) // 8 * 8
    struct.pack_into("<Q", values, at + 8, size)
    path.write_bytes(values)


@pytest.mark.parametrize(
    ("number", "size"), [(None, 0), (None, 8), (1, (1 << 64) - 16)], ids=["no room", "too little", "around"]
)
def test_texts_without_end_are_refused_before_the_library_looks_for_it(tmp_path, number, size):
    path = tmp_path / "a.nc"
    spoilt_heap(path, number=number, size=size)
    with pytest.raises(InputError, match="texts have no end"):
        open_fields(path)
    with pytest.raises(InputError, match="texts have no end"):
        storage.read(path, fields(), fields())


def test_heaps_of_good_files_and_words_like_them_are_passed_over(tmp_path):
    heap_of(tmp_path / "a.nc")
    check_heaps(tmp_path / "a.nc")
    many = xr.Dataset({"name": ("x", np.array([f"station {'o' * (i % 50)}" for i in range(5000)], dtype=object))})
    many.to_netcdf(tmp_path / "b.nc")
    check_heaps(tmp_path / "b.nc")
    for left in (0, 3, 11):
        (tmp_path / "c.nc").write_bytes(b"GCOL\x01" + bytes(left))
        check_heaps(tmp_path / "c.nc")


def test_nothing_of_a_file_is_left_to_the_garbage_collector(tmp_path):
    # Of one that failed half way it would close the rest in any thread, beside whoever reads another file.
    def alive() -> list[netCDF4.Dataset]:
        return [each for each in gc.get_objects() if type(each) is netCDF4.Dataset]

    start = heap_of(tmp_path / "a.nc")
    whole = (tmp_path / "a.nc").read_bytes()
    gc.collect()
    before = alive()  # of other tests: open files that are kept at hand
    gc.disable()
    try:
        for place in range(start + 16, start + 200, 4):
            (tmp_path / "b.nc").write_bytes(whole[:place] + b"\x80" + whole[place + 1 :])
            with contextlib.suppress(InputError):
                check_variables(tmp_path / "b.nc")
            (tmp_path / "b.nc").unlink()
        assert all(any(each is other for other in before) for each in alive())
    finally:
        gc.enable()


def test_files_are_opened_by_many_threads_at_once(tmp_path):
    # A library that is not safe in threads takes the process with it, so that this has one of its own.
    for number in range(4):
        fields(times=5).to_netcdf(tmp_path / f"{number}.nc")
    code = (
        "import sys; from concurrent.futures import ThreadPoolExecutor; from finegrid.data import open_fields\n"
        "def read(path): return float(open_fields(path).tas.mean())\n"
        "print(set(ThreadPoolExecutor(8).map(read, sys.argv[1:] * 100)))"
    )
    paths = [str(tmp_path / f"{number}.nc") for number in range(4)]
    done = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "{280.0}", done.stderr[-2000:]


def test_the_lock_of_the_library_may_be_taken_again_by_its_thread_alone():
    def free() -> bool:
        taken = LOCK.acquire(blocking=False)
        if taken:
            LOCK.release()
        return taken

    with ThreadPoolExecutor(1) as other:
        with LOCK:
            with LOCK:
                assert free() and not other.submit(free).result()
            assert not other.submit(free).result()
        assert other.submit(free).result()
    assert pickle.loads(pickle.dumps(LOCK)) is LOCK  # noqa: S301
