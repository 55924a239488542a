"""The scripts for queues in the documentation, run as they are written, with stand-ins for the queue's commands."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml

from finegrid.cli.app import app
from finegrid.data import coarsen, open_fields, synthetic
from finegrid.downscalers import method

pytest.importorskip("distributed")

PAGE = (Path(__file__).parents[1] / "docs" / "large.md").read_text(encoding="utf-8")
# As many copies as tasks are asked for, beside each other; a cancelled job is a process group that is asked to end.
SRUN = """#!/bin/bash
copies=1
while [[ $1 == --* ]]; do case $1 in --ntasks=*) copies=${1#*=};; esac; shift; done
for number in $(seq "$copies"); do "$@" & done
wait
"""
SCANCEL = "#!/bin/bash\nkill -TERM 0\n"


def block(language: str, holding: str) -> str:
    """The one fenced block of the page that holds some words."""
    (found,) = (each for each in re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL) if holding in each)
    return found


def submitted(folder: Path, script: str, number: int) -> str:
    """What a job prints before it is cancelled."""
    search = [str(folder), str(Path(sys.executable).parent), os.environ["PATH"]]
    given = {"SLURM_SUBMIT_DIR": str(folder), "SLURM_JOB_ID": str(number), "PATH": os.pathsep.join(search)}
    job = subprocess.Popen(
        ["bash", "-c", script],
        cwd=folder,
        env={**os.environ, **given, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    return job.communicate(timeout=120)[0]


@pytest.mark.long
def test_the_script_for_slurm_downscales_and_may_be_submitted_again(tmp_path: Path) -> None:
    fine = synthetic.generate(synthetic.REGIONS["maritime"], shape=(8, 12), times=60)[["pr"]]
    (tmp_path / "era").mkdir()
    coarsen(fine, 4).to_netcdf(tmp_path / "era" / "coarse.nc", engine="netcdf4")
    method("analogues+multiplicative").fit(coarsen(fine, 4), fine).save(tmp_path / "model")
    for name, text in (("srun", SRUN), ("scancel", SCANCEL)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    script = block("bash", "#SBATCH --ntasks=34").replace("32", "2").replace("--members 50", "--members 2")
    told = submitted(tmp_path, script, 1)
    assert (tmp_path / "fine.zarr").exists(), told
    made = (tmp_path / "fine.zarr").stat().st_mtime_ns
    assert open_fields(tmp_path / "fine.zarr").sizes["member"] == 2
    told = submitted(tmp_path, script, 2)
    assert "fine.zarr" in told and (tmp_path / "fine.zarr").stat().st_mtime_ns == made, told


def test_the_pods_for_kubernetes_find_each_other_and_give_commands_that_exist() -> None:
    cluster, job = yaml.safe_load_all(block("yaml", "kind: DaskCluster"))
    name, scheduler = cluster["metadata"]["name"], cluster["spec"]["scheduler"]
    (container,) = job["spec"]["template"]["spec"]["containers"]
    program, verb, *words = container["args"]
    assert program == "finegrid"
    asked = typer.main.get_command(app).commands[verb].make_context(verb, list(words)).params
    assert asked["scheduler"] == f"tcp://{name}-scheduler:8786" and asked["resume"]
    assert asked["workers"] == cluster["spec"]["worker"]["replicas"]
    (serving,) = scheduler["spec"]["containers"]
    ports = {each["name"]: each["containerPort"] for each in serving["ports"]}
    assert {each["targetPort"]: each["port"] for each in scheduler["service"]["ports"]} == ports
    assert scheduler["service"]["selector"]["dask.org/cluster-name"] == name
    pods = cluster["spec"]["worker"]["spec"], job["spec"]["template"]["spec"]
    assert pods[0]["volumes"] == pods[1]["volumes"]
    assert pods[0]["containers"][0]["volumeMounts"] == pods[1]["containers"][0]["volumeMounts"]
    assert pods[0]["containers"][0]["image"] == container["image"] == serving["image"]
